"""Errors for unexpected content of corpora, and rows that the tasks exclude."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.tasks import audio, metadata
from heareval.tasks.corpora import (
    beehive_states,
    coughvid,
    esc50,
    fsd50k,
    gunshot_triangulation,
    libricount,
    maestro,
    mridangam,
    nsynth_pitch,
    tfds_crema_d,
    tfds_gtzan,
    vocal_imitation,
)
from tests import stand_ins
from tests.stand_ins import write_tree


def test_mridangam_with_an_unknown_stroke(tmp_path: Path) -> None:
    folder = write_tree({"mridangam_stroke_1.5/B/1__x__boom-b-001.wav": b""}, tmp_path)
    with pytest.raises(HearevalError, match=r"stroke in 1__x__boom-b-001\.wav: got boom, expected bheem"):
        list(mridangam.read_recordings({"train": folder}, "full", kind="stroke"))
    assert [r.labels for r in mridangam.read_recordings({"train": folder}, "full", kind="tonic")] == [("b",)]


def test_vocal_imitation_without_a_row(tmp_path: Path) -> None:
    table = "imitation_filename\treference_filename\tincluded\na.wav\tx, y.wav\t1\nb.wav\tz.wav\t0\n"
    root = "VocalImitationSet"
    tree = {f"{root}/vocal_imitations.txt": table.encode(), f"{root}/vocal_imitations/included/a.wav": b""}
    folder = write_tree(tree, tmp_path)
    found = list(vocal_imitation.read_recordings({"train": folder}, "full"))
    assert [r.labels for r in found] == [("x, y.wav",)]
    twice = {f"{root}/vocal_imitations.txt": (table + "a.wav\tz.wav\tTrue\n").encode()}
    with pytest.raises(HearevalError, match=r"imitation a\.wav: got two included rows"):
        list(vocal_imitation.read_recordings({"train": write_tree({**tree, **twice}, tmp_path)}, "full"))
    write_tree(tree, tmp_path)
    write_tree({f"{root}/vocal_imitations/included/deep/b.wav": b""}, tmp_path)
    with pytest.raises(HearevalError, match=r"imitation b\.wav: got no included row"):
        list(vocal_imitation.read_recordings({"train": folder}, "full"))


def test_coughs_above_the_threshold_with_a_status(tmp_path: Path) -> None:
    rows = ["a,0.8,healthy", "b,0.8001,healthy", "c,0.9,", "d,,healthy", "e,0.99,COVID-19"]
    tree = {f"public_dataset/{name}.webm": b"" for name in "abcde"}
    tree["public_dataset/metadata_compiled.csv"] = "\n".join(["uuid,cough_detected,status", *rows]).encode()
    tree["public_dataset/e.json"] = b"{}"
    found = coughvid.read_recordings({"train": write_tree(tree, tmp_path)}, "full")
    assert {r.clip_id: r.labels for r in found} == {"b": ("healthy",), "e": ("COVID-19",)}


def test_beehive_labels_come_from_the_bare_name(tmp_path: Path) -> None:
    tree = {"NO/x_QueenBee.wav": b"", "a/b/x_NO_QueenBee.wav": b"", "a/no.wav": b""}
    folder = write_tree(tree, tmp_path)
    found = beehive_states.read_recordings({"hive3/1": folder}, "full", train="hive1")
    assert {(r.clip_id, *r.labels, r.split) for r in found} == {
        ("x_QueenBee", "QUEEN", "test"),
        ("x_NO_QueenBee", "NOQUEEN", "test"),
        ("no", "QUEEN", "test"),
    }


def fsd50k_archives(folder: Path, dev: str, clips: dict) -> dict[str, Path]:
    truth = {"FSD50K.ground_truth/dev.csv": dev, "FSD50K.ground_truth/eval.csv": "fname,labels,mids\n"}
    facts = {f"FSD50K.metadata/{part}_clips_info_FSD50K.json": json.dumps(clips) for part in ("dev", "eval")}
    trees = {"ground_truth": truth, "source_metadata": facts, "train": {}, "test": {}}
    return {
        key: write_tree({name: text.encode() for name, text in tree.items()}, folder / key)
        for key, tree in trees.items()
    }


def test_fsd50k_needs_its_excluded_clips_and_every_uploader(tmp_path: Path) -> None:
    rows = [f"{name},Bark,m,train\n" for name in sorted(fsd50k.EXCLUDED)] + ['7,"Bark,Dog","m,n",val\n']
    whole = "fname,labels,mids,split\n" + "".join(rows)
    archives = fsd50k_archives(tmp_path / "whole", whole, {"7": {"uploader": "me"}})
    found = list(fsd50k.read_recordings(archives, "full"))
    assert [(r.clip_id, r.labels, r.split, r.group) for r in found] == [("7", ("Bark", "Dog"), "valid", "me")]
    with pytest.raises(HearevalError, match=r"clip 7 of dev\.csv: got no entry"):
        list(fsd50k.read_recordings(fsd50k_archives(tmp_path / "a", whole, {}), "full"))
    short = whole.replace(rows[0], "")
    archives = fsd50k_archives(tmp_path / "b", short, {"7": {"uploader": "me"}})
    with pytest.raises(
        HearevalError, match=r"dev\.csv: got no 121351, expected the clips that HEAR leaves out"
    ):
        list(fsd50k.read_recordings(archives, "full"))


def test_gunshots_that_are_too_few(tmp_path: Path) -> None:
    silence = np.zeros(gunshot_triangulation.MARKS["mic1raw"], np.int16)
    audio.write_wav(tmp_path / "mic1raw.wav", silence, 48000)
    archives = dict.fromkeys(gunshot_triangulation.MARKS, tmp_path)
    with pytest.raises(HearevalError, match=r"mic1raw\.wav: got 0 shots, expected 22"):
        list(gunshot_triangulation.read_recordings(archives, "full"))


def test_gunshots_at_another_rate(tmp_path: Path) -> None:
    stand_ins.gunshot_recordings(tmp_path)
    audio.write_wav(tmp_path / "mic3raw.wav", np.zeros(10, np.int16), 96000)
    archives = dict.fromkeys(gunshot_triangulation.MARKS, tmp_path)
    with pytest.raises(HearevalError, match=r"mic3raw\.wav: got 96000 Hz, expected 48000 Hz"):
        list(gunshot_triangulation.read_recordings(archives, "full"))


def test_what_macos_leaves_in_archives(tmp_path: Path) -> None:
    names = ("test/1_a.wav", "test/._1_a.wav", "test/__MACOSX/._2_b.wav", "test/__MACOSX/3_c.wav")
    folder = write_tree(dict.fromkeys(names, b""), tmp_path)
    assert [r.clip_id for r in libricount.read_recordings({"train": folder}, "full")] == ["1_a"]


def test_labels_that_a_task_cannot_have(tmp_path: Path) -> None:
    names = ("blues/blues.00000.wav", "polka/polka.00000.wav")
    for name in names:
        path = write_tree({f"genres/{name}": b""}, tmp_path) / "genres" / name
        audio.write_wav(path, np.ones(10, np.int16), tfds_gtzan.NATIVE_RATE_HZ)
    task = tfds_gtzan.TASK
    with pytest.raises(HearevalError, match=r"tfds_gtzan: .*: got labels \{'polka'\}, expected blues"):
        metadata.select_clips(task, "full", task.read_recordings({"train": tmp_path}, "full"))


def test_tables_of_another_form(tmp_path: Path) -> None:
    """A byte order mark is ignored; a missing column is a one-line error, not a traceback."""
    table = tmp_path / "ESC-50-master" / "meta" / "esc50.csv"
    table.parent.mkdir(parents=True)
    table.write_text("filename,fold,category\na.wav,1,dog\n", encoding="utf-8-sig")
    assert [r.split for r in esc50.read_recordings({"all_folds": tmp_path}, "full")] == ["fold00"]
    table.write_text("name,fold,category\na.wav,1,dog\n")
    with pytest.raises(HearevalError, match=r"esc50: labels: got KeyError: 'filename', expected the tables"):
        metadata.select_clips(esc50.TASK, "full", esc50.read_recordings({"all_folds": tmp_path}, "full"))


def test_maestro_notes_and_table_must_belong_together(tmp_path: Path) -> None:
    folder = write_tree(stand_ins.CORPORA["maestro"]()["maestro-v3.0.0-small.zip"], tmp_path)
    table = folder / "maestro-v3.0.0" / "maestro-v3.0.0.csv"
    assert len(list(maestro.read_recordings({"train_test_valid": folder}, "small"))) == 6
    rows = [line.rsplit(",", 1) for line in table.read_text(encoding="utf-8").splitlines()]
    longer = [f"{start},{float(seconds) + 0.06}" for start, seconds in rows[1:]]
    table.write_text("\n".join([",".join(rows[0]), *longer]), encoding="utf-8")
    with pytest.raises(
        HearevalError, match=r"table and last note: got 0\.060 s apart, expected less than 0\.05"
    ):
        list(maestro.read_recordings({"train_test_valid": folder}, "small"))


def test_crema_d_takes_addresses_and_sums_from_the_list(tmp_path: Path) -> None:
    table = '"",FileName\n"1",1001_IEO_ANG_XX\n"2","1002_IEO_SAD_XX"\n"3",1040_ITH_SAD_XX\n"4",""\n'
    sums = f"http://x/y/1001_IEO_ANG_XX.wav 12 {'a' * 64}\n"
    archives = {
        "summary": write_tree({"summaryTable.csv": table.encode()}, tmp_path / "a"),
        "checksums": write_tree({"crema_d.txt": sums.encode()}, tmp_path / "b"),
    }
    first, second = tfds_crema_d.listed_files(archives)
    assert (first.url, first.checksum) == ("http://x/y/1001_IEO_ANG_XX.wav", "a" * 64)
    assert second.url.endswith("/AudioWAV/1002_IEO_SAD_XX.wav")
    assert second.checksum == ""
    write_tree({"crema_d.txt": f"http://x/summaryTable.csv 9 {'0' * 64}\n".encode()}, tmp_path / "b")
    with pytest.raises(HearevalError, match=r"summaryTable\.csv of crema_d: got SHA-256 .*, expected 0000"):
        list(tfds_crema_d.listed_files(archives))


def test_nsynth_leaves_out_what_no_piano_plays(tmp_path: Path) -> None:
    notes = {str(p): {"pitch": p, "note_str": f"organ_001-{p:03d}-100"} for p in (20, 21, 108, 109)}
    archives = {
        split: write_tree({f"nsynth-{split}/examples.json": json.dumps(notes).encode()}, tmp_path / split)
        for split in ("train", "valid", "test")
    }
    found = list(nsynth_pitch.read_recordings(archives, "5h"))
    assert {(*r.labels, r.group) for r in found} == {(21, "organ_001"), (108, "organ_001")}
