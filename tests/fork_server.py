"""Commands and workers as processes that are forked from a prepared interpreter, instead of started.

Starting Python and importing heareval, and torch for its workers, takes longer than what most commands do in
a test. A server is an interpreter that has imported these and has done nothing else. For each request it
forks a process, which sets up folder, environment and output as a new one would have them, and runs the
module. That process forks its workers likewise. Each is a process with a number, parent, group and signals as
usual.

Run as a program this file is a server: requests come as JSON lines, and exit codes go back as lines.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import itertools
import json
import logging
import multiprocessing.util
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What commands import, late or not: these modules, and all modules of these packages.
IMPORTED = (
    *("heareval.api", "heareval.commands", "heareval.workflow", "heareval.archives", "heareval.formats"),
    *("heareval.tasks", "luigi.scheduler", "luigi.worker", "luigi.execution_summary", "requests"),
)
IMPORTED_WITH_TORCH = ("heareval.embeddings", "heareval.predictions")
# They are run, or import what few commands need.
NOT_IMPORTED = ("runner", "worker", "__main__", "inside", "baseline", "figures", "drawing")
# Commands that start no worker with torch. Each step is forked, which takes longer the more is imported.
WITHOUT_TORCH = ("heareval.tasks.runner", "prepare", "tasks", "clean")
OURS = Path(__file__).parent.parent / "heareval"
SUPERVISED = [sys.executable, "-I", "-S", str(OURS / "worker_supervisor.py")]
# Python and the system read variables of these names when a process starts; a forked process takes on some.
TAKEN_ON = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "OPENBLAS_", "GOMP_", "MALLOC_")

# Of Linux 6.1 and later; what is older refuses it.
HUGE_PAGE_BYTES, MADV_COLLAPSE = 2 << 20, 25


class Server:
    """The server, as those who ask it see it."""

    def __init__(self, *, with_torch: bool) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, *(["torch"] if with_torch else [])],
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
            answer = self.process.stdout.readline()
            assert answer, "the fork server has ended; its last words are in the captured stderr"
            texts = [Path(file.name).read_text(encoding="utf-8") for file in (output, complaints)]
        return int(answer), texts[0], texts[1]

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def run(folder: Path, words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str, str]:
    """Run `python -m` with these words in a folder; returns exit code, standard output and error."""
    return _server(with_torch=not set(words[:2]) & set(WITHOUT_TORCH)).run(folder, words, environment)


@functools.cache
def _server(*, with_torch: bool) -> Server:
    """A server of this process, started when it is first asked for."""
    started = Server(with_torch=with_torch)
    atexit.register(started.close)
    return started


def can_fork(variables: Mapping[str, str]) -> bool:
    """Return whether a process with these variables may be forked: not if they are read at the start.

    Elsewhere than on Linux, libraries do not expect a process that has imported them to fork.
    """
    names = set(variables) - TAKEN_ON
    return sys.platform.startswith("linux") and not any(name.startswith(READ_AT_START) for name in names)


def _serve() -> dict[str, Any]:
    """Answer requests; in each forked process, return the request that it has to do."""
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for line in iter(requests.readline, ""):
        request: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            requests.close()
            answers.close()
            return request
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
    os._exit(0)


def _become(request: Mapping[str, Any]) -> Callable[[], Any]:
    """Make this process what `python -m` with the words of a request would be; returns what runs it."""
    for number, name in ((1, request["output"]), (2, request["complaints"])):
        opened = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["folder"])
    return _set_up(["-m", *request["words"]], request["environment"])


def _set_up(words: Sequence[str], environment: Mapping[str, str]) -> Callable[[], Any]:
    """Take on the arguments and the environment of `python` with these words; returns what runs it."""
    os.environ.clear()
    os.environ.update(environment)
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    # Found anew, since TMPDIR may be another.
    tempfile.tempdir = None
    is_module = words[0] == "-m"
    sys.argv[:] = words[1:] if is_module else words
    # `run_path` adds a folder that is run by itself.
    first = [] if Path(words[0]).is_dir() else [str(Path.cwd() if is_module else Path(words[0]).parent)]
    sys.path[:] = [*first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *USUAL_PATH]
    importlib.invalidate_caches()
    if not is_module:
        # It runs in the environment of a submission, where nothing of ours is imported. What was imported
        # since the server was ready comes last.
        since = itertools.takewhile(lambda name: name not in READY_MODULES, reversed(sys.modules))
        for name in (*NOT_OF_SUBMISSIONS, *_list_strangers(list(since))):
            sys.modules.pop(name, None)
        return functools.partial(runpy.run_path, words[0], run_name="__main__")
    # It runs as `__main__`, as if nobody had imported it.
    if not hasattr(sys.modules.get(words[1]), "__path__"):
        sys.modules.pop(words[1], None)
    return functools.partial(runpy.run_module, words[1], run_name="__main__", alter_sys=True)


def _list_strangers(names: Iterable[str]) -> list[str]:
    """Return those of some loaded modules that a submission would not find loaded."""
    standard = {*sys.stdlib_module_names, "__main__"}
    # The versions of all loaded modules are part of a submission's fingerprint.
    return [
        name
        for name in names
        if name.partition(".")[0] not in standard or hasattr(sys.modules[name], "__version__")
    ]


def _run(program: Callable[[], Any]) -> int:
    """Run a program as Python does; returns the exit code once every thread has ended and all is written."""
    code: object = 0
    try:
        program()
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


class ForkingPopen(subprocess.Popen):  # type: ignore[type-arg]
    """A process of this interpreter that runs our code is forked, every other is started."""

    def _execute_child(self, args: Any, *others: Any) -> None:  # type: ignore[override]
        passed, cwd, environment = others[3], others[4], others[5] or os.environ
        pipes, is_session = others[9:15], others[20]
        # Whatever starts our code is supervised.
        if cwd is not None or args[:4] != SUPERVISED or not _is_ours(args[5:]):
            super()._execute_child(args, *others)  # type: ignore[misc]
            return
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python 3.12 and later warn of threads. Theirs hold no lock that the forked process takes.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if not self.pid:
            _begin_anew((pipes[0], pipes[3], pipes[5]), passed, is_session=is_session)
            _supervise(args, dict(environment))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def _supervise(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Be a supervisor, whose command is run here instead of started."""
    # What Python itself reads of it is the same in every request that is forked.
    os.environ.clear()
    os.environ.update(environment)
    os.execvp = lambda _, words: os._exit(_run(_set_up(words[1:], environment)))  # type: ignore[assignment]
    sys.argv[:] = command[3:]
    runpy.run_path(command[3], run_name="__main__")


