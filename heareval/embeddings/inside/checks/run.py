"""Run the checks of `heareval validate`."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import asdict
from typing import Any

import numpy as np

from heareval.embeddings.inside.channel import Send
from heareval.embeddings.inside.checks.memory import GPU_FUNCTIONS
from heareval.embeddings.inside.checks.reload import take_sample_elsewhere
from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject, fail_with
from heareval.embeddings.inside.checks.table import CHECKS, Check
from heareval.embeddings.inside.frameworks import FRAMEWORKS


def check(job: dict[str, Any], send: Send) -> dict[str, str]:
    """Run the checks that the job does not list as `known`, and return what they ran on.

    A check that ends the process loses only itself: the parent starts another one with what is known.
    """
    subject = Subject(job, take_sample_elsewhere)
    run_pending_checks(subject, job["known"], send)
    return describe_environment(subject)


def run_pending_checks(subject: Subject, known: dict[str, str], send: Send) -> None:
    """Run the checks whose results are not known yet.

    Args:
        subject: the submission.
        known: results of the checks that an earlier process ran.
        send: gets a message when a check begins and when it ends.
    """
    results = dict(known)
    for name in [name for name in CHECKS if name not in known]:
        send({"begin": name})
        began = time.perf_counter()
        hindrance = find_hindrance(name, results, subject)
        outcome = CheckOutcome("not run", hindrance) if hindrance else run_check(CHECKS[name], subject)
        results[name] = outcome.result
        seconds = round(time.perf_counter() - began, 3)
        send({"finding": {"check": name, "seconds": seconds, **asdict(outcome)}})


def find_hindrance(name: str, results: dict[str, str], subject: Subject) -> str:
    """Return why a check can't run, in words; "" if it can.

    Args:
        name: name of the check.
        results: results of the checks before it.
        subject: the submission.
    """
    # Whether embeddings are lacking is known once the model has been loaded.
    lacking = subject.lacking if results.get("embeddings") == "warning" else {}
    if CHECKS[name].embedding_type in lacking:
        return f"no embeddings for {CHECKS[name].embedding_type} tasks"
    for need in CHECKS[name].needs:
        if results.get(need) in ("failed", "not run") and CHECKS[need].embedding_type not in lacking:
            return f"needs {need}"
    return ""


def run_check(check: Check, subject: Subject) -> CheckOutcome:
    """Return the outcome of a check; an exception is a failure, and its traceback goes to the log."""
    try:
        return check.run(subject)
    except (Exception, SystemExit) as error:
        return fail_with(error, subject.job["module"])


def describe_environment(subject: Subject) -> dict[str, str]:
    """Return the versions of Python, numpy and loaded frameworks, and the model's framework and device."""
    facts = {"python": platform.python_version(), "numpy": np.__version__}
    loaded = [each.name for each in FRAMEWORKS if each.name in sys.modules]
    facts.update({name: str(sys.modules[name].__version__) for name in loaded})
    # Don't load a model now: it failed to load, or an earlier process ran all checks that need it.
    submission = vars(subject).get("submission")
    if submission:
        framework = submission.framework
        device = GPU_FUNCTIONS[framework.name].name(framework.lib) if framework.is_gpu else "cpu"
        facts.update({"framework": framework.name, "device": device})
    return facts
