"""Tasks of users: reading and creating their TOML files, and the commands on them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import soundfile

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.labels import format_vocabulary
from heareval.predictions.metrics import METRICS
from heareval.tasks.own import new as own_new
from heareval.tasks.own import task as own
from heareval.tasks.registry import address, find_task, select
from heareval.tasks.splits import labels_of
from heareval.workflow.jobs import CorpusRequest, find_jobs
from tests.commands import MODEL, RESULT, SCORE, command, only_line
from tests.tasks.own.birds import (
    CLASSES,
    RATE,
    rows_of,
    selected_clips,
    write_birds,
    write_sound,
    write_table,
    write_task,
)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    return write_birds(tmp_path)


# --------------------------------------------------------------------------- errors

BAD_FILES = {
    "name = birds": r"birds.toml: got .*line 2, column 8.*, expected TOML",
    f"folds = {'9' * 5000}": r"birds.toml: got .*digits.*, expected TOML",
    f"folds = {'[' * 3000}": r"birds.toml: got .*, expected TOML",
    "fold = 5": r"unknown key in .*birds.toml: got 'fold', .*Did you mean folds or folder\?",
    "folds = 2": "birds.toml: folds: got 2, expected a whole number from 3",
    "folds = true": "folds: got True, expected",
    'folds = "5"': "folds: got '5', expected",
    "clip_duration_s = 0": "clip_duration_s: got 0, expected seconds above 0",
    "clip_duration_s = inf": "clip_duration_s: got inf, expected seconds above 0",
    'kind = "regression"': "kind: got 'regression', expected multiclass or multilabel",
    'version = "a/b"': "version: got 'a/b', expected letters",
    "split_percentages = { train = 80, valid = 10 }": "split_percentages: got .*, expected shares",
    "split_percentages = { train = 80, valid = 10, test = 20 }": "expected shares .* add up to 100",
    'metrics = ["top1_acc", "top1_acc"]': "metrics: got .*, expected a list of different names",
    'table = "clips.csv"': "got folder and table, expected exactly one of folder, table, pairs",
    "folds = 3\nsplit_percentages = { train = 80, valid = 10, test = 10 }": "got both, expected at most one",
}


@pytest.mark.parametrize("line", BAD_FILES)
def test_bad_file(birds: Path, line: str) -> None:
    with pytest.raises(HearevalError, match=BAD_FILES[line]):
        own.load_task(write_task(birds, line, 'folder = "recordings"'))


def test_no_file_no_name_no_sounds(tmp_path: Path) -> None:
    with pytest.raises(
        HearevalError, match=r"birds.toml: got no such file. Create one with `heareval tasks new`"
    ):
        own.load_task(tmp_path / "birds.toml")
    # Opening a FIFO would wait for a program that writes to it.
    os.mkfifo(tmp_path / "fifo.toml")
    with pytest.raises(HearevalError, match=r"fifo.toml: got a FIFO. Create one"):
        own.load_task(tmp_path / "fifo.toml")
    with pytest.raises(HearevalError, match="where the sounds are: got none, expected exactly one of"):
        own.load_task(write_task(tmp_path))
    for line, complaint in {
        'folder = "none"': "folder .*none: got no such folder",
        'table = "none.csv"': "table .*none.csv: got no such file",
        'folder = "."': "got no sounds, expected sounds with labels",
    }.items():
        with pytest.raises(HearevalError, match=complaint):
            own.load_task(write_task(tmp_path, line))
    (tmp_path / "birds.toml").write_text('folder = "."')
    with pytest.raises(HearevalError, match="name: got nothing, expected letters, digits and _"):
        own.load_task(tmp_path / "birds.toml")


def test_splits_that_lack_a_label(birds: Path) -> None:
    file = write_task(birds, 'folder = "recordings"')
    with pytest.raises(HearevalError, match=r"birds.toml: split (valid|test): got no clip of \w+.*folds = 5"):
        own.load_task(file)
    write_task(birds, 'folder = "recordings"', "folds = 11")
    with pytest.raises(
        HearevalError, match=r"birds.toml: crow: got 10 clips or groups, expected at least 11"
    ):
        own.load_task(file)


def test_given_splits_admit_no_other_rule(tmp_path: Path) -> None:
    file = write_table(tmp_path, "path,label,split", *rows_of(columns=",fold0{fold}"))
    for line, key in {
        "folds = 3": "folds",
        "split_percentages = { train = 80, valid = 10, test = 10 }": "split_percentages",
    }.items():
        write_task(tmp_path, 'table = "clips.csv"', line)
        with pytest.raises(HearevalError, match=f"{key}: got splits that are already given. Remove {key}"):
            own.load_task(file)


# --------------------------------------------------------------------------- a new task


def test_new_from_a_folder(birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten clips of a class are too few for a draw of train, valid and test with every label."""
    monkeypatch.chdir(birds)
    lines = own_new.new_task(
        {"name": "birds", "folder": "recordings", "clip_duration_s": 0.25}, Path("birds.toml")
    )
    assert lines[:5] == [
        "30 clips, 6.0 seconds",
        "3 labels, multiclass, with their numbers of clips: crow 10, owl 10, wren 10",
        "splits: 5 folds, drawn",
        "  folds, because drawing train, valid and test would leave one without some label, or without clips",
        "  label  fold00  fold01  fold02  fold03  fold04",
    ]
    assert [line.split()[0] for line in lines[5:]] == ["crow", "owl", "wren"]
    counts = [[int(cell) for cell in line.split()[1:]] for line in lines[5:]]
    assert [sum(row) for row in counts] == [10, 10, 10]
    task = own.load_task(Path("birds.toml"))
    assert own.read_settings(Path("birds.toml")) == own.OwnTaskSettings(
        name="birds",
        folder="recordings",
        kind="multiclass",
        clip_duration_s=0.25,
        folds=5,
        metrics=task.metrics,
    )
    with pytest.raises(HearevalError, match=r"birds.toml already exists"):
        own_new.new_task({"name": "birds", "folder": "recordings"}, Path("birds.toml"))


