"""Checks a PyTorch submission: `python checks JOB.json` tells each result as soon as it is known.

This folder runs in the submission's environment and needs only the standard library, numpy and what the
submission brings. It writes one JSON object per line to stdout: {"begin": check}, then {"finding": {"check",
"result", "measured", "seconds"}}, at last {"result": versions}. A check that ends the process loses only
itself: whoever started it starts it again with what is known. Whatever the submission prints goes to stderr.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

# Our packages must not be found before those of the submission: away with our folder as soon as it is read.
sys.path[0] = str(Path(__file__).resolve().parents[3])
from heareval.embeddings.checks.lab import Lab  # noqa: E402
from heareval.embeddings.checks.table import run_checks  # noqa: E402

del sys.path[0]
# A submission may bring a package of that name.
for name in [name for name in sys.modules if name.partition(".")[0] == "heareval"]:
    del sys.modules[name]


def versions(lab: Lab) -> dict[str, str]:
    """What the checks ran on."""
    torch = sys.modules.get("torch")
    told = {"python": platform.python_version(), "numpy": np.__version__}
    if torch is not None:
        told["torch"] = str(torch.__version__)
        is_on_gpu = lab.device_kind == "cuda" and torch.cuda.is_available()
        told["device"] = torch.cuda.get_device_name() if is_on_gpu else "cpu"
    return told


def say(message: dict[str, Any]) -> None:
    """One line to the process that started this one."""
    CHANNEL.write(json.dumps(message) + "\n")
    CHANNEL.flush()


CHANNEL = sys.stdout


def main(job_file: str) -> int:
    """Do the job; returns the exit code."""
    global CHANNEL
    # Where the system can, this process ends with the one that started it.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    CHANNEL = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A child that a submission leaves behind must not keep the conversation open.
    os.register_at_fork(after_in_child=CHANNEL.close)
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    # The folder the user works in is where a submission may lie that is not installed.
    sys.path[:0] = [] if job["is_installed"] else [str(Path.cwd())]
    if os.getppid() != job.get("parent", os.getppid()):
        return 1  # the parent died before it could be asked to take this process along
    lab = Lab(job)
    run_checks(lab, job["known"], say)
    say({"result": versions(lab)})
    # A thread that a submission left behind must not keep this process.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
