"""MANIFEST.json of task folders, and the records of tarballs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.licence import Licence
from heareval.formats.tarball_record import (
    TarballRecord,
    find_tarball_record,
    read_tarball_record,
    write_tarball_record,
)
from heareval.formats.task_manifest import (
    Archive,
    SkippedClip,
    TaskManifest,
    find_task_manifest,
    read_corpus_facts,
    read_task_manifest,
    write_task_manifest,
)
from tests.formats.folders import EMBEDDINGS_MANIFEST, TASK_MANIFEST, write_json

WITHOUT_NEWER_KEYS = {key: TASK_MANIFEST[key] for key in ("fingerprint", "clips", "sample_rates")}


def test_plain_values(tmp_path: Path) -> None:
    write_json(tmp_path / "MANIFEST.json", {**TASK_MANIFEST, "of_a_later_version": 1})
    manifest = read_task_manifest(tmp_path)
    assert manifest == TaskManifest(
        fingerprint="0123456789abcdef",
        task="tones",
        mode="full",
        engine="soxr",
        tarball=None,
        is_the_published_corpus=None,
        archives=(Archive("tones.zip", "00" * 16, None),),
        clips={"train": 2, "valid": 2, "test": 2},
        dropped=("lost",),
        warnings=("split valid lacks 1 of 2 labels: low",),
        skipped=(SkippedClip("train", "bad", "no samples"),),
        versions={"heareval": "0.1.0", "python": "3.11.7"},
        sample_rates=(16000, 48000),
        rates_of_other_clips=(),
    )
    write_task_manifest(tmp_path, manifest)
    assert (tmp_path / "MANIFEST.json").read_text() == files.dump_json(TASK_MANIFEST), "byte for byte"


def test_the_licence_is_written_and_read_back(tmp_path: Path) -> None:
    licence = Licence("CC0-1.0", "CC0", "https://host.org", "Somebody, 2020.", may_be_packed=False, note="!")
    write_json(tmp_path / "MANIFEST.json", TASK_MANIFEST)
    write_task_manifest(tmp_path, replace(read_task_manifest(tmp_path), licence=licence))
    assert read_task_manifest(tmp_path).licence == licence
    values = files.read_json(tmp_path / "MANIFEST.json")
    assert values["licence"] == asdict(licence)
    write_json(tmp_path / "MANIFEST.json", {**values, "licence": {**values["licence"], "may_be_packed": 1}})
    with pytest.raises(HearevalError, match=r"MANIFEST\.json: licence: may_be_packed: got 1, expected "):
        read_task_manifest(tmp_path)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    assert find_task_manifest(tmp_path) is None
    assert read_corpus_facts(tmp_path) == {}
    with pytest.raises(HearevalError, match=r"MANIFEST\.json: got no such file"):
        read_task_manifest(tmp_path)


def test_a_manifest_of_an_older_version(tmp_path: Path) -> None:
    write_json(tmp_path / "MANIFEST.json", WITHOUT_NEWER_KEYS)
    manifest = read_task_manifest(tmp_path)
    assert (manifest.archives, manifest.skipped, manifest.tarball) == ((), (), None)
    assert read_corpus_facts(tmp_path) == {}


def test_corpus_facts_are_those_of_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "MANIFEST.json", TASK_MANIFEST)
    keys = ["archives", "tarball", "engine", "is_the_published_corpus", "warnings", "skipped"]
    facts = read_corpus_facts(tmp_path)
    assert list(facts) == keys
    assert dict(facts) == {key: TASK_MANIFEST[key] for key in keys}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": None}, "fingerprint: got null, expected text"),
        ({"fingerprint": ""}, "fingerprint: got '', expected hex digits"),
        ({"clips": {"train": "2"}}, "clips: got .*, expected an object of whole numbers"),
        ({"clips": None}, "clips: got null"),
        ({"sample_rates": "16000"}, "sample_rates: got '16000', expected a list of whole numbers"),
        ({"sample_rates": None}, "sample_rates: got null"),
        ({"archives": [{"name": 3}]}, r"archives\[0\]: name: got 3, expected text"),
        ({"archives": [{"name": "a", "published": "yes"}]}, r"archives\[0\]: published: got 'yes'"),
        ({"skipped": ["train/bad"]}, "skipped: got .*, expected a list of objects"),
        ({"skipped": [{"split": "train"}]}, r"skipped\[0\]: clip_id: got nothing"),
        ({"tarball": 3}, "tarball: got 3, expected text"),
        ({"versions": {"numpy": 2}}, "versions: numpy: got 2, expected text"),
    ],
)
def test_wrong_values(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "MANIFEST.json", {**TASK_MANIFEST, **change})
    with pytest.raises(HearevalError, match=rf"/MANIFEST\.json: {message}.*Remove the task folder"):
        read_task_manifest(tmp_path)


def test_a_manifest_of_embeddings_or_another_program(tmp_path: Path) -> None:
    for manifest in (EMBEDDINGS_MANIFEST, {"name": "tones", "files": ["a.wav"]}, {}):
        write_json(tmp_path / "MANIFEST.json", manifest)
        with pytest.raises(HearevalError, match=r"/MANIFEST\.json: .*Remove the task folder"):
            find_task_manifest(tmp_path)


def test_tarball_records(tmp_path: Path) -> None:
    tarball = tmp_path / "a.tar.gz"
    assert find_tarball_record(tarball) is None
    record = TarballRecord("00" * 32, 12, ("a.tar.gz", "b.tar.gz"), "0123456789abcdef", 0.5)
    layout.tar_manifest(tarball).parent.mkdir()
    write_tarball_record(tarball, record)
    assert find_tarball_record(tarball) == record
    keys = ["sha256", "bytes", "names", "fingerprint", "seconds"]
    assert list(files.read_json(layout.tar_manifest(tarball))) == keys
    write_json(layout.tar_manifest(tarball), {"sha256": "00", "names": "a.tar.gz", "fingerprint": "0"})
    with pytest.raises(HearevalError, match=r"a\.tar\.gz\.json: names: got 'a\.tar\.gz', expected a list"):
        read_tarball_record(layout.tar_manifest(tarball))
