"""Progress of a run: every bar and every line says what it counts."""

import io
import re
import threading
import typing
import zipfile

import pytest

from heareval import progress
from heareval.archives.unpack.extract import extract
from heareval.bars import open_bars
from heareval.progress import Unit, describe_progress, report_step, show_steps
from heareval.workflow import clips, corpus, evaluate, prepare  # noqa: F401
from heareval.workflow.step import Step


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def _every_line(monkeypatch):
    """Show every message instead of one in a while."""
    monkeypatch.setattr(progress, "LINE_EVERY_S", -1.0)
    monkeypatch.setattr(progress, "REPORT_EVERY_S", -1.0)


# (unit, done, total) -> what is shown
SHOWN = {
    ("hundredths of trainings", 0, 1200): "training 1 of 12",
    ("hundredths of trainings", 99, 1200): "training 1 of 12",
    ("hundredths of trainings", 300, 1200): "training 4 of 12",
    ("hundredths of trainings", 1199, 1200): "training 12 of 12",
    ("hundredths of trainings", 1200, 1200): "testing and resampling",
    ("hundredths", 250, 800): "31 %",
    ("hundredths", 800, 800): "testing and resampling",
    ("clips", 437, 1200): "437 of 1200 clips",
    ("bytes", 437_000_000, 1_200_000_000): "437.0 of 1200.0 MB",
    ("bytes", 437_000_000, 0): "437.0 MB",
    ("files", 1, 2): "1 of 2 files",
    ("archives", 0, 7): "0 of 7 archives",
    ("results", 5, 7): "5 of 7 results",
}


@pytest.mark.parametrize("case", SHOWN)
def test_units(case):
    assert describe_progress(*case) == SHOWN[case]


def test_no_unit_is_missing():
    assert {unit for unit, _, _ in SHOWN} == set(typing.get_args(Unit))


@pytest.mark.usefixtures("_every_line")
def test_lines_in_a_log():
    stream = io.StringIO()
    with show_steps(2, stream), report_step("mine on esc50: predictor", "hundredths of trainings") as report:
        report(350, 1200)
    first, last = stream.getvalue().splitlines()
    assert first == "mine on esc50: predictor: training 4 of 12"
    assert re.fullmatch(r"\[step 1 of 2\] mine on esc50: predictor: [0-9.]+ s", last)


def test_a_step_that_says_nothing_is_seen_to_run(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    has_ticked = threading.Event()

    class Log(io.StringIO):
        def write(self, text):
            if "running for" in text:
                has_ticked.set()
            return super().write(text)

    stream = Log()
    with show_steps(1, stream), report_step("mine on esc50: embeddings", "clips") as report:
        report(40, 235)
        assert has_ticked.wait(60)
    assert re.search(
        r"^mine on esc50: embeddings: 40 of 235 clips, running for \d+ s$", stream.getvalue(), re.M
    )


def test_lines_of_a_long_step_become_rarer(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    lines = progress._Lines(1, stream)
    lines.move("mine on esc50: embeddings", {"said": "0 of 235 clips"})
    for second in range(24 * 3600):
        now = float(second)
        lines.tick()
    told = [int(line.split()[-2]) for line in stream.getvalue().splitlines()]
    assert told[:2] == [17, 36]
    assert len(told) < 100


def test_a_download_of_unknown_size_counts_what_has_come(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    with show_steps(1, stream), report_step("fetch master.zip", "bytes") as report:
        report(5_300_000, 0)
        progress._send({"end": True})
    assert re.search(r"fetch master.zip .* 5.3 MB +for 0 s", stream.getvalue())


def test_time_moves_while_a_step_says_nothing():
    now = 0.0
    shown = open_bars(_Terminal())
    shown.get_time = lambda: now
    bar = shown.add_task("mine on esc50: embeddings", total=100, said="", heard=now)
    for done in range(1, 11):
        now += 6.0
        shown.update(bar, completed=done, heard=now)
    (task,) = shown.tasks
    *_, column = shown.columns
    task._get_time = shown.get_time
    assert column.render(task).plain == "9 min left"
    now += 60.0
    assert column.render(task).plain == "8 min left"
    now = 3600.0
    assert column.render(task).plain == "for 60 min"


@pytest.mark.parametrize("columns", ["60", "80", "200"])
@pytest.mark.usefixtures("_every_line")
def test_bars_on_a_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    with show_steps(2, stream):
        with report_step("first", "clips") as report:
            report(1, 1)
        title = "heareval.embeddings.baseline on speech_commands-v0.0.2-demo: predictor"
        with report_step(title, "hundredths of trainings") as report:
            report(350, 1200)
            # The display is drawn a last time as it closes, with the bar of the step that still runs.
            progress._send({"end": True})
    assert "speech_commands-v0.0.2-demo: predictor" in stream.getvalue() or columns != "200"
    assert ": predictor" in stream.getvalue()
    assert "training 4 of 12" in stream.getvalue()
    assert "1 of 2 steps" in stream.getvalue()
    assert "350" not in stream.getvalue()


def test_every_step_says_what_it_counts():
    def steps(kind):
        for each in kind.__subclasses__():
            yield from (each, *steps(each))

    found = {each.__name__: each.unit for each in steps(Step) if each.__module__.startswith("heareval.")}
    # It depends on the protocol.
    del found["Predict"]
    assert set(found.values()) <= set(typing.get_args(Unit))
    assert {name for name, unit in found.items() if unit == "bytes"} == {
        *("FetchArchive", "ExtractArchive", "ScanArchive", "ExtractPublished")
    }
    assert {name for name, unit in found.items() if unit == "files"} == {"FetchListed", "PackTar"}


def test_zips_count_bytes_as_tars_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("large.wav", bytes(900))
        archive.writestr("small.wav", bytes(100))
    told = []
    extract(tmp_path / "a.zip", tmp_path / "out", lambda done, total: told.append((done, total)))
    assert told == [(900, 1000), (1000, 1000)]
