"""What a run may use of its machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COUNT = "from heareval.workflow.requests import RunSettings; print(RunSettings().num_workers)"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to cores")
def test_a_run_has_a_worker_for_each_core_that_it_may_use() -> None:
    core = min(os.sched_getaffinity(0))
    pin = f"import os; os.sched_setaffinity(0, [{core}]); {COUNT}"
    assert subprocess.check_output([sys.executable, "-c", pin], text=True).strip() == "1"
    all_cores = subprocess.check_output([sys.executable, "-c", COUNT], text=True)
    assert 1 <= int(all_cores) <= len(os.sched_getaffinity(0))
