"""Check a submission before a run: run the checks in its interpreter, and format what they find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.advice import ADVICE, find_advice
from heareval.embeddings.modules import list_package_sources
from heareval.embeddings.naming import name_module, shorten_name
from heareval.embeddings.submission import Model
from heareval.errors import HearevalError
from heareval.worker_process import KilledForMemoryError, SilentWorkerError

RESULTS = ("ok", "warning", "failed", "not run")
# How a process ended -> the cause that advice is given for.
ENDS = {KilledForMemoryError: "memory", SilentWorkerError: "silent"}


@dataclass(frozen=True)
class Limits:
    """The requirements on a submission.

    Args:
        long_s: the longest audio that is tried, in seconds.
        long_budget_s: longer audio is not tried if it is expected to take more than this.
        check_s: a check that takes longer than this has failed.
        memory_bytes: allowed peak memory, of the GPU or else of the process.
        speed: seconds of audio per second, below which there is a warning.
    """

    long_s: float = 1200.0
    long_budget_s: float = 120.0
    check_s: float = 600.0
    memory_bytes: float = 16e9
    speed: float = 5.0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        check: name of the check.
        result: one of RESULTS.
        measured: what was measured, in words.
        seconds: how long the check took.
        cause: what exactly is wrong, one of advice.CAUSES; "" if the check has only one kind of fault.
    """

    check: str
    result: str
    measured: str
    seconds: float = 0.0
    cause: str = ""

    @property
    def is_skipped(self) -> bool:
        """Whether the check was not run because another one failed."""
        return self.result == "not run" and self.measured.startswith("needs ")


def ignore_finding(finding: Finding) -> None:
    """Ignore a finding."""


def run_checks(
    model: Model,
    folder: Path,
    *,
    limits: Limits | None = None,
    on_finding: Callable[[Finding], None] = ignore_finding,
) -> tuple[list[Finding], dict[str, str]]:
    """Run all checks, and return what they found and what they ran on: versions, framework and device.

    Args:
        model: the model to check.
        folder: where job files and logs go.
        limits: the requirements; None = the default ones.
        on_finding: gets each finding as soon as it is known.

    Raises:
        HearevalError: there is no such module.
    """
    list_package_sources(model)
    job = {"do": "check", **asdict(limits or Limits())}
    findings: dict[str, Finding] = {}
    ran_on: dict[str, str] = {}

    def add(finding: Finding) -> None:
        findings[finding.check] = finding
        on_finding(finding)

    while len(findings) < len(ADVICE):
        begun: list[str] = []
        # A check that ends its process loses only itself: another process runs the remaining ones.
        try:
            ran_on = _run(
                model, job, folder / f"{shorten_name(name_module(model))}.log", findings, begun, add
            )
            break
        except HearevalError as error:
            lost = begun[-1] if begun else "functions"
            if lost in findings:
                break
            cause = ENDS.get(type(error), "ended")
            add(Finding(lost, "failed", f"ended the process: {error.got}", cause=cause))
    return list(findings.values()), ran_on


def _run(
    model: Model,
    job: dict[str, Any],
    log: Path,
    findings: dict[str, Finding],
    begun: list[str],
    add: Callable[[Finding], None],
) -> dict[str, str]:
    """Run the checks that have no finding yet in one process; return what they ran on."""

    def handle(message: dict[str, Any]) -> None:
        if "begin" in message:
            begun.append(message["begin"])
        else:
            add(Finding(**message["finding"]))

    job = {**job, "known": {name: finding.result for name, finding in findings.items()}}
    return model.run(job, log, on_message=handle, silence_s=job["check_s"])


def has_passed(findings: Sequence[Finding]) -> bool:
    """Return whether there is a finding for every check, and none has failed."""
    return len(findings) == len(ADVICE) and all(finding.result != "failed" for finding in findings)


def format_header() -> str:
    """Return the header of the table of findings."""
    return _format_columns("check", "result", "measured")


def format_skipped(findings: Sequence[Finding]) -> list[str]:
    """Return the rows of the table for the checks that were skipped: one row if they are many."""
    skipped = [finding for finding in findings if finding.is_skipped]
    if len(skipped) < 2:
        return list(map(format_row, skipped))
    # Some of them need others that were skipped as well.
    needs = [finding.measured.removeprefix("needs ") for finding in skipped]
    failed = [finding.check for finding in findings if finding.result == "failed" and finding.check in needs]
    measured = f"{len(skipped)} checks that need {' and '.join(failed)}"
    return [_format_columns("the others", "not run", measured)]


def format_row(finding: Finding) -> str:
    """Return a finding as a row of the table."""
    return _format_columns(finding.check, finding.result, finding.measured)


def _format_columns(check: str, result: str, measured: str) -> str:
    width = max(map(len, ADVICE))
    return f"{check:<{width}}  {result:<7}  {measured}"


def format_advice(findings: Sequence[Finding]) -> list[str]:
    """Return the end of the table: skipped checks, advice for faults, and the number of each result."""
    lines = [*format_skipped(findings), ""]
    for finding in findings:
        if finding.result in ("failed", "warning"):
            advice = find_advice(finding.check, finding.cause)
            lines += [f"{finding.check} ({finding.result}): {finding.measured}"]
            lines += [f"  effect: {advice.effect}", f"  fix:    {advice.fix}", ""]
    counts = {result: sum(finding.result == result for finding in findings) for result in RESULTS}
    total = ", ".join(f"{count} {result}" for result, count in counts.items() if count)
    return [*lines, f"{len(findings)} checks: {total}"]


def format_json(module: str, findings: Sequence[Finding], ran_on: dict[str, str]) -> str:
    """Return findings, advice and what the checks ran on as JSON."""
    checks = [{**asdict(each), **asdict(find_advice(each.check, each.cause))} for each in findings]
    report = {"module": module, "passed": has_passed(findings), "ran_on": ran_on, "checks": checks}
    return files.dump_json(report).rstrip("\n")
