"""Checks a submission: `python checks JOB.json` tells each result as soon as it is known.

This folder runs in the submission's environment, beside worker.py, and needs only Python 3.8, numpy and what
the submission brings. It writes one JSON object per line to stdout: {"begin": check}, then {"finding":
{"check", "result", "measured", "seconds"}}, at last {"result": what it ran on}. A check that ends the process
loses only itself: whoever started it starts it again with what is known. Whatever the submission prints goes
to stderr.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

import numpy as np

# Our packages must not be found before those of the submission: away with our folder as soon as it is read.
sys.path[0] = str(Path(__file__).resolve().parents[3])
from heareval.embeddings.checks.lab import Lab  # noqa: E402
from heareval.embeddings.checks.limits import GPUS  # noqa: E402
from heareval.embeddings.checks.table import run_checks  # noqa: E402
from heareval.embeddings.worker import FRAMEWORKS, Framework, begin_conversation, say  # noqa: E402

del sys.path[0]
# A submission may bring a package of that name.
for name in [name for name in sys.modules if name.partition(".")[0] == "heareval"]:
    del sys.modules[name]


def ran_on(lab: Lab) -> dict[str, str]:
    """What the checks ran on: versions of what is loaded, and the framework and device of the model."""
    told = {"python": platform.python_version(), "numpy": np.__version__}
    loaded = [each.name for each in FRAMEWORKS if each.name in sys.modules]
    told.update({name: str(sys.modules[name].__version__) for name in loaded})
    # A model that could not be loaded, or that no check needed any more, has none.
    submission = vars(lab).get("submission")
    return {**told, **place(submission.framework)} if submission else told


def place(framework: Framework) -> dict[str, str]:
    """The framework, and the device that it is on."""
    device = GPUS[framework.name].name(framework.lib) if framework.is_gpu else "cpu"
    return {"framework": framework.name, "device": device}


def main(job_file: str) -> int:
    """Do the job; returns the exit code."""
    begin_conversation()
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    # The folder the user works in is where a submission may lie that is not installed.
    sys.path[:0] = [] if job["is_installed"] else [str(Path.cwd())]
    if os.getppid() != job.get("parent", os.getppid()):
        return 1  # the parent died before it could be asked to take this process along
    lab = Lab(job)
    run_checks(lab, job["known"], say)
    say({"result": ran_on(lab)})
    # A thread that a submission left behind must not keep this process.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
