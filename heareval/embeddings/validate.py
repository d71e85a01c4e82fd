"""A submission checked before it costs a day: the checks run in its interpreter, results are told here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.advice import ADVICE
from heareval.embeddings.submission import Model, short_name
from heareval.errors import HearevalError

CHECKS = Path(__file__).with_name("checks")


@dataclass(frozen=True)
class Limits:
    """What is asked of a submission.

    Args:
        long_s: the longest audio that is tried, in seconds.
        long_budget_s: longer audio is not tried if it would take more than this.
        check_s: a check that takes longer has failed.
        memory_bytes: of the GPU, or else of the process.
        speed: seconds of audio a second, below which a warning is due.
    """

    long_s: float = 1200.0
    long_budget_s: float = 120.0
    check_s: float = 600.0
    memory_bytes: float = 16e9
    speed: float = 5.0


@dataclass(frozen=True)
class Finding:
    """What one check found: its result is `ok`, `warning`, `failed` or `not run`."""

    check: str
    result: str
    measured: str
    seconds: float = 0.0


def validated(
    model: Model,
    folder: Path,
    *,
    limits: Limits | None = None,
    tell: Callable[[Finding], None] = lambda finding: None,
) -> tuple[list[Finding], dict[str, str]]:
    """What every check found, and what it ran on: versions, framework and device.

    Args:
        folder: for job files and logs.
        tell: gets each finding as soon as it is known.
    """
    job = asdict(limits or Limits())
    findings: dict[str, Finding] = {}
    ran_on: dict[str, str] = {}

    def add(finding: Finding) -> None:
        findings[finding.check] = finding
        tell(finding)

    while len(findings) < len(ADVICE):
        begun: list[str] = []
        # A check that ends the process loses only itself: the others go on in a new one.
        try:
            ran_on = _run(model, job, folder / f"{short_name(model.module)}.log", findings, begun, add)
            break
        except HearevalError as error:
            lost = begun[-1] if begun else "functions"
            if lost in findings:
                break
            add(Finding(lost, "failed", f"ended the process: {error.got}"))
    return list(findings.values()), ran_on


def _run(
    model: Model,
    job: dict[str, Any],
    log: Path,
    findings: dict[str, Finding],
    begun: list[str],
    add: Callable[[Finding], None],
) -> dict[str, str]:
    """Run the checks that are not known yet in one process; returns the versions it ran on."""

    def heard(message: dict[str, Any]) -> None:
        if "begin" in message:
            begun.append(message["begin"])
        else:
            add(Finding(**message["finding"]))

    known = {name: finding.result for name, finding in findings.items()}
    job, seconds = {**job, "known": known}, job["check_s"]
    return model.run(CHECKS, job, log, lambda done, total: None, tell=heard, silence_s=seconds)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether all checks were done or had no reason to be, and none failed."""
    return len(findings) == len(ADVICE) and all(finding.result != "failed" for finding in findings)


def head() -> str:
    """The first line of the table."""
    return _columns("check", "result", "measured")


def row(finding: Finding) -> str:
    """A line of the table."""
    return _columns(finding.check, finding.result, finding.measured)


def _columns(check: str, result: str, measured: str) -> str:
    width = max(map(len, ADVICE))
    return f"{check:<{width}}  {result:<7}  {measured}"


def explanations(findings: Sequence[Finding]) -> list[str]:
    """What the findings cost and how to mend them, then how many there are of each kind."""
    lines = [""]
    for finding in findings:
        if finding.result in ("failed", "warning"):
            advice = ADVICE[finding.check]
            lines += [f"{finding.check} ({finding.result}): {finding.measured}"]
            lines += [f"  costs: {advice.costs}", f"  mend:  {advice.mend}", ""]
    counts = {
        kind: sum(f.result == kind for f in findings) for kind in ("ok", "warning", "failed", "not run")
    }
    return [*lines, ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)]


def as_json_text(module: str, findings: Sequence[Finding], ran_on: dict[str, str]) -> str:
    """All of it as JSON."""
    checks = [{**asdict(finding), **asdict(ADVICE[finding.check])} for finding in findings]
    return files.dump_json(
        {"module": module, "passed": passed(findings), "ran_on": ran_on, "checks": checks}
    ).rstrip("\n")
