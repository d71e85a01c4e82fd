"""However a worker ends, there is one error, and none of its child processes is left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.worker_process import run_worker

# A worker with two child processes, which don't share its stdout; it reports their ids.
WITH_CHILDREN = """
import faulthandler, json, os, signal, subprocess, sys, time
faulthandler.enable()
child = subprocess.Popen(["sleep", "600"], stdout=2)
forked = os.fork()
if not forked:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.close(1)
    time.sleep(600)
print(json.dumps({"children": [child.pid, forked]}), flush=True)
def end():
    END
end()
"""
LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux signals the death of the parent"
)


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def comes_true(question: Callable[[], bool], patience_s: float = 120) -> bool:
    until = time.monotonic() + patience_s
    while not question() and time.monotonic() < until:
        time.sleep(0.02)
    return question()


def worked(folder: Path, source: str, silence_s: float | None = None) -> tuple[str, list[int]]:
    """Run a worker with this source; return its result or error, and the ids of its children."""
    (folder / "worker.py").write_text(source)
    children: list[int] = []
    command, log = [sys.executable, str(folder / "worker.py")], folder / "worker.log"
    try:
        result = run_worker(
            command,
            {},
            log,
            on_message=lambda told: children.extend(told["children"]),
            silence_s=silence_s,
        )
    except HearevalError as error:
        return str(error), children
    return str(result), children


def hung_or_ended(folder: Path, end: str) -> tuple[str, list[int]]:
    """How a worker with children ended; on a busy machine it takes longer until it has told of them."""
    for silence_s in (2.0, 10.0, 60.0):
        told, children = worked(folder, WITH_CHILDREN.replace("END", end), silence_s)
        if children:
            break
    return told, children


def logged(folder: Path) -> str:
    return next(folder.glob("worker-*.log")).read_text()


ENDS = {
    "time.sleep(600)": r"got no message for \d+ s, expected progress or a result. Its log is .*",
    "os._exit(5)": "got exit code 5, expected a result",
    "os.kill(os.getpid(), signal.SIGRTMIN + 6)": "got signal 40, ",
    'print(json.dumps({"error": {"what": "it", "got": "no"}}), flush=True); time.sleep(9)': "it: got no",
    'print(json.dumps({"result": {"a": 1}}), flush=True); os._exit(0)': "{'a': 1}",
}


def test_threads_of_a_worker_sleep_soon_by_default(tmp_path: Path) -> None:
    tells = "import json, os; print(json.dumps({'result': {'spin': os.environ['GOMP_SPINCOUNT']}}))"
    for given, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        command = [sys.executable, "-c", tells]
        told = run_worker(command, {}, tmp_path / "log", variables=given)
        assert told == {"spin": expected}


@LINUX
@pytest.mark.parametrize("end", ENDS)
def test_children_end_with_the_worker(tmp_path: Path, end: str) -> None:
    told, children = hung_or_ended(tmp_path, end)
    assert re.search(ENDS[end], told), told
    assert len(children) == 2
    assert comes_true(lambda: not any(map(is_alive, children)))


def test_a_worker_that_hangs_leaves_a_traceback(tmp_path: Path) -> None:
    told, _ = hung_or_ended(tmp_path, "time.sleep(600)")
    assert told.endswith("Use a larger --timeout if it is only slow.")
    assert re.search(r'worker\.py", line \d+ in end', logged(tmp_path))


def test_a_worker_that_ignores_sigabrt_is_killed(tmp_path: Path) -> None:
    source = "import signal, time\nsignal.signal(signal.SIGABRT, signal.SIG_IGN)\ntime.sleep(600)"
    began = time.monotonic()
    assert "no message for 2 s" in worked(tmp_path, source, silence_s=2.0)[0]
    assert time.monotonic() - began < 300


def test_a_timeout_may_be_very_long(tmp_path: Path) -> None:
    source = "import json, time\ntime.sleep(0.5)\nprint(json.dumps({'result': {}}))"
    assert worked(tmp_path, source, silence_s=1e300) == ("{}", [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("'x' * 200_000", f"last output: {'x' * 300}..., expected"),
        (r"'\x1b[31mno\x07 \x1b]0;title\x07luck\x1b[0m\n\x1b[0m\n'", "last output: no luck, expected"),
        (r"' \n\n'", "got exit code 3, expected"),
    ],
)
def test_last_output_is_short_and_plain(tmp_path: Path, words: str, told: str) -> None:
    source = f"import os, sys\nsys.stderr.write({words})\nsys.stderr.flush()\nos._exit(3)"
    assert told in worked(tmp_path, source)[0]


STARTING = """
import signal, sys
from pathlib import Path
from heareval.worker_process import run_worker
# A shell may start background jobs with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
tell = lambda told: (folder / "told").write_text(str(told["pid"]))
run_worker([sys.executable, str(folder / "worker.py")], {}, folder / "worker.log", print, on_message=tell)
"""
ASKING = """
import json, os, time
from heareval.worker_process import die_with_parent
die_with_parent()
print(json.dumps({"pid": os.getpid()}), flush=True)
time.sleep(600)
"""


@LINUX
@pytest.mark.parametrize("number", [2, 9, 15])
def test_a_worker_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    """Ctrl-C does not reach a worker, which has another process group; its parent passes the signal on."""
    (tmp_path / "worker.py").write_text(ASKING)
    command = [sys.executable, "-c", STARTING, str(tmp_path)]
    starter = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    assert comes_true(lambda: (tmp_path / "told").exists() and bool((tmp_path / "told").read_text()))
    worker = int((tmp_path / "told").read_text())
    assert is_alive(worker)
    os.killpg(starter.pid, number)
    starter.wait(timeout=300)
    assert comes_true(lambda: not is_alive(worker))
