"""What a run may use of its machine."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import pytest

from heareval.errors import HearevalError
from heareval.workflow.machine import Machine, check_train_threads, count_cores
from heareval.workflow.requests import RunSettings

COUNT = "from heareval.workflow.requests import RunSettings; print(RunSettings().num_workers)"


pins = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")


@pins
def test_a_run_has_a_worker_for_each_core_that_it_may_use() -> None:
    core = min(os.sched_getaffinity(0))
    pin = f"import os; os.sched_setaffinity(0, [{core}]); {COUNT}"
    assert subprocess.check_output([sys.executable, "-c", pin], text=True).strip() == "1"
    all_cores = subprocess.check_output([sys.executable, "-c", COUNT], text=True)
    assert 1 <= int(all_cores) <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train_threads": 0}, "train_threads of Machine: got 0, expected a whole number of at least 1"),
        ({"train_threads": -1}, "train_threads of Machine: got -1, expected a whole number of at least 1"),
        ({"train_threads": 1.5}, "train_threads of Machine: got 1.5, expected a whole number of at least 1"),
        ({"train_threads": "1"}, "train_threads of Machine: got '1', expected a whole number of at least 1"),
        (
            {"train_threads": True},
            "train_threads of Machine: got True, expected a whole number of at least 1",
        ),
        ({"timeout_s": 0}, "timeout_s of Machine: got 0, expected seconds, at least 1"),
        ({"timeout_s": math.inf}, "timeout_s of Machine: got inf, expected seconds, at least 1"),
        ({"timeout_s": "60"}, "timeout_s of Machine: got '60', expected seconds, at least 1"),
        ({"in_memory": 1}, "in_memory of Machine: got 1, expected True, False or None"),
        *(
            (
                {"gpus": gpus},
                f"gpus of Machine: got {gpus!r}, expected a tuple of numbers as text, "
                'such as ("0", "1"), or ("",) for the CPU',
            )
            for gpus in (1, "0", (0, 1), ["0"], ("0", ""), ("-1",), ("0", "0"), None)
        ),
    ],
    ids=str,
)
def test_a_machine_refuses_wrong_values(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(HearevalError) as caught:
        Machine(**changes)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        *(
            (
                {"num_workers": number},
                f"num_workers of RunSettings: got {number!r}, expected a whole number of at least 1",
            )
            for number in (0, -1, 1.5, "1", True)
        ),
        ({"scheduler_url": None}, "scheduler_url of RunSettings: got None, expected a text"),
        ({"machine": None}, "machine of RunSettings: got None, expected a Machine"),
        ({"scratch_dir": None}, "scratch_dir of RunSettings: got None, expected a path as text"),
        ({"notify": None}, "notify of RunSettings: got None, expected a function"),
        ({"is_quiet": 1}, "is_quiet of RunSettings: got 1, expected True or False"),
    ],
    ids=str,
)
def test_settings_of_a_run_refuse_wrong_values(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(HearevalError) as caught:
        RunSettings(**changes)
    assert str(caught.value) == line


@pins
def test_no_network_has_more_threads_than_cores() -> None:
    """On one core, only one number is right."""
    cores = count_cores()
    with pytest.raises(HearevalError, match=f"--train-threads {cores + 1}: got {cores} core"):
        check_train_threads(Machine(("",), train_threads=cores + 1))
    check_train_threads(Machine(("",), train_threads=cores))
    pin = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])"
    check = "from heareval.workflow.machine import *; check_train_threads(Machine(('',), train_threads=2))"
    done = subprocess.run(
        [sys.executable, "-c", f"{pin}; {check}"], capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith(
        "HearevalError: --train-threads 2: got 1 core that this process may use, expected 1\n"
    ), done.stderr
