"""Commands as processes that are forked from a prepared interpreter, instead of started.

Starting Python and importing heareval takes longer than what most commands do in a test. The server is an
interpreter that has imported heareval, luigi and click, and has done nothing else. For each request it forks
a process, which sets up folder, environment and output as a new one would have them, and runs the module.

Run as a program this file is the server: requests come as JSON lines, and exit codes go back as lines.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What commands import, late or not; torch and matplotlib are left to those that need them.
IMPORTED = (
    *("heareval.cli", "heareval.tasks.runner", "heareval.embeddings.runner", "heareval.predictions.runner"),
    *("heareval.tasks.audio", "luigi.scheduler", "luigi.worker", "luigi.execution_summary", "requests"),
)
# Python and the system read these when a process starts.
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "OPENBLAS_", "GOMP_", "MALLOC_")


class Server:
    """The server, as those who ask it see it."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
        """Run `python -m` with these words in a folder; returns exit code, standard output and error."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with tempfile.NamedTemporaryFile() as output, tempfile.NamedTemporaryFile() as complaints:
            request = {
                "folder": str(folder),
                "words": list(words),
                "environment": dict(environment),
                "output": output.name,
                "complaints": complaints.name,
            }
            print(json.dumps(request), file=self.process.stdin, flush=True)
            code = int(self.process.stdout.readline())
            texts = [Path(file.name).read_text(encoding="utf-8") for file in (output, complaints)]
        return code, texts[0], texts[1]

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@functools.cache
def server() -> Server:
    """Return the server of this process, started when it is first asked for."""
    started = Server()
    atexit.register(started.close)
    return started


def can_fork(variables: Mapping[str, str]) -> bool:
    """Return whether a process with these variables may be forked: not if they are read at the start."""
    return not any(name.startswith(READ_AT_START) for name in variables)


def _serve() -> dict[str, object]:
    """Answer requests; in each forked process, return the request that it has to do."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for line in iter(requests.readline, ""):
        request: dict[str, object] = json.loads(line)
        child = os.fork()
        if not child:
            requests.close()
            answers.close()
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    os._exit(0)


def _become(folder: str, words: list[str], environment: dict[str, str], output: str, complaints: str) -> str:
    """Make this process what `python -m` with these words would be; returns the module to run."""
    for number, name in ((1, output), (2, complaints)):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # In place of the folder of this file: that of the user, and PYTHONPATH.
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    sys.argv[:] = words
    # It runs as `__main__`, as if nobody had imported it.
    sys.modules.pop(words[0], None)
    return words[0]


def _run(module: str) -> int:
    """Run a module as Python does; returns the exit code once all is written and every thread has ended."""
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code) if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    for imported in IMPORTED:
        importlib.import_module(imported)
    for corpus in pkgutil.iter_modules(importlib.import_module("heareval.tasks.corpora").__path__):
        importlib.import_module(f"heareval.tasks.corpora.{corpus.name}")
    # Forked processes share memory until it is written to, as the collector of garbage does.
    gc.collect()
    gc.freeze()
    # Without taking the interpreter apart, which takes longer than most commands.
    os._exit(_run(_become(**_serve())))  # type: ignore[arg-type]
