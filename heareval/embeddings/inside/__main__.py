"""Run one job for a submission: `python heareval/embeddings/inside JOB.json`.

This package runs in the submission's environment. It needs Python 3.8 or later, numpy and what the submission
brings; nothing else of heareval has to be importable there. The job file is a JSON object whose `do` names
one of `ACTIONS`. Messages are JSON objects, which go through the pipe that the job names (channel.py):

* `describe` and `embed`: `{"done", "total"}` for progress; `embed` also reports each array (`{"array",
  "size"}`) and what happens to each batch (`{"begun"}`, then `{"fitted"}` or `{"too_large"}`);
* `check`: `{"begin": check}` and `{"finding": {...}}` for each check; one of them starts the job `sample`;
* all of them end with `{"result": {...}}` or `{"error": {"what", "got", "expected", "remedy"}}`.

Standard output and standard error are the log.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import json
import os
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "heareval.embeddings.inside"
# What a job can ask for -> the module and the function that do it. Only the module that is needed is
# imported: the versions of all loaded modules are part of a submission's fingerprint.
ACTIONS = {
    "describe": ("submission", "describe"),
    "embed": ("embed", "embed"),
    "measure": ("measure", "measure"),
    "check": ("checks.run", "check"),
    "sample": ("checks.reload", "write_sample"),
}


@contextlib.contextmanager
def importable_package() -> Iterator[None]:
    """Make this package importable, and afterwards remove every trace of it.

    The submission may bring a package named heareval, and modules named like ours. Nothing is added to
    sys.path: beside an installed heareval lie packages for another interpreter.
    """
    # Python has put the folder that it runs in front.
    del sys.path[0]
    for name, folder in (("heareval", HERE.parents[1]), ("heareval.embeddings", HERE.parent)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "heareval"]:
            del sys.modules[name]


class OwnPackage(importlib.abc.MetaPathFinder):
    """Finds the package heareval for submissions that use `heareval.wrap` or our adapters.

    The submission's environment need not have it. Nothing is added to sys.path.

    Args:
        comes_first: find our package even if the environment has one of that name.
    """

    def __init__(self, comes_first: bool) -> None:
        self.comes_first = comes_first

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        """Return the spec of heareval; that finds its modules."""
        if fullname != "heareval":
            return None
        if not self.comes_first:
            for finder in sys.meta_path:
                spec = None if finder is self else finder.find_spec(fullname, path, target)
                # A folder of that name in the working folder, such as a clone, is not the package.
                if spec and spec.origin:
                    return spec
        return importlib.machinery.PathFinder.find_spec(fullname, [str(HERE.parents[2])])


def run_job(job_file: str) -> int:
    """Run the job in a file and return the exit code."""
    with importable_package():
        channel = importlib.import_module(f"{PACKAGE}.channel")
        job = json.loads(Path(job_file).read_text(encoding="utf-8"))
        channel.open_channel(job["channel"], job["token"])
        module, function = ACTIONS[job["do"]]
        action = getattr(importlib.import_module(f"{PACKAGE}.{module}"), function)
        refuse_name = importlib.import_module(f"{PACKAGE}.submission").refuse_name
    # An adapter must be ours; any other submission finds first what its environment has under that name.
    is_ours = job["module"].startswith("heareval.embeddings.adapters.")
    sys.meta_path.insert(0, OwnPackage(comes_first=is_ours))
    if job["module"].partition(".")[0] in sys.modules:
        # Importing it would return a module of Python, of numpy, or this program itself.
        return int(channel.run_action(refuse_name, job))
    # Of published models, only the encoders of X-ARES are files of the user, who may have files named like
    # something that the libraries of the others import.
    is_library = is_ours and not job["module"].endswith(".xares_encoders")
    if not job.get("is_installed") and not is_library:
        # A submission that is not installed lies in the user's working folder, or beside its file.
        sys.path.insert(0, str(Path.cwd()))
    if job.get("file"):
        sys.path.insert(0, str(Path(job["file"]).parent))
    return int(channel.run_action(action, job))


if __name__ == "__main__":
    code = 1
    try:
        code = run_job(sys.argv[1])
    except BaseException:
        traceback.print_exc()
    # Exit at once: a thread that the submission left running must not keep this process alive.
    sys.stderr.flush()
    os._exit(code)
