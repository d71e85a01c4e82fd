"""Runs of which a part fails: a line for each task that is not there, which says what it lacks."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from heareval.archives import fetch
from heareval.archives.download import Patience
from heareval.commands.console import Lacking, fail_if_incomplete
from heareval.errors import HearevalError, RunError
from heareval.spec import Download
from heareval.workflow.failures import tell_failures
from heareval.workflow.run import Outcome
from heareval.workflow.unfinished import Unfinished
from tests.commands import MODEL, SPOKEN, command, only_line
from tests.tasks.own.birds import write_sound

# No proxy can be asked at such an address, which is known at once.
WRONG_PROXY = {"http_proxy": "http://", "https_proxy": "http://"}
QUICK = Patience(tries=2, pause_s=0.0)
# Nothing answers there, so that what no mirror has is not fetched from its publisher.
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def write_task(folder: Path, name: str, *, is_damaged: bool) -> str:
    """Write a task of two classes; one of its sounds may be none."""
    for label, hertz in (("low", 300.0), ("high", 2000.0)):
        for number in range(9):
            write_sound(folder / name / label / f"{number}.wav", hertz)
    if is_damaged:
        (folder / name / "low" / "3.wav").write_bytes(b"RIFF no more than this")
    (folder / f"{name}.toml").write_text(f'name = "{name}"\nfolder = "{name}"\nfolds = 3\n')
    return f"{name}.toml"


def test_every_task_without_a_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    files = [write_task(tmp_path, name, is_damaged=name == "owls") for name in ("crows", "owls")]
    words = ("heareval", "evaluate", "my_model", "--tasks", ",".join(files), "--probe", "linear")
    done = command(tmp_path, *words)
    assert done.returncode == 30
    assert "crows-v1-full" in done.stdout
    error, *others = done.stderr[done.stderr.index("error: ") :].splitlines()
    found = re.match(r"error: (owls full: clips, part \d+ of \d+): audio file ", error)
    assert found, error
    assert others[:2] == [
        f"my_model on owls-v1-full: no score, because `{found[1]}` failed",
        "1 of 2 tasks scored",
    ]
    done = command(tmp_path, "heareval", "prepare", *files, "--sample-rate", "16000")
    assert f"owls-v1-full: not complete, because `{found[1]}` failed\n" in done.stderr
    assert "1 of 2 tasks prepared\n" in done.stderr


def test_with_bad_audio_skipped_a_task_without_any_stops_only_itself(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    files = [write_task(tmp_path, name, is_damaged=False) for name in ("crows", "owls")]
    for sound in (tmp_path / "owls").rglob("*.wav"):
        sound.write_text("no sound")
    words = ("heareval", "evaluate", "my_model", "--tasks", ",".join(files), "--probe", "linear")
    done = command(tmp_path, *words, "--on-bad-audio", "skip")
    assert done.returncode == 30, done.stderr
    assert "crows-v1-full" in done.stdout
    assert "owls-v1-full: no score" in done.stderr
    assert "1 of 2 tasks scored\n" in done.stderr


def test_what_failed_itself_is_not_named_twice(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL.replace("log1p(spectrum)", "log1p(spectrum) / 0"))
    files = [write_task(tmp_path, name, is_damaged=False) for name in ("crows", "owls")]
    words = ("heareval", "evaluate", "my_model", "--probe", "linear", "--tasks")
    done = command(tmp_path, *words, ",".join(files))
    assert done.returncode == 30
    assert done.stderr.count("my_model on crows-v1-full") == 1, done.stderr
    assert "0 of 2 tasks scored\n" in done.stderr
    done = command(tmp_path, *words, files[0])
    assert "tasks scored" not in done.stderr, "the error of a single task says it all"


@pytest.mark.slow
def test_an_archive_that_cannot_be_fetched_stops_only_its_task(tmp_path: Path, mirror: Path) -> None:
    """gtzan is published without a checksum, so its archive is fetched before anything else."""
    words = ("--sample-rate", "16000", "--mirror", str(mirror))
    words += ("--accept-checksums", str(mirror / "MD5SUMS"))
    done = command(tmp_path, "heareval", "prepare", "tfds_gtzan", *words, **NO_NETWORK)
    assert done.returncode == 30, done.stderr
    assert only_line(done).startswith("error: fetch genres.tar.gz: ")
    assert "tasks prepared" not in done.stderr
    done = command(tmp_path, "heareval", "prepare", "tfds_gtzan", "spoken_digit", *words, **NO_NETWORK)
    assert done.returncode == 30, done.stderr
    assert done.stdout.startswith(f"tasks/{SPOKEN}: ")
    assert "tfds_gtzan-1.0.0-full: not complete, because `fetch genres.tar.gz` failed\n" in done.stderr
    assert "1 of 2 tasks prepared\n" in done.stderr


# --------------------------------------------------------------------------- archives that cannot be fetched


def fail_to_fetch(folder: Path, downloads: Sequence[Download], *mirrors: str) -> list[tuple[str, str]]:
    """The failures of the steps that fetch archives, with real errors."""
    failures = []
    for number, download in enumerate(downloads):
        target = folder / f"downloads{number}" / download.file_name
        with pytest.raises(HearevalError) as error:
            fetch.fetch(download, target, fetch.open_mirrors(mirrors), patience=QUICK)
        failures.append((f"fetch {download.file_name}", str(error.value)))
    return failures


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_refused_connection_is_told_once_for_all_archives(tmp_path: Path, closed_port: int) -> None:
    (tmp_path / "empty").mkdir()
    server = f"http://127.0.0.1:{closed_port}"
    downloads = [Download(f"{server}/{name}", "0" * 32) for name in ("a.zip", "b.zip")]
    downloads += [Download(f"{server}/c.zip", "0" * 32, other_urls=(f"{server}/old/c.zip",))]
    failures = fail_to_fetch(tmp_path, downloads, str(tmp_path / "empty"))
    (told,) = tell_failures(failures)
    assert told.line == (
        "3 archives: got Failed to establish a new connection: [Errno 111] Connection refused "
        f"(2 tries in a row), expected the archives. Also tried: {tmp_path}/empty (no such file). "
        "Check the network, or put them into a folder, and give it with --mirror."
    )
    assert told.archives[:2] == (f"a.zip: {server}/a.zip", f"b.zip: {server}/b.zip")
    assert told.archives[2].startswith(f"c.zip: {server}/old/c.zip, also tried: {server}/c.zip (Failed to")
    assert told.titles == ("fetch a.zip", "fetch b.zip", "fetch c.zip")
    # Each is named once where there is one line for all.
    outcome = Outcome(30, 0, tuple(failures), None, 1.0)
    assert str(RunError(outcome)).count("Connection refused") == 2


def test_hosts_whose_names_do_not_resolve_have_one_reason(tmp_path: Path) -> None:
    downloads = [Download(f"http://{host}.invalid/{host}.zip", "0" * 32) for host in "ab"]
    (told,) = tell_failures(fail_to_fetch(tmp_path, downloads))
    assert re.match(
        r"2 archives: got Failed to resolve the host \(.*\) \(2 tries in a row\), expected ", told.line
    )
    assert told.archives == ("a.zip: http://a.invalid/a.zip", "b.zip: http://b.invalid/b.zip")


def test_other_errors_are_told_alone(tmp_path: Path, closed_port: int) -> None:
    server = f"http://127.0.0.1:{closed_port}"
    (refused,) = fail_to_fetch(tmp_path, [Download(f"{server}/a.zip", "0" * 32)])
    others = [
        ("extract b.zip", "archive b.zip: got no archive"),
        ("fetch c.zip", f"download of {server}/c.zip: got MD5 1, expected 2"),
    ]
    told = tell_failures([others[0], refused, others[1]])
    assert [each.line for each in told] == [": ".join(each) for each in (others[0], refused, others[1])]
    assert not any(each.archives for each in told)


def test_tasks_that_lack_archives_are_named_in_one_line(
    tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    downloads = [Download(f"http://127.0.0.1:{closed_port}/{name}.zip", "0" * 32) for name in "ab"]
    failures = [*fail_to_fetch(tmp_path, downloads), ("d full: clips", "a clip: got noise")]
    unfinished = [
        Unfinished("one", ("fetch a.zip",)),
        Unfinished("two", ("fetch a.zip", "fetch b.zip")),
        Unfinished("three", ("fetch b.zip", "d full: clips")),
        Unfinished("four", ()),
    ]
    outcome = Outcome(30, 0, tuple(failures), None, 1.0)
    with pytest.raises(SystemExit) as ended:
        fail_if_incomplete(outcome, Lacking(unfinished, "no score", "0 of 4 tasks scored"))
    assert ended.value.code == 30
    error, *others = capsys.readouterr().err.splitlines()
    assert error.startswith("error: 2 archives: got ")
    assert others == [
        f"  a.zip: {downloads[0].url}",
        f"  b.zip: {downloads[1].url}",
        "error: d full: clips: a clip: got noise",
        "no score, because archives above are missing: one, two",
        "three: no score, because `fetch b.zip` and `d full: clips` failed",
        "four: no score, as the run ended",
        "0 of 4 tasks scored",
    ]


def test_a_run_without_network_lists_its_archives_once(tmp_path: Path) -> None:
    done = command(
        tmp_path,
        "heareval",
        "prepare",
        "speech_commands",
        "spoken_digit",
        "nsynth_pitch",
        "--force",
        **WRONG_PROXY,
    )
    assert done.returncode == 30
    assert only_line(done).startswith("error: 6 archives: got ")
    assert done.stderr.count("--mirror") == 1
    for name in ("v1.0.9.tar.gz", "speech_commands_v0.02.tar.gz", "nsynth-test.jsonwav.tar.gz"):
        assert done.stderr.count(f"  {name}: http") == 1
    summary = done.stderr[done.stderr.index("not complete") :].splitlines()
    assert summary[:2] == [
        "not complete, because archives above are missing: "
        f"speech_commands-v0.0.2-5h, {SPOKEN}, nsynth_pitch-v2.2.3-5h",
        "0 of 3 tasks prepared",
    ]