def test_new_leaves_what_works(birds: Path) -> None:
    for number in range(10, 90):
        for label in CLASSES:
            os.link(birds / "recordings" / label / "0.wav", birds / "recordings" / label / f"{number}.wav")
    lines = own_new.new_task({"name": "birds", "folder": "recordings"}, birds / "birds.toml")
    assert lines[-5:] == [
        "splits: train, valid, test, drawn",
        "  label  train  valid  test",
        "  crow      79      6     5",
        "  owl       69     10    11",
        "  wren      68     11    11",
    ]
    assert lines[0].startswith("note: 3 files are taken several times")
    assert own.load_task(birds / "birds.toml").splits.folds is None


def test_new_with_too_few_clips(tmp_path: Path) -> None:
    write_table(tmp_path, "path,label", *rows_of(), "wren.wav,wren")
    with pytest.raises(HearevalError, match=r"new.toml: wren: got 1 clips or groups, expected at least 3"):
        own_new.new_task({"name": "new", "table": "clips.csv"}, tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


def test_new_with_events_takes_the_longest_sound(tmp_path: Path) -> None:
    rows = [f'{i}.wav,"owl ""ö"", tawny",0,50' for i in range(10)]
    write_table(tmp_path, "path,label,start_ms,end_ms", *rows)
    write_sound(tmp_path / "3.wav", seconds=0.30001)
    own_new.new_task({"name": "owls", "table": "clips.csv"}, tmp_path / "owls.toml")
    task = own.load_task(tmp_path / "owls.toml")
    assert (task.clip_duration_s, task.prediction_type, task.splits.mode) == (
        0.3,
        "multilabel",
        "trainvaltest",
    )
    assert (
        format_vocabulary(set().union(*map(labels_of, selected_clips(task).clips)))
        == 'idx,label\n0,"owl ""ö"", tawny"\n'
    )
    late = own_new.new_task(
        {"name": "late", "table": "clips.csv", "clip_duration_s": 1}, tmp_path / "late.toml"
    )
    assert not [line for line in late if "sound" in line and line.startswith("note: 1 of")]
    (tmp_path / "4.wav").write_bytes(b"no sound")
    with pytest.raises(HearevalError, match=r"got 1 sounds of unknown length. Give the length"):
        own_new.new_task({"name": "new", "table": "clips.csv"}, tmp_path / "new.toml")


# --------------------------------------------------------------------------- the registry, and commands


def test_default_metrics_are_those_that_predictors_know() -> None:
    for (embedding_type, _), names in own.DEFAULT_METRICS.items():
        assert set(names) <= {n for n, metric in METRICS.items() if metric.kind == embedding_type}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            'metrics = ["top_acc"]',
            r"unknown metric in .*birds.toml: got 'top_acc'.*Did you mean top1_acc",
        ),
        (
            'metrics = ["segment_1s_er"]',
            "unknown metric in .*: got 'segment_1s_er', expected one of aucroc",
        ),
    ],
)
def test_metrics_are_checked_before_anything_is_prepared(birds: Path, line: str, error: str) -> None:
    file = write_task(birds, line, 'folder = "recordings"', "folds = 5")
    with pytest.raises(HearevalError, match=error):
        find_jobs(CorpusRequest((str(file),)))