def _is_ours(command: list[str]) -> bool:
    """Return whether a command is this interpreter with a module or a script of heareval."""
    if len(command) < 3 or command[0] != sys.executable:
        return False
    return (command[1] == "-m" and command[2].startswith("heareval.")) or Path(command[1]).is_relative_to(
        OURS
    )


def _begin_anew(files: tuple[int, int, int], passed: Sequence[int], *, is_session: bool) -> None:
    """Leave behind what a process that is started does not inherit."""
    if is_session:
        os.setsid()
    for number, file in enumerate(files):
        if file != -1:
            os.dup2(file, number)
    for before, after in itertools.pairwise(sorted({0, 1, 2, *passed, 4096})):
        os.closerange(before + 1, after)
    for each in signal.valid_signals():
        if callable(signal.getsignal(each)):
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
    atexit._clear()


def _import_all(name: str) -> None:
    """Import a module, and of a package of ours everything in it."""
    module = importlib.import_module(name)
    if name.startswith("heareval.") and hasattr(module, "__path__"):
        for inside in pkgutil.iter_modules(module.__path__):
            if inside.name not in NOT_IMPORTED:
                _import_all(f"{name}.{inside.name}")


def _use_huge_pages() -> None:
    """Let Linux keep what is in memory in huge pages, where it can; it forks a process faster then."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        # Memory that no file backs has no name, or this one.
        if words[1] == "rw-p" and words[5:] in ([], ["[heap]"]):
            begin, end = (int(address, 16) for address in words[0].split("-"))
            for address in range(-(-begin // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, end, HUGE_PAGE_BYTES):
                libc.madvise(address, min(HUGE_PAGE_BYTES, end - address), MADV_COLLAPSE)


if __name__ == "__main__":
    # Nothing of what is imported is garbage.
    gc.disable()
    USUAL_PATH = sys.path[1:]
    has_torch = "torch" in sys.argv
    if has_torch:
        importlib.import_module("torch")
        subprocess.Popen = ForkingPopen  # type: ignore[misc]
    OF_SUBMISSIONS = set(sys.modules)
    for imported in (*IMPORTED, *(IMPORTED_WITH_TORCH if has_torch else ())):
        _import_all(imported)
    # What torch and others would tidy up in the end (thousands of operators, their caches), the end of a
    # process removes as well.
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.detach()
    atexit._clear()
    for ending in (logging.shutdown, multiprocessing.util._exit_function, weakref.finalize._exitfunc):  # type: ignore[attr-defined]
        atexit.register(ending)
    # Held here, no module is taken apart in a forked process that leaves it out.
    READY_MODULES = dict(sys.modules)
    NOT_OF_SUBMISSIONS = _list_strangers(READY_MODULES.keys() - OF_SUBMISSIONS)
    # Forked processes share memory until it is written to, as the collector of garbage does.
    gc.collect()
    gc.freeze()
    gc.enable()
    _use_huge_pages()
    # Without taking the interpreter apart, which takes longer than most commands.
    os._exit(_run(_become(_serve())))
