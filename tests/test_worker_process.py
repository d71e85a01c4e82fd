"""However a worker ends, there is one error, and nothing that it has started is left."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from heareval import worker_process
from heareval.errors import HearevalError
from heareval.worker_process import run_worker

# Every worker begins with it.
TELL = """
import json, os, sys
job = json.load(open(sys.argv[1]))
def tell(**message):
    os.write(job["channel"], f"\\n{job['token']} {json.dumps(message)}\\n".encode())
"""
# A worker with child processes, whose ids it reports: one in its process group, one that it forked, one in a
# session of its own, and an orphan in another session, as a daemon is.
WITH_CHILDREN = """
import faulthandler, signal, subprocess, time
faulthandler.enable()
child = subprocess.Popen(["sleep", "600"])
forked = os.fork()
if not forked:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
session = subprocess.Popen(["sleep", "600"], start_new_session=True)
daemon = subprocess.run(["setsid", "sh", "-c", "sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE)
tell(children=[child.pid, forked, session.pid, int(daemon.stdout)])
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
    (folder / "worker.py").write_text(TELL + source)
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
    for silence_s in (1.0, 10.0, 60.0):
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
    'tell(error={"what": "it", "got": "no"}); time.sleep(9)': "it: got no",
    'tell(result={"a": 1}); os._exit(0)': "{'a': 1}",
}


def test_threads_of_a_worker_sleep_soon_by_default(tmp_path: Path) -> None:
    tells = TELL + "tell(result={'spin': os.environ['GOMP_SPINCOUNT']})"
    for given, expected in (({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        command = [sys.executable, "-c", tells]
        told = run_worker(command, {}, tmp_path / "log", variables=given)
        assert told == {"spin": expected}


@LINUX
@pytest.mark.parametrize("end", ENDS)
def test_children_end_with_the_worker(tmp_path: Path, end: str) -> None:
    told, children = hung_or_ended(tmp_path, end)
    assert re.search(ENDS[end], told), told
    assert len(children) == 4
    assert not any(map(is_alive, children))


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
    source = "import time\ntime.sleep(0.5)\ntell(result={})"
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
import json, signal, sys
from pathlib import Path
from heareval.worker_process import run_worker
# A shell may start background jobs with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
tell = lambda told: (folder / "told").write_text(str(told["pids"]))
run_worker([sys.executable, str(folder / "worker.py")], {}, folder / "worker.log", print, on_message=tell)
"""
ASKING = """
import subprocess, time
session = subprocess.Popen(["sleep", "600"], start_new_session=True)
tell(pids=[os.getpid(), session.pid])
time.sleep(600)
"""


@LINUX
@pytest.mark.parametrize("number", [2, 9, 15])
def test_a_worker_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    """Ctrl-C does not reach a worker, which has another process group; its parent passes the signal on."""
    (tmp_path / "worker.py").write_text(TELL + ASKING)
    command = [sys.executable, "-c", STARTING, str(tmp_path)]
    starter = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    assert comes_true(lambda: (tmp_path / "told").exists() and bool((tmp_path / "told").read_text()))
    workers = json.loads((tmp_path / "told").read_text())
    assert all(map(is_alive, workers))
    os.killpg(starter.pid, number)
    starter.wait(timeout=300)
    assert comes_true(lambda: not any(map(is_alive, workers)))


# A supervisor that is asked to stop just when its command has ended by itself.
ASKED_LATE = """
import os, signal, sys
from heareval import worker_supervisor as supervisor
list_children = supervisor.list_children
def ask_and_list():
    os.kill(os.getpid(), signal.SIGTERM)
    return list_children()
supervisor.list_children = ask_and_list
supervisor.end_like(supervisor.supervise(os.getppid(), sys.argv[1:]))
"""


@LINUX
def test_a_late_request_to_stop_leaves_no_daemon() -> None:
    command = [sys.executable, "-c", ASKED_LATE, "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert not is_alive(int(done.stdout))


@LINUX
def test_a_stranger_who_keeps_the_pipe_open_does_not_matter(tmp_path: Path) -> None:
    """Such as a descendant of another user, whom the supervisor may not kill."""
    source = """
import time
tell(channel=f"/proc/{os.getpid()}/fd/{job['channel']}")
while not os.path.exists(sys.argv[0] + ".held"):
    time.sleep(0.01)
os._exit(5)
"""
    (tmp_path / "worker.py").write_text(TELL + source)
    held: list[int] = []

    def hold(told: dict[str, str]) -> None:
        held.append(os.open(told["channel"], os.O_WRONLY))
        (tmp_path / "worker.py.held").touch()

    try:
        with pytest.raises(HearevalError, match="got exit code 5, expected a result"):
            run_worker(
                [sys.executable, str(tmp_path / "worker.py")],
                {},
                tmp_path / "log",
                on_message=hold,
                silence_s=60,
            )
    finally:
        for descriptor in held:
            os.close(descriptor)


@LINUX
def test_the_log_may_be_removed(tmp_path: Path) -> None:
    source = "os.unlink(os.readlink('/proc/self/fd/2'))\nos._exit(3)"
    assert "got exit code 3, expected a result" in worked(tmp_path, source)[0]


@LINUX
def test_children_of_the_user_and_their_orphans_are_left_alone(tmp_path: Path) -> None:
    """A notebook has children of its own, also in the session of this process."""
    own = subprocess.Popen(["sleep", "600"])
    orphan = subprocess.run(
        ["sh", "-c", "sleep 600 >/dev/null & echo $!"], stdout=subprocess.PIPE, check=True
    )
    try:
        assert worked(tmp_path, "tell(result={})")[0] == "{}"
        assert all(map(is_alive, (own.pid, int(orphan.stdout))))
        parent = Path(f"/proc/{int(orphan.stdout)}/stat").read_text().rpartition(")")[2].split()[1]
        assert int(parent) != os.getpid(), "this process has adopted it, and would have to wait for it"
    finally:
        own.kill()
        own.wait()
        os.kill(int(orphan.stdout), 9)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"last output: /none/python: No such file or directory"):
        run_worker(["/none/python"], {}, tmp_path / "log")


NOISE = {
    "text": b"Welcome to node 42",
    "lines": b"Welcome\n\nto node 42\n",
    "not UTF-8": b"\xff\xfe\x00\n",
    "json": b'{"error": {"what": "no"}}\n{"result": 1}\n3\nnull\n',
    "half a message": b'{"done": 1',
}


@pytest.mark.parametrize("noise", NOISE)
def test_what_else_is_printed_is_in_the_log(
    tmp_path: Path, noise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When Python starts, before the first message, in between, after the last, and by children."""
    (tmp_path / "sitecustomize.py").write_text(f"import os; os.write(1, {NOISE[noise]!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = f"""
import subprocess
noise = {NOISE[noise]!r}
def chatter():
    os.write(1, noise)
    subprocess.run([sys.executable, "-c", f"import os; os.write(1, {{noise!r}})"], check=True)
chatter()
tell(children=[7])
chatter()
tell(result={{"a": 1}})
chatter()
"""
    assert worked(tmp_path, source) == ("{'a': 1}", [7])
    (log,) = tmp_path.glob("worker-*.log")
    # Each child is a Python that starts, too.
    assert log.read_bytes() == 10 * NOISE[noise]


@pytest.mark.parametrize("noise", NOISE)
def test_what_a_model_writes_to_the_channel_is_no_message(tmp_path: Path, noise: str) -> None:
    source = f"""
noise = {NOISE[noise]!r}
os.write(job["channel"], noise)
tell(children=[7])
os.write(job["channel"], noise)
tell(result={{"a": 1}})
os.write(job["channel"], noise)
"""
    assert worked(tmp_path, source) == ("{'a': 1}", [7])


def test_standard_files_may_be_closed(tmp_path: Path) -> None:
    """A pipe would get their numbers, as the log does in the worker."""
    (tmp_path / "worker.py").write_text(TELL + "print('hello')\ntell(result={'a': 1})")
    (tmp_path / "starter.py").write_text(
        STARTING.replace("run_worker(", "result = run_worker(")
        + "(folder / 'result').write_text(json.dumps(result))\n"
    )
    command = f"exec {sys.executable} {tmp_path}/starter.py {tmp_path} <&- >&- 2>&-"
    subprocess.run(["sh", "-c", command], check=True)
    assert json.loads((tmp_path / "result").read_text()) == {"a": 1}
    assert logged(tmp_path) == "hello\n"


def test_a_flood_in_the_channel_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "MAX_MESSAGE_BYTES", 100_000)
    source = """
for _ in range(10):
    os.write(job["channel"], b"x" * 60_000)
tell(result={"a": 1})
"""
    assert worked(tmp_path, source)[0] == "{'a': 1}"


def test_the_last_words_of_a_long_log_are_read_from_its_end(tmp_path: Path) -> None:
    """A sparse file of 1 TB: a reader of the whole would not return."""
    source = "os.truncate(2, 10**12)\nos.write(2, b'the last words\\n')\nos._exit(3)"
    (tmp_path / "worker.py").write_text(source)
    assert "last output: the last words, expected" in worked(tmp_path, source)[0]


def test_a_long_log_is_cut_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "MAX_LOG_BYTES", 100_000)
    monkeypatch.setattr(worker_process, "SEARCHED_BYTES", 1_000)
    source = """
import time
os.write(2, b"first words" + b"x" * 200_000 + b"middle\\n")
while os.fstat(2).st_size > 100_000:
    time.sleep(0.01)
os.write(2, b"last words\\n")
os._exit(3)
"""
    assert "last output: last words, expected" in worked(tmp_path, source)[0]
    text = logged(tmp_path)
    assert text.startswith("(heareval has removed the beginning of this log")
    assert "first words" not in text
    assert text.endswith("xmiddle\nlast words\n")
    assert len(text) < 2_000
