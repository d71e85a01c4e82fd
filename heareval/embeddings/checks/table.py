"""All checks, in the order in which they are done, and doing them."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heareval.embeddings.checks import api, limits, times, values
from heareval.embeddings.checks.lab import Found, Lab
from heareval.embeddings.worker import SubmissionError

# Check -> what does it, and the checks without which it would say nothing.
CHECKS: dict[str, tuple[Callable[[Lab], Found], tuple[str, ...]]] = {
    "functions": (api.check_functions, ()),
    "weights": (api.check_weights, ("functions",)),
    "model": (api.check_model, ("weights",)),
    "attributes": (api.check_attributes, ("model",)),
    "sample rate": (api.check_sample_rate, ("attributes",)),
    "types": (api.check_types, ("sample rate",)),
    "device": (api.check_device, ("types",)),
    "scene shape": (api.check_scene_shape, ("device",)),
    "timestamp shape": (api.check_timestamp_shape, ("scene shape",)),
    "finite": (limits.check_finite, ("timestamp shape",)),
    "silence": (limits.check_silence, ("finite",)),
    "clipping": (limits.check_clipping, ("finite",)),
    "short audio": (limits.check_short, ("finite",)),
    "determinism": (values.check_determinism, ("finite",)),
    "dimensions": (values.check_dimensions, ("determinism",)),
    "reload": (values.check_reload, ("determinism",)),
    "order": (values.check_order, ("determinism",)),
    "batch": (values.check_batch, ("order",)),
    "increasing": (times.check_increasing, ("finite",)),
    "milliseconds": (times.check_unit, ("increasing",)),
    "regular": (times.check_regular, ("increasing",)),
    "inside": (times.check_inside, ("milliseconds",)),
    "coverage": (times.check_coverage, ("inside", "regular")),
    "hop": (times.check_hop, ("milliseconds", "regular")),
    "centring": (times.check_centring, ("coverage", "determinism")),
    "long audio": (limits.check_long, ("finite",)),
    "drift": (times.check_drift, ("long audio", "coverage")),
    "memory": (limits.check_memory, ("long audio",)),
    "speed": (limits.check_speed, ("long audio",)),
}


def run_checks(lab: Lab, known: dict[str, str], say: Callable[[dict[str, Any]], None]) -> None:
    """Do the checks that are not known yet, and tell each as it begins and ends.

    Args:
        known: results of checks that were done before.
        say: gets the messages.
    """
    results = dict(known)
    for name in [name for name in CHECKS if name not in known]:
        say({"begin": name})
        check, needs = CHECKS[name]
        lacking = [need for need in needs if results.get(need) in ("failed", "not run")]
        began = time.perf_counter()
        found = Found("not run", f"needs {lacking[0]}") if lacking else answered(check, lab)
        results[name] = found.result
        seconds = round(time.perf_counter() - began, 3)
        facts = {"check": name, "result": found.result, "measured": found.measured, "seconds": seconds}
        say({"finding": facts})


def answered(check: Callable[[Lab], Found], lab: Lab) -> Found:
    """What a check found; an exception of the submission is a failure, its traceback goes to the log."""
    try:
        return check(lab)
    except SubmissionError as error:
        return Found("failed", "{what}: got {got}, expected {expected}".format(**error.facts))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = (str(error).strip().splitlines() or [""])[0]
        return Found(
            "failed", f"{type(error).__name__}: {told} (line {last.lineno} of {Path(last.filename).name})"
        )
