"""luigi.cfg with errors: one line that names the file, whatever is wrong in it."""

from __future__ import annotations

import configparser
from collections.abc import Iterable
from pathlib import Path

import pytest

from heareval.workflow.configuration import PACKAGED, load_config
from tests.commands import command, only_line

PLAN = ("heareval", "plan", "spoken_digit")
# What is in the file -> what the line tells after the file's name.
UNREADABLE = {
    "no section": (b"[core\nfoo", ", line 1: got '[core', expected a section, such as [heareval]. "),
    "byte order mark": (
        b"\xef\xbb\xbf[core]\nx = 1\n",
        ", line 1: got a byte order mark, expected UTF-8 text",
    ),
    "key twice": (b"[core]\na = 1\na = 2\n", ", line 3: got a in [core] again, expected every key once. "),
    "section twice": (b"[core]\n[core]\n", ", line 2: got [core] again, expected every section once. "),
    "no value": (b"[core]\nfoo\n", ", line 2: got foo, expected key = value. "),
    "binary": (b"\xff\xfe\x00junk", ": got no text, expected UTF-8 text. "),
}
WRONG_VALUES = {
    "number": (
        "[worker]\nping_interval = soon\n",
        "ping_interval in [worker]: got 'soon', expected a number. ",
    ),
    "whole number": (
        "[scheduler]\nretry_count = 1.5\n",
        "retry_count in [scheduler]: got '1.5', expected a whole",
    ),
    "flag": ("[worker]\nkeep_alive = maybe\n", "keep_alive in [worker]: got 'maybe', expected true or false"),
    "resource": ("[resources]\ngpu = two\n", "gpu in [resources]: got 'two', expected a whole number"),
    "exit code": ("[retcode]\nnot_run = bad\n", "not_run in [retcode]: got 'bad', expected a whole number"),
    "wait": ("[heareval]\ninput_wait_s = x\n", "input_wait_s in [heareval]: got 'x', expected a number"),
    "core": ("[core]\nrpc_retry_wait = x\n", "rpc_retry_wait in [core]: got 'x', expected a whole number"),
    "dashes": ("[worker]\ntask-limit = few\n", "task-limit in [worker]: got 'few', expected a whole number"),
    "dashes of a packaged key": (
        "[worker]\nkeep-alive = false\n",
        "[worker]: got keep-alive, expected keep_alive. ",
    ),
    "per cent": ("[worker]\nwait_jitter = 5%\n", "wait_jitter in [worker]: got '5%', expected a number"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_luigi_cannot_read(tmp_path: Path, case: str) -> None:
    content, told = UNREADABLE[case]
    (tmp_path / "luigi.cfg").write_bytes(content)
    # Luigi is imported by a new interpreter only, so no fork of a prepared one.
    assert f"error: luigi.cfg{told}" in only_line(command(tmp_path, *PLAN, before=("env",)))


def test_help_needs_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "luigi.cfg").write_bytes(UNREADABLE["binary"][0])
    assert command(tmp_path, "heareval", "--help", before=("env",)).returncode == 0


@pytest.mark.parametrize("case", WRONG_VALUES)
def test_a_value_that_luigi_cannot_convert(tmp_path: Path, case: str) -> None:
    content, told = WRONG_VALUES[case]
    (tmp_path / "luigi.cfg").write_text(content)
    assert f"error: luigi.cfg: {told}" in only_line(command(tmp_path, *PLAN))


def test_a_file_that_the_user_named(tmp_path: Path) -> None:
    (tmp_path / "mine.cfg").write_text("[core\n")
    (tmp_path / "folder.cfg").mkdir()
    for name, told in (
        ("mine.cfg", "mine.cfg, line 1: got '[core'"),
        ("gone.cfg", "gone.cfg: got No such file or directory, expected"),
        ("folder.cfg", "folder.cfg: got Is a directory, expected"),
    ):
        done = command(tmp_path, "heareval.tasks.runner", "--help", before=("env",), LUIGI_CONFIG_PATH=name)
        assert f"error: {told}" in only_line(done)


def test_a_mirror_may_have_percent_signs(tmp_path: Path, mirror: Path) -> None:
    place = tmp_path / "with%20space"
    place.symlink_to(mirror)
    words = ("heareval", "prepare", "spoken_digit", "--sample-rate", "16000")
    words += ("--accept-checksums", str(mirror / "MD5SUMS"))
    for written in (str(place), str(place).replace("%", "%%")):
        (tmp_path / "luigi.cfg").write_text(f"[heareval]\nmirror = {written}\n")
        done = command(tmp_path, *words)
        assert done.returncode == 0, done.stderr


def test_a_further_call_reads_no_more_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook asks for the configuration again and again."""
    read: list[str] = []
    of_library = configparser.RawConfigParser._read  # type: ignore[attr-defined]

    def note_and_read(parser: configparser.RawConfigParser, lines: Iterable[str], path: str) -> None:
        read.append(str(path))
        of_library(parser, lines, path)

    # Luigi reads its files when they are first asked for.
    load_config()
    monkeypatch.setattr(configparser.RawConfigParser, "_read", note_and_read)
    load_config()
    first = list(read)
    load_config()
    assert read == 2 * first
    assert str(PACKAGED) in first