def test_found_by_file(birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_task(birds, 'folder = "recordings"', "folds = 5")
    monkeypatch.chdir(birds)
    with pytest.raises(HearevalError, match=r"Did you mean birds.toml"):
        find_task("birds")
    selected = select(("birds.toml", "spoken_digit", str(file)), "all")
    assert [(task.name, mode) for task, mode in selected] == [
        ("birds", "full"),
        ("spoken_digit", "full"),
        ("spoken_digit", "small"),
    ]
    assert [address(task) for task, _ in selected[:2]] == [str(file), "spoken_digit"]
    monkeypatch.chdir("/")
    assert find_task(address(selected[0][0])) is selected[0][0]


def test_two_tasks_of_one_name(birds: Path) -> None:
    file = write_task(birds, 'folder = "recordings"', "folds = 5")
    shutil.copy(file, birds / "other.toml")
    with pytest.raises(HearevalError, match=r"tasks named birds: got .*birds.toml and .*other.toml"):
        select((str(file), str(birds / "other.toml")), None)
    file.write_text(file.read_text().replace('"birds"', '"esc50"'))
    (birds / "third.toml").write_text(file.read_text())
    with pytest.raises(HearevalError, match="got esc50, expected a name that no task of the benchmark has"):
        find_task(str(birds / "third.toml"))


def test_content_follows_the_data(birds: Path) -> None:
    file = write_task(birds, 'folder = "recordings"', "folds = 5")
    contents = [own.load_task(file).content]
    file.write_text(f"# a comment changes nothing\n{file.read_text()}")
    assert own.load_task(file).content == contents[0]
    os.utime(birds / "recordings" / "owl" / "3.wav", ns=(1, 1))
    contents.append(own.load_task(file).content)
    (birds / "recordings" / "owl" / "3.wav").rename(birds / "recordings" / "owl" / "three.wav")
    contents.append(own.load_task(file).content)
    file.write_text(file.read_text() + "\nclip_duration_s = 0.5")
    contents.append(own.load_task(file).content)
    assert len(set(contents)) == 4


def test_commands_from_folder_to_score(birds: Path) -> None:
    (birds / "my_model.py").write_text(MODEL)
    new = ("tasks", "new", "birds", "--folder", "recordings", "--folds", "3")
    done = command(birds, "heareval", *new)
    assert done.stdout.splitlines()[-3:] == [
        "birds.toml is written; next:",
        "  heareval prepare birds.toml",
        "  heareval evaluate MODULE --tasks birds.toml",
    ], done.stderr
    prepare = ("heareval.tasks.runner", "birds.toml", "--sample-rate", "16000")
    done = command(birds, *prepare)
    assert "7 steps done" in done.stdout, done.stderr
    assert (birds / "tars" / "hear-2021.1.1-birds-v1-full-16000.tar.gz").exists()
    clip = next((birds / "tasks" / "birds-v1-full" / "16000").glob("*/owl_3.wav"))
    before = clip.read_bytes()
    write_sound(birds / "recordings" / "owl" / "3.wav", 5000)
    assert "7 steps done" in command(birds, *prepare).stdout
    assert clip.read_bytes() != before
    done = command(birds, "heareval", "evaluate", "my_model", "--tasks", "birds.toml", *SCORE)
    assert "2 steps done" in done.stdout, done.stderr
    results = files.read_json(birds / "embeddings" / "my_model" / "birds-v1-full" / RESULT)
    assert results["clips"] == {"fold00": 10, "fold01": 10, "fold02": 10}
    assert 0 <= results["scores"]["top1_acc"]["score"] <= 1


def test_new_tells_in_one_line(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval", "tasks", "new", "esc50", "--folder", "recordings"))
    assert line.endswith("got esc50, expected a name that no task of the benchmark has")


def test_list_of_tasks(tmp_path: Path) -> None:
    brief = command(tmp_path, "heareval", "tasks", "list").stdout.splitlines()
    assert brief[0].split() == ["task", "domain", "hours", "size", "licence"]
    assert brief[6].split() == ["esc50", "environment", "2.8", "320.0", "MB", "CC-BY-NC-3.0"]
    assert max(map(len, brief)) <= 80
    # No task is without sound.
    assert all(" 0 " not in line for line in brief)
    lines = command(tmp_path, "heareval", "tasks", "list", "--long").stdout.splitlines()
    rows = {line.split()[0]: line for line in lines}
    row = rows["dcase2016_task2"].split("  ")
    assert [cell.strip() for cell in row if cell] == [
        *("dcase2016_task2", "environment", "2.4", "276.5 MB", "unknown"),
        *("event, multilabel", "train, valid, test", "120", "full, small, demo"),
        "event_onset_200ms_fms, segment_1s_er",
    ]
    start = lines[0].index("kind")
    assert {line[start:].split(",")[0] for line in lines[1:]} == {"scene", "event"}
    assert "5h, 50h, small, demo" in rows["nsynth_pitch"]


def test_new_counts_clips_of_many_labels_or_folds(tmp_path: Path) -> None:
    rows = [f"{label}/{i}.wav,{label}" for label in range(13) for i in range(7 + label % 2)]
    write_table(tmp_path, "path,label", *rows)
    values = {"table": "clips.csv", "folds": 3}
    lines = own_new.new_task({"name": "many", **values}, tmp_path / "many.toml")
    assert [line.split(":")[0] for line in lines[-3:]] == ["  fold00", "  fold01", "  fold02"]
    assert re.fullmatch(r"  fold00: from \d of \d+ to \d of \d+", lines[-3])
    values["folds"] = 7
    write_table(tmp_path, "path,label", *rows[: 7 + 8])
    lines = own_new.new_task({"name": "folds", **values}, tmp_path / "folds.toml")
    assert lines[-3:] == [
        "  label  fewest in a fold  most in a fold",
        "  0                     1               1",
        "  1                     1               2",
    ]


def test_new_warns_of_few_test_clips(birds: Path) -> None:
    def notes(name: str, **values: object) -> list[str]:
        lines = own_new.new_task({"name": name, **values}, birds / f"{name}.toml")
        return [line for line in lines if line.startswith("note: fewer")]

    assert notes("folds", folder="recordings") == []
    for split, number in (("train", 5), ("valid", 1), ("test", 4)):
        for label in CLASSES:
            for i in range(number + (label == "owl")):
                write_sound(birds / "split" / split / label / f"{i}.wav", CLASSES[label])
    (note,) = notes("split", folder="split")
    assert note.startswith("note: fewer than 5 test clips of some labels (crow 4, wren 4): the confidence")
    assert note.endswith("; add clips"), "folds cannot be set where splits are given"
    (birds / "few").mkdir()
    for number, label in enumerate(CLASSES, start=3):
        for i in range(number):
            write_sound(birds / "few" / label / f"{i}.wav")
    (note,) = notes("few", folder="few")
    assert "(crow 3, owl 4)" in note
    assert note.endswith("; add clips")
    for label in CLASSES:
        for i in range(30):
            write_sound(birds / "drawn" / label / f"{i}.wav")
    (note,) = notes("drawn", folder="drawn")
    assert note.endswith("; add clips, or set folds, which test every clip once")


def test_new_doubts_what_is_no_sound(birds: Path) -> None:
    owls = birds / "recordings" / "owl"
    (owls / "0.wav").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    (owls / "1.wav").write_text("k\u00f6nig " * 100)
    (owls / "2.wav").write_bytes(b"RIFF\0\1\2\3")
    soundfile.write(owls / "3.wav", [], RATE)
    notes = [
        line
        for line in own_new.new_task({"name": "birds", "folder": "recordings"}, birds / "birds.toml")
        if line.startswith("note")
    ]
    assert notes == [
        f"note: 2 sounds are text and no audio, such as {owls}/0.wav, which begins with 'version "
        "https://git-lfs.github.com/spec/'; `prepare` will stop there",
        f"note: 1 sound is damaged or of another format than the name says, such as {owls}/2.wav; `prepare` "
        "stops there if ffmpeg can't read it",
        f"note: 1 sound is without samples, such as {owls}/3.wav",
    ]


@pytest.mark.parametrize("split", ["fold01", "test"])
def test_a_remedy_for_given_splits_leads_to_no_other_error(tmp_path: Path, split: str) -> None:
    names = ("train", "valid", "test") if split == "test" else ("fold00", "fold01", "fold02")
    rows = [
        f"{label}/{name}{copy}.wav,{label},{name}"
        for name in names
        for label in ("crow", "owl", "wren")
        for copy in "abc"
        if (label, name) != ("wren", split)
    ]
    values = {"name": "birds", "table": "clips.csv"}
    file = write_table(tmp_path, "path,label,split", *rows)
    error = (
        rf"split {split}: got no clip of wren.* Add clips of it, move one to {split}, leave the label out, or"
    )
    with pytest.raises(HearevalError, match=error):
        own.load_task(file)
    with pytest.raises(HearevalError, match=error):
        own_new.new_task(values, tmp_path / "new.toml")
    remedies = [
        [*rows, f"wren/more.wav,wren,{split}"],
        [row.replace(f"wren,{names[0]}", f"wren,{split}") if "a.wav" in row else row for row in rows],
        [row for row in rows if "wren" not in row],
    ]
    for number, remedy in enumerate(remedies):
        write_table(tmp_path, "path,label,split", *remedy)
        own_new.new_task(values, tmp_path / f"{number}.toml")
    write_table(tmp_path, "path,label", *(row.rpartition(",")[0] for row in rows))
    own_new.new_task(values, tmp_path / "drawn.toml")


def test_a_remedy_for_drawn_splits_names_folds_that_work(birds: Path) -> None:
    for number in range(3, 10):
        (birds / "recordings" / "owl" / f"{number}.wav").unlink()
    file = write_task(birds, 'folder = "recordings"')
    with pytest.raises(HearevalError, match=r"got no clip of .*owl.*set folds = 3, or give the splits"):
        own.load_task(file)
    own.load_task(write_task(birds, 'folder = "recordings"', "folds = 3"))
    (birds / "recordings" / "owl" / "2.wav").unlink()
    with pytest.raises(HearevalError, match="leave the label out: 2 clips or groups are too few"):
        own.load_task(write_task(birds, 'folder = "recordings"'))


def test_new_writes_nothing_that_prepare_refuses(tmp_path: Path) -> None:
    """Each label has three groups, but site 4 would have to be in the fold of site 3, and c needs both."""
    sites = {"a": "123", "b": "124", "c": "345"}
    rows = [f"{label}{site}.wav,{label},{site}" for label in sites for site in sites[label]]
    write_table(tmp_path, "path,label,group", *rows)
    with pytest.raises(HearevalError, match="drawing 3 folds: got no draw of 1000 with every label"):
        own_new.new_task({"name": "new", "table": "clips.csv", "folds": 3}, tmp_path / "new.toml")
    assert not (tmp_path / "new.toml").exists()


def test_new_doubts_events_after_the_sound_and_times_in_seconds(tmp_path: Path) -> None:
    rows = [f"{i}.wav,owl,{i / 10},{i / 10 + 0.5}" for i in range(10)] + ["3.wav,owl,9000,9100"]
    write_table(tmp_path, "path,label,start_ms,end_ms", *rows)
    lines = own_new.new_task({"name": "owls", "table": "clips.csv"}, tmp_path / "owls.toml")
    assert lines[:2] == [
        "note: 1 of 11 events begin after the end of their sound",
        "note: most events are shorter than 20 ms; are the times in seconds?",
    ]
