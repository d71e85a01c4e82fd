"""What commands print: without a terminal, on a full disk, and from strangers who send escape codes."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from heareval.commands.console import one_line_errors, warn_of_problems
from heareval.errors import HearevalError, escape_controls
from heareval.progress import report_step, show_steps
from heareval.terminal import fold
from heareval.workflow.requests import notify_stderr
from tests.commands import MODEL, command
from tests.tasks.own.birds import write_sound

HEAREVAL = (sys.executable, "-m", "heareval")
ESCAPE = "\x1b]0;renamed\x07"


def shell(folder: Path, words: str) -> subprocess.CompletedProcess[str]:
    """Run the words after `heareval` in a shell."""
    line = f"{sys.executable} -m heareval {words}"
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "closed",
    [*(pytest.param(each, marks=pytest.mark.slow) for each in (">&-", "2>&-", "<&-")), "<&- >&- 2>&-"],
)
def test_streams_may_be_closed_as_those_of_a_daemon(tmp_path: Path, closed: str) -> None:
    for label in ("high", "low"):
        for number in range(6):
            write_sound(tmp_path / "sounds" / label / f"{number}.wav", 400 + 50 * number)
    (tmp_path / "mini.toml").write_text('name = "mini"\nfolder = "sounds"\nfolds = 3\n')
    done = shell(tmp_path, f"prepare mini.toml --sample-rate 16000 {closed}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tasks" / "mini-v1-full" / "MANIFEST.json").is_file()
    # Nothing that was printed went into a file.
    assert not [path for path in tmp_path.rglob("*.json") if b"steps done" in path.read_bytes()]


@pytest.mark.parametrize("words", ["tasks list", pytest.param("prepare --help", marks=pytest.mark.slow)])
def test_a_full_disk_for_the_output_is_one_line(tmp_path: Path, words: str) -> None:
    done = shell(tmp_path, f"{words} >/dev/full")
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output: got No space left on device, expected room to write. "
        "Free some space, or choose other folders.\n"
    )


def test_a_mistyped_command_is_one_line_that_suggests_the_nearest(tmp_path: Path) -> None:
    done = command(tmp_path, "heareval", "evalute", "my_model")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: unknown command: got 'evalute', expected one of card, clean, compare, "
    )
    assert done.stderr.endswith(". Did you mean evaluate or validate?\n")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_has_gone_ends_a_command_quietly(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m heareval plan spoken_digit | true; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


def test_escape_codes_of_strangers_do_not_reach_the_terminal(tmp_path: Path, prepared: Path) -> None:
    (tmp_path / "my_model.py").write_text(
        MODEL.replace("    return Model()", "    raise ValueError('\\x1b]0;renamed\\x07')")
    )
    done = command(tmp_path, "heareval", "embed", "my_model", "--tasks-dir", str(prepared / "tasks"))
    assert "ValueError: \\x1b]0;renamed\\x07" in done.stderr
    assert ESCAPE not in done.stderr + done.stdout
    write_sound(tmp_path / "a.wav")
    (tmp_path / "table.csv").write_text(f"path,label\na.wav,{ESCAPE}\n")
    done = command(tmp_path, "heareval", "tasks", "new", "mine", "--table", "table.csv")
    assert ESCAPE not in done.stderr + done.stdout
    assert "renamed" in done.stderr + done.stdout


def test_whatever_is_shown_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert str(HearevalError(f"label {ESCAPE}", got="\x9b2J", remedy="\u202eOff.")) == (
        "label \\x1b]0;renamed\\x07: got \\x9b2J. \\u202eOff."
    )
    assert escape_controls("tab\tand\nline, 鳥 and é") == "tab\tand\nline, 鳥 and é"
    notify_stderr(ESCAPE)
    assert capsys.readouterr().err == "\\x1b]0;renamed\\x07\n"
    stream = io.StringIO()
    with show_steps(1, stream), report_step(f"task {ESCAPE}", "clips"):
        pass
    assert "task \\x1b]0;renamed\\x07" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("overwrite", "said"),
    [
        ("only-missing", "run the same command again to resume"),
        (
            "scores",
            "with --overwrite scores the same command makes finished scores again and resumes "
            "unfinished trainings",
        ),
        ("all", "with --overwrite all the same command starts over"),
    ],
)
def test_an_interruption_says_what_the_next_run_does(
    capsys: pytest.CaptureFixture[str], overwrite: str, said: str
) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        one_line_errors(interrupted)(debug=False, overwrite=overwrite)
    assert (ended.value.code, capsys.readouterr().err) == (130, f"stopped; {said}\n")


def test_a_quiet_run_tells_errors_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("error: no room", "warning: locks of one machine", "waiting for a run"):
        warn_of_problems(line)
    assert capsys.readouterr().err.splitlines() == ["error: no room", "warning: locks of one machine"]


def _run_in_terminal(folder: Path, columns: int, *words: str, stream: str = "stderr") -> list[str]:
    """Return the lines that a command prints to one of its streams, a terminal of so many columns."""
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    subprocess.run([*HEAREVAL, *words], cwd=folder, env=environment, check=False, **{stream: end})
    os.close(end)
    printed = b""
    # Linux ends the output of a terminal that nobody has open with an error.
    with contextlib.suppress(OSError):
        while block := os.read(terminal, 4096):
            printed += block
    os.close(terminal)
    return printed.decode().splitlines()


@pytest.mark.parametrize("columns", [60, pytest.param(80, marks=pytest.mark.slow)])
def test_long_lines_fold_at_the_width_of_the_terminal(tmp_path: Path, columns: int) -> None:
    words = ("evaluate", "my_modle")
    lines = _run_in_terminal(tmp_path, columns, *words)
    assert len(lines) > 5
    assert max(map(len, lines)) <= columns
    assert any("`pip install PATH`" in line for line in lines)
    # The lines of a log stay whole.
    log = command(tmp_path, "heareval", *words).stderr
    assert [line.partition(":")[0] for line in log.splitlines()] == ["note", "error"]
    assert " ".join(line.strip() for line in lines) == " ".join(log.splitlines())


@pytest.mark.parametrize(
    "words",
    [("status", "my_model", "--tasks", "spoken_digit"), ("plan", "spoken_digit", "--mirror", ".")],
)
def test_lines_of_results_fold_at_the_width_of_the_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    lines = _run_in_terminal(tmp_path, 60, *words, stream="stdout")
    assert max(map(len, lines)) <= 60
    piped = command(tmp_path, "heareval", *words)
    assert max(map(len, piped.stdout.splitlines())) > 60
    # The free space of a disk may change meanwhile.
    said, shown = (
        {word for word in text.split() if not word[0].isdecimal()}
        for text in (piped.stdout.splitlines()[-1], " ".join(lines))
    )
    assert said <= shown


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        (
            "error: /a/path/that/is/longer/than/a/line: gone",
            ["error:", "  /a/path/that/is/longer/than/a/line:", "  gone"],
        ),
        ("  note: run `heareval prepare` now", ["  note: run", "    `heareval prepare`", "    now"]),
        ("failed       my_model on esc50", ["failed", "  my_model on esc50"]),
        ("one\ntwo", ["one", "two"]),
        ("", [""]),
    ],
)
def test_words_and_commands_stay_whole(text: str, folded: list[str]) -> None:
    assert fold(text, 20).split("\n") == folded
