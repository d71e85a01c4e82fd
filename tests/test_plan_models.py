"""Plans of evaluations compared with the runs that follow; nothing is fetched or written by them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heareval import layout
from heareval.archives.sizes import UNITS, Size, readable
from heareval.bars import describe_time
from heareval.commands.console import format_tenths
from heareval.commands.plan import list_disk_lines
from heareval.commands.planned_models import HOURS_FROM_S, _format_minutes, _format_range, list_model_lines
from heareval.embeddings.embedding_format import DEFAULT_FORMAT
from heareval.embeddings.measure import MeasuredLength, Measurement, measure_model
from heareval.embeddings.submission import Model
from heareval.tasks.registry import all_tasks, select
from heareval.workflow.evaluation_plan import EvaluationPlan, PlannedModel, PlannedTask
from heareval.workflow.plan import COLUMNS, DiskPlan, TaskNeeds
from heareval.workflow.task_extent import Extent
from tests.commands import MODEL, SPOKEN, command, only_line
from tests.embeddings.clips import TELLING_MODEL
from tests.http_server import serving
from tests.tasks.own.birds import write_birds, write_task

LINEAR = ("--probe", "linear")
# Batches of up to 10 clips of spoken_digit fit into its memory; the third one fails while there is a file.
STOPPING = MODEL.replace(
    "def get_scene_embeddings(audio, model):\n",
    """
calls = []

def get_scene_embeddings(audio, model):
    if len(audio) > 10:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 99.00 GiB")
    calls.append(len(audio))
    import pathlib
    if len(calls) > 3 and pathlib.Path("stop").exists():
        raise RuntimeError("stopped")
