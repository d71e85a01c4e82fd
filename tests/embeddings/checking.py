"""Run the checks of `heareval validate` in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil

from heareval.embeddings.inside.checks.reload import make_sample
from heareval.embeddings.inside.checks.run import run_pending_checks
from heareval.embeddings.inside.checks.subject import Sample, Subject


def findings_of(folder: Path, source: str, weights_path: str = "", **job: Any) -> dict[str, dict[str, Any]]:
    """Return the finding of each check for a submission with this source."""
    (folder / "in_the_zoo.py").write_text(source)
    sys.modules.pop("in_the_zoo", None)
    return run(module="in_the_zoo", weights_path=weights_path, **job)


def run(**job: Any) -> dict[str, dict[str, Any]]:
    """Return the finding of each check, with limits that take little time."""
    limits = {
        "long_s": 60.0,
        "long_budget_s": 60.0,
        "speed": 1.0,
        "options": {},
        "weights_path": "",
        "device": "auto",
    }
    limits["memory_bytes"] = psutil.Process().memory_info().rss + 3e8
    messages: list[dict[str, Any]] = []
    run_pending_checks(Subject({**limits, **job}, take_sample_here), {}, messages.append)
    return {m["finding"]["check"]: m["finding"] for m in messages if "finding" in m}


def take_sample_here(job: dict[str, Any]) -> Sample:
    """Load the model again, in this process: a new one takes seconds to start."""
    return make_sample(Subject(job, take_sample_here))


def noticed(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the checks that gave a warning or failed, with their results."""
    results = {name: finding["result"] for name, finding in findings.items()}
    return {name: result for name, result in results.items() if result in ("warning", "failed")}
