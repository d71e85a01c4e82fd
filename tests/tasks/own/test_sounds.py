"""The sounds of users' tasks: class folders, tables, and the errors for wrong ones."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.formats.labels import format_vocabulary
from heareval.spec import Event
from heareval.tasks.own import task as own
from heareval.tasks.own.sounds import find_sounds
from heareval.tasks.splits import labels_of
from tests.tasks.own.birds import (
    rows_of,
    selected_clips,
    splits_by_clip,
    write_birds,
    write_sound,
    write_table,
    write_task,
)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    return write_birds(tmp_path)


# --------------------------------------------------------------------------- class folders


def test_class_folders(birds: Path) -> None:
    recordings = birds / "recordings"
    write_sound(recordings / "owl" / "2024" / "late night.FLAC")
    for ignored in ("notes.txt", "owl/notes.txt", "owl/.hidden.wav"):
        (recordings / ignored).write_text("no sound")
    write_sound(recordings / ".trash" / "old.wav")
    write_sound(recordings / "owl" / ".trash" / "old.wav")
    task = own.load_task(write_task(birds, 'folder = "recordings"', "folds = 5", "clip_duration_s = 0.5"))
    assert (task.name, task.folder("full"), task.default_mode) == ("birds", "birds-v1-full", "full")
    assert (task.embedding_type, task.prediction_type) == ("scene", "multiclass")
    assert task.metrics == ("top1_acc", "mAP", "d_prime", "aucroc")
    assert (task.duration_s("full"), task.modes["full"].clips) == (0.5, 31)
    clips = {clip.clip_id: clip for clip in selected_clips(task).clips}
    assert Counter(clip.labels for clip in clips.values()) == {("crow",): 10, ("owl",): 11, ("wren",): 10}
    assert clips["owl_2024_late night"].path == recordings / "owl" / "2024" / "late night.FLAC"
    assert {len(selected_clips(task).of_split(f"fold{fold:02d}")) for fold in range(5)} == {6, 7}
    assert own.get_sounds(task).left_out == (
        "2 files that are not sounds (such as notes.txt)",
        "1 hidden file (owl/.hidden.wav)",
        "2 hidden folders (such as .trash)",
    )


def test_splits_as_folders(birds: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(birds / "recordings", birds / "split" / split)
    shares = "split_percentages = { train = 45, valid = 45, test = 10 }"
    task = own.load_task(write_task(birds, 'folder = "split"', shares))
    splits = splits_by_clip(task)
    assert Counter(splits.values()) == {"train": 15, "valid": 15, "test": 30}
    assert {split for clip, split in splits.items() if clip.startswith("test_owl_")} == {"test"}


def test_numbers_are_numbers_only_if_all_labels_are(tmp_path: Path) -> None:
    for label in ("1", "2", "10"):
        for number in range(3):
            write_sound(tmp_path / "recordings" / label / f"{number}.wav")
    file = write_task(tmp_path, 'folder = "recordings"', "folds = 3")
    assert "0,1\n1,2\n2,10\n" in format_vocabulary(
        set().union(*map(labels_of, selected_clips(own.load_task(file)).clips))
    )
    (tmp_path / "recordings" / "1").rename(tmp_path / "recordings" / "01")
    assert "0,01\n1,10\n2,2\n" in format_vocabulary(
        set().union(*map(labels_of, selected_clips(own.load_task(file)).clips))
    )


def test_linked_folders(birds: Path) -> None:
    """A collection on two disks; a link may be a class, or lie in one, or in a linked folder."""
    recordings = birds / "recordings"
    for place in ("disk2/owl/deep", "disk3/more"):
        for number in range(4):
            write_sound(birds / place / f"{number}.wav")
    (recordings / "jay").symlink_to(birds / "disk2" / "owl")
    (recordings / "owl" / "site2").symlink_to("../../disk2/owl/deep")
    (birds / "disk2" / "owl" / "deep" / "linked").symlink_to(birds / "disk3" / "more")
    file = write_task(birds, 'folder = "recordings"', "folds = 5")
    counts = Counter(r.labels[0] for r in find_sounds(file, folder="recordings").recordings)
    assert counts == {"crow": 10, "owl": 18, "wren": 10, "jay": 8}
    clips = {clip.clip_id: clip for clip in selected_clips(own.load_task(file)).clips}
    assert clips["owl_site2_linked_3"].path.samefile(birds / "disk3" / "more" / "3.wav")
    assert clips["jay_deep_0"].path.is_file()
    # A change behind a link is a change of the task.
    content = own.load_task(file).content
    write_sound(birds / "disk3" / "more" / "new.wav")
    assert own.load_task(file).content != content


def test_splits_as_linked_folders(birds: Path) -> None:
    (birds / "split").mkdir()
    (birds / "split" / "train").symlink_to("../recordings")
    shutil.copytree(birds / "recordings", birds / "elsewhere")
    (birds / "split" / "test").symlink_to(birds / "elsewhere")
    sounds = find_sounds(birds / "birds.toml", folder="split")
    assert Counter(recording.split for recording in sounds.recordings) == {"train": 30, "test": 30}


@pytest.mark.parametrize(("place", "target"), [("owl/loop", "."), ("owl/loop", "../.."), ("loop", ".")])
def test_links_that_lead_back(birds: Path, place: str, target: str) -> None:
    (birds / "recordings" / place).symlink_to(target)
    with pytest.raises(
        HearevalError, match=r"folder .*/loop.*: got a loop of links, which leads back to .*recordings"
    ):
        own.load_task(write_task(birds, 'folder = "recordings"'))


@pytest.mark.parametrize("place", ["jay", "owl/site2"])
def test_links_to_a_disk_that_is_not_there(birds: Path, place: str) -> None:
    (birds / "recordings" / place).symlink_to("/nowhere/disk2")
    (birds / "recordings" / ".hidden").symlink_to("/nowhere/disk2")
    error = rf"link .*/{place}: got a link to /nowhere/disk2, which does not exist, .* Mount the disk"
    with pytest.raises(HearevalError, match=error):
        own.load_task(write_task(birds, 'folder = "recordings"'))


def test_folders_that_are_left_out(birds: Path) -> None:
    (birds / "recordings" / "owl" / "2023").mkdir()
    (birds / "recordings" / "eagle").mkdir()
    (birds / "recordings" / "jay").mkdir()
    (birds / "recordings" / "jay" / "film.mp4").touch()
    sounds = find_sounds(birds / "birds.toml", folder="recordings")
    assert sounds.left_out == ("1 file that is not a sound (jay/film.mp4)", "2 empty folders (such as eagle)")
    (birds / "films").mkdir()
    (birds / "films" / "owl").mkdir()
    (birds / "films" / "owl" / "film.mp4").touch()
    with pytest.raises(
        HearevalError, match=r"no sounds, .*Left out: 1 file that is not a sound \(owl/film.mp4"
    ):
        find_sounds(birds / "birds.toml", folder="films")


def test_what_is_left_out_of_splits_is_named_with_its_split(birds: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(birds / "recordings", birds / "split" / split)
    (birds / "split" / "valid").mkdir()
    (birds / "split" / "test" / "notes.txt").touch()
    sounds = find_sounds(birds / "birds.toml", folder="split")
    assert sounds.left_out == ("1 file that is not a sound (test/notes.txt)", "1 empty folder (valid)")
    (birds / "nothing").mkdir()
    with pytest.raises(HearevalError, match=r"got no sounds, expected sounds with labels$"):
        find_sounds(birds / "birds.toml", folder="nothing")


def test_folders_that_may_be_splits(birds: Path) -> None:
    for split in ("train", "val", "notes"):
        shutil.copytree(birds / "recordings", birds / "split" / split)
    sounds = find_sounds(birds / "birds.toml", folder="split")
    assert {recording.labels for recording in sounds.recordings} == {("train",), ("val",), ("notes",)}
    assert sounds.doubts[0].startswith("train, val are taken for classes; they would be splits if")


# --------------------------------------------------------------------------- tables


def test_table_from_a_spreadsheet(tmp_path: Path) -> None:
    """With a byte order mark, spaces after commas, and empty rows at the end."""
    write_table(tmp_path, "path,label", *rows_of())
    text = (tmp_path / "clips.csv").read_text().replace(",", ", ")
    (tmp_path / "clips.csv").write_text(text + ",\n\n", encoding="utf-8-sig")
    task = own.load_task(write_task(tmp_path, 'table = "clips.csv"', "folds = 3", 'version = "2.0"'))
    assert task.folder("full") == "birds-2.0-full"
    assert {clip.labels for clip in selected_clips(task).clips} == {("crow",), ("owl",)}
    assert splits_by_clip(task).keys() == {row.split(".")[0].replace("/", "_") for row in rows_of()}


HABITS = {
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "byte order mark": lambda text: "\ufeff" + text,
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "lines of old Macs": lambda text: text.replace("\n", "\r"),
    "empty lines": lambda text: "\n , \n" + text.replace("\n", "\n\n ,\n"),
    "empty columns of Excel": lambda text: text.replace("\n", ",,\n"),
    "empty columns in the header only": lambda text: text.replace("\n", ",,\n", 1),
    "empty cells in some rows": lambda text: text.replace("crow\n", "crow,,\n"),
    "quotation marks": lambda text: '"' + text.strip().replace(",", '","').replace("\n", '"\n"') + '"',
    "index of pandas": lambda text: "".join(f"{n - 1 if n else ''},{line}\n" for n, line in lines_of(text)),
    "index of pandas, read and written again": lambda text: "".join(
        f"{n - 1 if n else 'Unnamed: 0'},{line}\n" for n, line in lines_of(text)
    ),
    "paths of Windows": lambda text: text.replace("/", "\\"),
    "paths with .": lambda text: text.replace("crow/", "./crow/").replace("owl/", "owl/../owl//"),
    "spaces": lambda text: text.replace(",", " ,  ").replace("\n", " \n"),
}


def lines_of(text: str) -> Iterable[tuple[int, str]]:
    return enumerate(text.splitlines())


@pytest.mark.parametrize("habit", HABITS)
def test_tables_as_programs_write_them(tmp_path: Path, habit: str) -> None:
    write_table(tmp_path, "path,label", *rows_of())
    file = write_task(tmp_path, 'table = "clips.csv"', "folds = 3")
    expected = own.load_task(file).read_recordings({}, own.MODE)
    text = (tmp_path / "clips.csv").read_text()
    (tmp_path / "clips.csv").write_text(HABITS[habit](text), newline="")
    task = own.load_task(file)
    assert task.read_recordings({}, own.MODE) == expected
    doubts = own.get_sounds(task).doubts
    assert doubts == (
        ("column 1 of the table has no name and only numbers the rows; it is passed over",)
        if "index" in habit
        else ()
    )


DOUBTS = {
    'a.wav,"low,Tone"\nb.wav,crow': "1 label contains a comma, semicolon or bar, such as 'low,Tone'; a",
    "a.wav,low|Tone\nb.wav,low;Tone": "2 labels contain a comma, semicolon or bar, such as 'low;Tone'",
    "a.wav,Dog\nb.wav,dog": "'Dog' and 'dog' are different labels; should they be one",
    "a.wav,brown  dog\nb.wav,brown dog": "'brown  dog' and 'brown dog' are different labels",
    "a.wav,ko\u0308nig\nb.wav,k\u00f6nig": ".* are different labels; should they be one",
    "a.wav,owl\nlink.wav,crow": "1 file is taken several times, .* such as a.wav and link.wav; such clips",
    "a.wav,owl\n{folder}/a.wav,crow": "1 file is taken several times, .* such as /.*a.wav and a.wav",
}


@pytest.mark.parametrize("rows", DOUBTS)
def test_doubtful_tables(tmp_path: Path, rows: str) -> None:
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "b.wav")
    (tmp_path / "link.wav").symlink_to("a.wav")
    (tmp_path / "clips.csv").write_text(f"path,label\n{rows.format(folder=tmp_path)}\n")
    (doubt,) = find_sounds(tmp_path / "birds.toml", table="clips.csv").doubts
    assert re.match(DOUBTS[rows], doubt)


def test_table_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clips.csv")
    with pytest.raises(HearevalError, match=r"table .*clips.csv: got a FIFO, expected a CSV file"):
        own.load_task(write_task(tmp_path, 'table = "clips.csv"'))


def test_table_in_another_folder_and_sounds_outside_it(tmp_path: Path) -> None:
    write_table(tmp_path / "sounds", "path,label", *rows_of())
    (tmp_path / "lists").mkdir()
    lines = [f"../sounds/{row}" for row in rows_of()[1:]] + [f"{tmp_path}/sounds/{rows_of()[0]}"]
    (tmp_path / "lists" / "clips.csv").write_text("path,label\n" + "\n".join(lines))
    task = own.load_task(write_task(tmp_path, 'table = "lists/clips.csv"', "folds = 3"))
    names = splits_by_clip(task).keys()
    assert "sounds_crow_0b" in names
    assert f"{str(tmp_path)[1:].replace('/', '_')}_sounds_crow_0a" in names


def test_given_splits(tmp_path: Path) -> None:
    names = ("train", "valid", "test")
    rows = [row.replace("split?", names[int(row[-1])])[:-1] for row in rows_of(columns=",split?{fold}")]
    task = own.load_task(write_table(tmp_path, "path,label,split", *rows))
    assert task.splits.mode == "trainvaltest"
    assert splits_by_clip(task)["owl_1b"] == "valid"
    assert Counter(splits_by_clip(task).values()) == {"train": 6, "valid": 6, "test": 6}


def test_given_folds(tmp_path: Path) -> None:
    rows = rows_of(folds=4, columns=",fold0{fold}")
    task = own.load_task(write_table(tmp_path, "path,label,split", *rows))
    assert (task.splits.mode, task.splits.folds) == ("presplit_kfold", 4)
    assert splits_by_clip(task)["owl_3c"] == "fold03"


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [f"{i}.wav,{('crow', 'owl')[i % 2]},site{i // 8}" for i in range(80)]
    file = write_table(tmp_path, "path,label,group", *rows)
    for lines in ((), ("folds = 5",)):
        write_task(tmp_path, 'table = "clips.csv"', *lines)
        splits = splits_by_clip(own.load_task(file))
        of_group = [{splits[f"{i}"] for i in range(first, first + 8)} for first in range(0, 80, 8)]
        assert [len(names) for names in of_group] == [1] * 10
        assert len(set.union(*of_group)) == (5 if lines else 3)


def test_several_rows_are_several_labels(tmp_path: Path) -> None:
    rows = [*rows_of(), "crow/0a.wav,owl"]
    write_table(tmp_path, "path,label", *rows)
    file = write_task(tmp_path, 'table = "clips.csv"', "folds = 3")
    task = own.load_task(file)
    assert (task.prediction_type, task.metrics[0]) == ("multilabel", "mAP")
    assert {frozenset(clip.labels) for clip in selected_clips(task).clips if clip.clip_id == "crow_0a"} == {
        frozenset({"crow", "owl"})
    }
    write_task(tmp_path, 'table = "clips.csv"', "folds = 3", 'kind = "multiclass"')
    with pytest.raises(
        HearevalError, match=r"got multiclass and several labels of .*0a.wav, expected multil"
    ):
        own.load_task(file)


def test_events(tmp_path: Path) -> None:
    rows = [f"{i}.wav,{label},{i},{end}" for i in range(10) for label, end in (("owl", 50.5), ("crow", 900))]
    write_table(tmp_path, "path,label,start_ms,end_ms", *rows)
    task = own.load_task(write_task(tmp_path, 'table = "clips.csv"', "clip_duration_s = 0.1"))
    assert (task.embedding_type, task.prediction_type) == ("event", "multilabel")
    assert task.metrics == ("event_onset_200ms_fms", "segment_1s_er")
    clip = next(clip for clip in selected_clips(task).clips if clip.clip_id == "7")
    assert set(clip.events) == {Event(7.0, 50.5, "owl"), Event(7.0, 100.0, "crow")}


# --------------------------------------------------------------------------- errors

BAD_TABLES = {
    "path,label;group\na.wav,owl;x": "unknown column of .*clips.csv: got 'label;group'",
    'path,label\na.wav,"owl\nb.wav,crow\n': "line 3: got a line break in a cell.* A quotation mark in this",
    "path,label,\na.wav,owl,loud\nb.wav,crow,": "no name of column 3, with cells such as 'loud', expec",
    ",path,label\n1,a.wav,owl\n1,b.wav,crow": "no name of column 1, with cells such as '1'.* Name the column",
    "Unnamed: 0,label\na.wav,owl": "clips.csv: got no column path, expected path, label",
    "path,label\na.wav,owl,": "birds.toml: labels: got only owl",
    "path\na.wav": "clips.csv: got no column label, expected path, label",
    "path,label,start_ms\na.wav,owl,1": "got no column end_ms, expected path, label, start_ms, end_ms",
    "path,labels\na.wav,owl": r"unknown column of .*clips.csv: got 'labels'.* Did you mean label\?",
    "path,label,label\na.wav,owl,owl": "got several columns named label, expected one",
    "path,label": "clips.csv: got no sounds, expected sounds with labels",
    "": "got an empty file, expected a first line that names the columns path, label",
    "path,label\na.wav,owl\nb.wav,owl, small": "line 3: got 3 cells, expected 2 .* needs quotation marks",
    "path,label\na.wav": "line 2: got 1 cells, expected 2 as in the first line$",
    "path,label\na.wav,owl\nb.wav, ": "clips.csv line 3: label: got an empty cell",
    "path,label,split\na.wav,owl,": "clips.csv line 2: split: got an empty cell",
    "path,label\nc.wav,owl": "clips.csv line 2: sound .*c.wav: got no such file",
    "path,label\nx\\c.wav,owl": "line 2: sound .*x/c.wav: got no such file",
    "path,label\nfifo.wav,owl": "line 2: sound .*fifo.wav: got a FIFO, expected an audio file",
    "path,label\nloop.wav,owl": "line 2: sound .*loop.wav: got a loop of links",
    "path,label\nlost.wav,owl": "line 2: sound .*lost.wav: got a link to nowhere, which does not exist",
    "path,label\nempty.wav,owl": "line 2: sound .*empty.wav: got an empty file",
    "path,label\n.,owl": "line 2: sound .*: got a folder, expected an audio file",
    "path,label\na.wav,owl\n./a.wav,owl": "line 3: a.wav: got owl twice, expected each label once",
    "path,label,group\na.wav,owl,x\na.wav,crow,y": "line 3: a.wav: got another split or group than in .*2",
    "path,label\na.wav,owl\na.flac,crow": "clip name 'a': got .*a.flac and .*a.wav, expected one sound",
    "path,label\na.wav,owl\nb.wav,owl": "birds.toml: labels: got only owl, expected two or more",
    "path,label,start_ms,end_ms\na.wav,owl,5,4": "line 2: got start_ms 5 and end_ms 4, expected 0 or later",
    "path,label,start_ms,end_ms\na.wav,owl,-1,4": "line 2: got start_ms -1 and end_ms 4",
    "path,label,start_ms,end_ms\na.wav,owl,nan,4": "line 2: got start_ms nan and end_ms 4",
    'path,label,start_ms,end_ms\na.wav,owl,"1,5",4': "line 2: got could not convert .*'1,5', expected millis",
    "path,label,start_ms,end_ms\na.wav,owl,1,4": "clip_duration_s: got nothing, expected seconds",
    "path,label,split\na.wav,owl,test\nb.wav,crow,test": "splits: got test, expected train as well",
    "path,label,split\na.wav,owl,train\nb.wav,crow,dev": "splits: got dev, train, expected train, test",
    "path,label,split\na.wav,owl,fold00\nb.wav,crow,fold02": "splits: got fold00, fold02, expected",
    "path,label,split,group\na.wav,owl,train,x\nb.wav,crow,test,x": "group x: got test and train, expect",
    "path,label\na.wav,owl\nb.wav,crow": "drawing the valid split: got 2 groups of clips in train",
}


@pytest.mark.parametrize("table", BAD_TABLES)
def test_bad_table(tmp_path: Path, table: str) -> None:
    for name in ("a.wav", "b.wav", "a.flac"):
        write_sound(tmp_path / name)
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "lost.wav").symlink_to("nowhere")
    (tmp_path / "clips.csv").write_text(table)
    with pytest.raises(HearevalError, match=BAD_TABLES[table]):
        own.load_task(write_task(tmp_path, 'table = "clips.csv"'))


@pytest.mark.parametrize(
    "content", ["path,label\na.wav,möwe".encode("latin1"), "path,label".encode("utf-16")]
)
def test_table_in_another_encoding(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(HearevalError, match=r"clips.csv: got 'utf-8' codec .*, expected CSV in UTF-8"):
        own.load_task(write_task(tmp_path, 'table = "clips.csv"'))


def test_sound_without_a_class(birds: Path) -> None:
    write_sound(birds / "recordings" / "dawn.wav")
    with pytest.raises(HearevalError, match=r"sound .*dawn.wav: got no class. Move the file into"):
        own.load_task(write_task(birds, 'folder = "recordings"'))


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only here")
@pytest.mark.parametrize("name", [b"\xff.wav", b"x" * 245 + b".wav"])
def test_names_that_no_clip_can_have(birds: Path, name: bytes) -> None:
    source = os.fsencode(birds / "recordings" / "owl")
    shutil.copy(source + b"/0.wav", source + b"/" + name)
    with pytest.raises(HearevalError, match="expected UTF-8 with at most 240 bytes"):
        own.load_task(write_task(birds, 'folder = "recordings"'))