""",
)


def plan(folder: Path, mirror: Path, *words: str) -> dict[str, Any]:
    """Return the JSON of `heareval plan` for models on the stand-in archives."""
    done = command(folder, "heareval", "plan", *words, *_sums(mirror), "--json")
    facts: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if facts["fits"] else 2), done.stderr
    return facts


def evaluate(folder: Path, mirror: Path, *words: str) -> int:
    return command(folder, "heareval", "evaluate", *words, *_sums(mirror), *LINEAR).returncode


def _sums(mirror: Path) -> tuple[str, ...]:
    return ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))


def only_task(facts: dict[str, Any]) -> dict[str, Any]:
    ((task,),) = (model["tasks"] for model in facts["models"])
    found: dict[str, Any] = task
    return found


# --------------------------------------------------------------------------- plans and runs


def test_a_plan_follows_a_run_to_its_end(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(STOPPING)
    words = ("my_model", "--tasks", "spoken_digit", *LINEAR)
    before = plan(tmp_path, mirror, *words)
    task = only_task(before)
    assert (task["state"], task["folder"], task["clips"]) == ("to do", SPOKEN, None)
    assert (before["sample_rates"], before["models"][0]["sample_rate"]) == ([16000], 16000)
    assert "tarballs" not in before["total"] or before["total"]["tarballs"]["bytes"] == 0
    (archive,) = mirror.glob("v1.0.9.tar.gz")
    assert before["tasks"][0]["download"]["bytes"] == archive.stat().st_size

    prepared = ("prepare", "spoken_digit", "--sample-rate", "16000", *_sums(mirror))
    assert command(tmp_path, "heareval", *prepared).returncode == 0
    task = only_task(facts := plan(tmp_path, mirror, *words))
    clips = len(list((tmp_path / "tasks" / SPOKEN / "16000").rglob("*.wav")))
    assert (task["state"], task["clips"], task["embeddings"]["bytes"]) == ("prepared", clips, clips * 8 * 4)
    assert task["hours"] == pytest.approx(clips * 0.56 / 3600)
    assert task["embed_s"] > 0
    assert facts["total"]["download"]["bytes"] == facts["tasks"][0]["clips"]["bytes"] == 0

    (tmp_path / "stop").touch()
    assert evaluate(tmp_path, mirror, *words[:3]) == 30
    task = only_task(plan(tmp_path, mirror, *words))
    assert (task["state"], "stopped" in task["detail"]) == ("failed", True)
    # As if the process had been killed.
    shutil.rmtree(tmp_path / "_workdir" / "step-records")
    (left,) = (tmp_path / "embeddings" / "my_model").glob(".*.unfinished")
    journal = [json.loads(line) for line in (left / "journal").read_text().splitlines()]
    done = sum(line[2] for line in journal if line[0] == "fitted")
    task = only_task(plan(tmp_path, mirror, *words))
    assert (task["state"], task["detail"]) == ("interrupted", f"at embedding, after {done} clips")
    assert 0 < done < clips

    (tmp_path / "stop").unlink()
    assert evaluate(tmp_path, mirror, *words[:3]) == 0
    task = only_task(facts := plan(tmp_path, mirror, *words))
    assert (task["state"], task["embed_s"], task["train_s"]) == ("scored", 0, [0, 0])
    assert facts["models"][0]["measured"] == []
    task = only_task(plan(tmp_path, mirror, *words[:3]))
    assert (task["state"], task["embeddings"]["bytes"]) == ("embedded", 0)
    low, high = task["train_s"]
    assert 0 < low < high
    # What another model took is known of a model that is not scored yet.
    (tmp_path / "other.py").write_text(MODEL)
    (scores,) = (tmp_path / "embeddings" / "my_model" / SPOKEN).glob("*predicted-scores.json")
    seconds = json.loads(scores.read_text())["seconds"]
    task = only_task(plan(tmp_path, mirror, "other", *words[1:]))
    assert (task["state"], task["train_s"]) == ("prepared", [seconds, seconds])
    # It says nothing about a limited run, whose results lie elsewhere.
    limited = ("other", *words[1:], "--limit", "2")
    assert only_task(plan(tmp_path, mirror, *limited))["train_s"] is None
    folder = tmp_path / "embeddings" / "my_model" / f"{SPOKEN}-limit2"
    folder.mkdir()
    text = scores.read_text().replace('"probe-linear"', '"probe-linear-limit2"')
    (folder / layout.scores("probe-linear-limit2")).write_text(text)
    assert only_task(plan(tmp_path, mirror, *limited))["train_s"] == [seconds, seconds]


def test_nothing_is_fetched_or_written(mirror: Path, tmp_path: Path) -> None:
    folder, scratch = tmp_path / "here", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / "my_model.py").write_text(MODEL)
    with serving(mirror) as (address, behaviour):
        sums = ("--mirror", address, "--accept-checksums", str(mirror / "MD5SUMS"))
        words = ("my_model", "--tasks", "spoken_digit")
        # Python writes what it compiles unless it is told not to.
        variables = {"PYTHONDONTWRITEBYTECODE": "", "TMPDIR": str(scratch)}
        done = command(folder, "heareval", "plan", *words, *sums, **variables)
        assert {method for method, *_ in behaviour.requests} == {"HEAD"}
    assert "\nspoken_digit " in done.stdout, done.stderr
    assert "scene embeddings of 8 numbers: " in done.stdout
    assert [path.name for path in folder.rglob("*")] == ["my_model.py"]
    # The lock of claims of memory is there for all runs.
    assert [path.name for path in scratch.rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.slow
def test_a_plan_in_mode_demo_builds_nothing(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("my_model", "--tasks", "nsynth_pitch", "--mode", "demo", "--json")
    facts = json.loads(command(tmp_path, "heareval", "plan", *words).stdout)
    assert only_task(facts)["state"] == "to do"
    assert facts["tasks"][0]["download"]["bytes"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["my_model.py"]


def test_embeddings_of_events_have_a_row_for_each_timestamp(
    prepared: Path, mirror: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("my_model", "--tasks", "dcase2016_task2", "--tasks-dir", str(prepared / "tasks"))
    task = only_task(plan(tmp_path, mirror, *words, "--dtype", "float16"))
    # The published corpus is not there, so that nobody knows how many clips there will be.
    assert (task["clips"], task["embed_s"]) == (None, None)
    task = only_task(json.loads(command(tmp_path, "heareval", "plan", *words, "--json").stdout))
    assert (task["clips"], round(task["hours"], 3)) == (72, 2.4)
    # 120 s with a timestamp each 50 ms.
    assert task["embeddings"]["bytes"] == 72 * 2400 * 8 * 4


def test_what_cannot_be_known_is_said(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "scenes.py").write_text(
        MODEL.replace("def get_timestamp_embeddings", "def get_frames").replace(
            "get_timestamp_embeddings(", "get_frames("
        )
    )
    (tmp_path / "fails.py").write_text("raise RuntimeError('no luck')")
    (tmp_path / "own.toml").write_text('module = "scenes"\nname = "own"\nrequirements = ["torch==2.1"]\n')
    words = ("scenes", "fails.py", "own.toml", "--tasks", "spoken_digit,dcase2016_task2")
    done = command(tmp_path, "heareval", "plan", *words, *_sums(mirror))
    assert "Traceback" not in done.stderr
    lines = " ".join(done.stdout.split())
    assert "dcase2016_task2: left out submission scenes: got no function get_timestamp_embeddings" in lines
    assert "fails, sample rate unknown, clips at 16000 Hz note: fails: import of " in lines
    assert "no luck" in lines
    assert "note: not measured: own: a run would first make its environment" in lines
    (missing,) = {only_line(command(tmp_path, "heareval", "plan", "my_modle", "--tasks", "esc50"))}
    assert missing.startswith("error: submission my_modle: got no module named my_modle")


def test_tasks_of_the_users_own_are_planned(tmp_path: Path) -> None:
    write_birds(tmp_path)
    write_task(tmp_path, 'folder = "recordings"', "folds = 3")
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "run.toml").write_text('models = ["my_model"]\ntasks = ["birds.toml", "esc50"]\n')
    for words in (("my_model", "--tasks", "birds.toml"), ("run.toml",)):
        done = command(tmp_path, "heareval", "plan", *words)
        assert "\nbirds " in done.stdout, done.stderr
        assert done.returncode == 0


def test_words_are_models_or_tasks(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "esc_50.py").write_text(MODEL)
    facts = plan(tmp_path, mirror, "esc_50", "--tasks", "spoken_digit")
    assert facts["models"][0]["name"] == "esc_50"
    assert "models" not in plan(tmp_path, mirror, "spoken_digit", "--sample-rate", "16000")
    line = only_line(command(tmp_path, "heareval", "plan", "esc_50", "esc50"))
    assert line == "error: esc50 is a task. Write --tasks esc50."
    done = command(tmp_path, "heareval", "plan")
    assert (done.returncode, "Missing model or task" in done.stderr) == (2, True)


# --------------------------------------------------------------------------- measuring


@pytest.fixture
def telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model that tells how it was called, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "telling.py").write_text(TELLING_MODEL)
    return Model("telling", options='{"fits": 500000}')


def measure(model: Model, kind: str, durations_s: Sequence[float], budget_s: float) -> Measurement:
    return measure_model(
        model,
        kind,
        durations_s,
        Path("log"),
        embedding_format=DEFAULT_FORMAT,
        budget_s=budget_s,
        device="cpu",
        variables={},
        silence_s=None,
    )


@pytest.mark.slow
def test_batches_are_those_of_a_run(telling: Model) -> None:
    found = measure(telling, "scene", [1.0, 30.0], budget_s=20.0)
    assert [(each.duration_s, each.clips, each.batches) for each in found.lengths] == [
        (1, 125, 2),
        (30, 4, 2),
    ]
    assert [each.shape for each in found.lengths] == [(3,), (3,)]
    calls = [tuple(map(int, line.split())) for line in Path("calls").read_text().splitlines()]
    of_seconds = [count for count, samples in calls if samples == 16000]
    # Two alone, then one batch to warm up and two to time, all halved until they fit.
    assert of_seconds[:4] == [1, 1, 125, 62]
    assert of_seconds.count(125) == 3
    assert max(count * samples for count, samples in calls) <= 2_000_000


def test_a_slow_model_is_measured_on_few_clips(telling: Model) -> None:
    slow = Model("telling", options='{"seconds": 0.2}')
    found = measure(slow, "scene", [1.0, 2.0, 3.0], budget_s=0.3)
    (length,) = found.lengths
    assert (length.duration_s, length.clips) == (1, 1)
    assert found.estimate_seconds(10, 2.0) > 10 * 2.0 * 0.2


def test_estimates_between_measured_lengths() -> None:
    lengths = (MeasuredLength(1.0, 10, 2, 2.0, (20, 8)), MeasuredLength(10.0, 1, 1, 0.5, (200, 8)))
    found = Measurement("event", "cpu", 3.0, lengths)
    assert (found.count_timestamps(2.0), found.count_timestamps(120.0), found.size) == (40, 2400, 8)
    assert found.estimate_seconds(100, 1.0) == 3.0 + 100 / 10
    assert found.estimate_seconds(100, 8.0) == 3.0 + 800 / 20
    fast = Measurement("event", "cpu", 3.0, (MeasuredLength(1.0, 1123, 1, 1.0, (20, 8)),))
    assert str(fast).startswith("1,120 s of sound per second on cpu")
    assert str(found) == (
        "10 to 20 s of sound per second on cpu, measured with 2 batches of 10 clips of 1 s; "
        "1 batch of 1 clip of 10 s"
    )


# --------------------------------------------------------------------------- tables

LARGE = Size(102_200_000_000, is_exact=False)


def test_the_table_of_all_tasks_fits_80_columns() -> None:
    tasks = [(task, task.default_mode) for task in all_tasks().values() if not task.is_pairwise]
    planned = _plan_of(tasks)
    lines = list(list_model_lines(planned, None))
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.startswith("fsd50k "))
    assert row.split() == [
        "fsd50k",
        "6529",
        "11.2",
        "102",
        "102",
        "102",
        "100",
        "2-15h",
        "interrupted",
    ]
    needs = tuple(
        TaskNeeds(task.folder(mode), "partly", dict.fromkeys(COLUMNS, Size(9_200_000_000, is_exact=False)))
        for task, mode in select(("all",), None)
    )
    assert max(map(len, list_disk_lines(DiskPlan(needs, ())))) <= 80


def test_clips_of_the_demo_are_known_once_the_run_has_made_them() -> None:
    planned = _plan_of([(all_tasks()["speech_commands"], "demo")])
    notes = [line for line in list_model_lines(planned, None) if line.startswith("note: ")]
    assert notes == []
    (model,) = planned.models
    tasks = tuple(replace(task, extent=Extent(None, None)) for task in model.tasks)
    unknown = replace(planned, models=(replace(model, tasks=tasks),))
    text = " ".join(" ".join(list_model_lines(unknown, None)).split())
    assert text.count("note: the run makes the corpora of mode demo itself") == 1


def test_a_narrow_terminal_gets_a_few_lines_for_each_task() -> None:
    lines = list(list_model_lines(_plan_of(select(("esc50", "speech_commands"), "full")), 40))
    assert max(map(len, lines)) <= 40
    text = " ".join(" ".join(lines).split())
    assert "speech_commands full: interrupted clips 6529, hours 11.2, GB to fetch 102" in text


def _plan_of(tasks: Sequence[tuple[Any, str]]) -> EvaluationPlan:
    """A plan with large numbers."""
    rows = tuple(
        PlannedTask(
            *(task.name, mode, mode == task.default_mode, task.folder(mode)),
            *("interrupted", "at embedding", Extent(6529, 11.2), LARGE),
            *(6000.0, (6000.0, 54000.0)),
        )
        for task, mode in tasks
    )
    sizes = {**dict.fromkeys(COLUMNS, LARGE), "embeddings": LARGE}
    needs = tuple(TaskNeeds(row.folder, "to do", sizes, clips=LARGE) for row in rows)
    model = PlannedModel("my_model", 16000, (), (), rows)
    return EvaluationPlan(DiskPlan(needs, ()), (model,), (16000,))


@settings(max_examples=2000)
@given(
    st.lists(
        st.one_of(
            st.floats(0, 120, allow_subnormal=False), st.floats(0, 4 * HOURS_FROM_S, allow_subnormal=False)
        ),
        min_size=2,
        max_size=2,
    ).map(sorted)
)
def test_ranges_of_minutes_are_sensible(seconds: list[float]) -> None:
    """A range ends with more than it begins with, and nothing but 0 is called 0."""
    low_s, high_s = seconds
    text = _format_range((low_s, high_s))
    found = re.fullmatch(r"(?:(<1|\d+)-)?(<1|\d+)(h?)", text)
    assert found, text
    low, high, unit = found.groups()
    unit_s = 3600 if unit else 60
    assert (high == "0") == (high_s == 0)
    assert high_s < 0.5 * unit_s if high == "<1" else abs(float(high) * unit_s - high_s) <= 0.5 * unit_s
    if low is None:
        # Both ends read alike, or the range ends with 1 or less.
        assert high in ("<1", "1") or abs(float(high or 0) * unit_s - low_s) <= 0.5 * unit_s
    else:
        # 0.5 lies between `<1` and 1.
        value = 0.5 if low == "<1" else float(low)
        assert value < float(high)
        assert high != "1"
        assert (low == "0") == (low_s == 0)
        assert abs(value * unit_s - low_s) <= 0.5 * unit_s


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ((20.0, 50.0), "1"),
        ((0.0, 20.0), "<1"),
        ((30.0, 30.0), "1"),
        ((0.0, 0.0), "0"),
        ((1800.0, 36000.0), "1-10h"),
        ((35999.0, 36000.0), "10h"),
        ((20.0, 140.0), "<1-2"),
    ],
)
def test_ends_that_read_alike_are_no_range(seconds: tuple[float, float], text: str) -> None:
    assert _format_range(seconds) == text


def test_half_a_minute_is_not_nothing() -> None:
    assert [_format_minutes(each) for each in (0.0, 0.1, 29.0, 30.0)] == ["0", "<1", "<1", "1"]


@given(
    st.one_of(
        st.integers(1, 10**14),
        st.builds(lambda n, off: 1000**n - off, st.integers(1, 4), st.integers(0, 900)),
    )
)
def test_a_size_is_less_than_a_thousand_of_its_unit(size: int) -> None:
    number, unit = readable(size).split()
    assert 1 <= float(number) < 1000
    assert abs(float(number) * 1000 ** UNITS.index(unit) - size) <= 0.0501 * 1000 ** UNITS.index(unit)


@given(st.floats(0, 1000))
def test_tenths_are_0_for_nothing_only(number: float) -> None:
    text = format_tenths(number)
    assert (float(text.removeprefix("<")) == 0) == (number == 0)


@given(st.floats(0, 10**6))
def test_a_time_is_given_in_the_unit_that_suits_it(seconds: float) -> None:
    number, unit = describe_time(seconds).split()
    least, most = {"s": (0, 99), "min": (1, 99), "h": (1.7, 300)}[unit]
    assert least <= float(number) <= most
