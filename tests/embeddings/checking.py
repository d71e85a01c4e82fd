"""The checks of `heareval validate`, run in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil

from heareval.embeddings.checks.lab import Lab
from heareval.embeddings.checks.table import run_checks


def findings_of(folder: Path, source: str, model: str = "", **job: Any) -> dict[str, dict[str, Any]]:
    """What each check says about a submission with this source."""
    (folder / "in_the_zoo.py").write_text(source)
    sys.modules.pop("in_the_zoo", None)
    return run(module="in_the_zoo", model=model, **job)


def run(**job: Any) -> dict[str, dict[str, Any]]:
    """What each check says, with limits that take little time."""
    limits = {
        "long_s": 60.0,
        "long_budget_s": 60.0,
        "speed": 1.0,
        "options": {},
        "model": "",
        "device": "auto",
    }
    limits["memory_bytes"] = psutil.Process().memory_info().rss + 3e8
    messages: list[dict[str, Any]] = []
    run_checks(Lab({**limits, **job}), {}, messages.append)
    return {m["finding"]["check"]: m["finding"] for m in messages if "finding" in m}


def noticed(findings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The checks that found something, with their results."""
    results = {name: finding["result"] for name, finding in findings.items()}
    return {name: result for name, result in results.items() if result in ("warning", "failed")}
