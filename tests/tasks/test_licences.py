"""Licences: one for every task, LICENSE.txt in folders and tarballs, and corpora that are never packed."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from heareval import files, layout
from heareval.commands import main
from heareval.errors import HearevalError
from heareval.formats.licence import UNKNOWN
from heareval.formats.task_folder import fingerprint_task_folder
from heareval.formats.task_manifest import read_task_manifest, write_task_manifest
from heareval.tasks import licences, tarball
from heareval.tasks.licences import CORPORA, CORPUS_OF, compose_license_text, find_licence
from heareval.tasks.registry import all_tasks, find_task
from heareval.workflow.jobs import CorpusRequest, find_jobs
from tests.commands import SPOKEN, checksums, command, prepare

TAR = f"hear-2021.1.1-{SPOKEN}-16000.tar.gz"
TEXT = compose_license_text(find_task("spoken_digit"), "full")


@pytest.mark.parametrize("name", all_tasks())
def test_every_task_has_a_licence_and_a_citation(name: str) -> None:
    task = all_tasks()[name]
    for mode in task.modes:
        licence = find_licence(task, mode)
        assert licence.spdx == UNKNOWN or re.fullmatch(r"[A-Za-z]+[A-Za-z0-9.-]*-[0-9.]+", licence.spdx)
        assert licence.name
        assert mode == "demo" or (licence.url and licence.citation)
        text = compose_license_text(task, mode)
        assert text.startswith(f"The sounds of {task.folder(mode)}\n\nLicence: {licence.name}\n")
        assert max(map(len, text.splitlines())) <= 100
        assert licence.citation in " ".join(text.split())


@pytest.mark.parametrize("name", all_tasks())
def test_the_text_says_what_the_other_files_were_made_from(name: str) -> None:
    task = all_tasks()[name]
    text = " ".join(compose_license_text(task, task.default_mode).split())
    assert ("JSON and CSV files were written from the labels" in text) is not task.is_pairwise
    assert ("relations.json says which clips are compared" in text) is task.is_pairwise


def test_every_corpus_has_a_task() -> None:
    assert set(CORPUS_OF.values()) == set(CORPORA)


def test_what_has_no_licence_says_why() -> None:
    assert [name for name, each in CORPORA.items() if each.spdx == UNKNOWN and not each.note] == []
    assert [name for name, each in CORPORA.items() if not each.may_be_packed] == ["timbre_metrics"]


def test_the_list_of_tasks_as_json(tmp_path: Path) -> None:
    listed = json.loads(command(tmp_path, "heareval", "tasks", "list", "--json").stdout)
    assert [task["name"] for task in listed] == list(all_tasks())
    esc50 = next(task for task in listed if task["name"] == "esc50")
    assert esc50["licence"] == asdict(CORPORA["esc50"])
    assert esc50["modes"] == ["full", "small"]


def test_folder_and_tarball_have_the_licence(prepared: Path) -> None:
    folder = prepared / "tasks" / SPOKEN
    assert (folder / layout.LICENSE).read_text() == TEXT
    assert "SPDX: CC-BY-SA-4.0 (https://spdx.org/licenses/CC-BY-SA-4.0.html)" in TEXT
    assert "cut or padded with zeros to 0.56 s" in TEXT
    assert read_task_manifest(folder).licence == CORPORA["fsdd"]
    with tarfile.open(prepared / "tars" / TAR) as archive:
        names = archive.getnames()
        assert names[0] == f"hear-2021.1.1/tasks/{SPOKEN}/LICENSE.txt"
        assert names.count(names[0]) == 1
        assert archive.extractfile(names[0]).read().decode() == TEXT


def make_it_an_earlier_folder(folder: Path) -> None:
    """Remove what the version before licences did not write."""
    task = folder / "tasks" / SPOKEN
    (task / layout.LICENSE).unlink()
    manifest = read_task_manifest(task)
    digests = {name: each for name, each in manifest.digests.items() if name != layout.LICENSE}
    write_task_manifest(task, replace(manifest, licence=None, digests=digests))


def test_an_earlier_folder_stays_and_its_tarball_gets_the_licence(
    prepared: Path, mirror: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    make_it_an_earlier_folder(folder)
    for record in (folder / "tars" / ".manifests").glob("*.json"):
        files.write_json(record, {**files.read_json(record), "fingerprint": "0123456789abcdef"})
    before = (folder / "tasks" / SPOKEN / files.MANIFEST).read_bytes()
    done = prepare(folder, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("4 steps done")
    assert (folder / "tasks" / SPOKEN / files.MANIFEST).read_bytes() == before
    assert checksums(folder) == checksums(prepared)
    assert command(folder, "heareval", "verify").returncode == 0


def test_an_earlier_folder_gets_the_licence_with_its_next_rate(
    prepared: Path, mirror: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    make_it_an_earlier_folder(folder)
    assert prepare(folder, mirror, "spoken_digit", "--sample-rate", "32000").returncode == 0
    assert (folder / "tasks" / SPOKEN / layout.LICENSE).read_text() == TEXT
    assert command(folder, "heareval", "verify").returncode == 0


def test_an_unpacked_task_is_the_same_with_and_without_the_licence(prepared: Path, tmp_path: Path) -> None:
    with tarfile.open(prepared / "tars" / TAR) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / "hear-2021.1.1" / "tasks" / SPOKEN
    with_licence = fingerprint_task_folder(folder, 16000)
    (folder / layout.LICENSE).unlink()
    assert fingerprint_task_folder(folder, 16000) == with_licence
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,0\n")
    assert fingerprint_task_folder(folder, 16000) != with_licence


def test_a_tarball_without_the_licence_is_adopted(prepared: Path, tmp_path: Path) -> None:
    name = f"hear-2021.1.1-{SPOKEN}-48000.tar.gz"
    with (
        tarfile.open(prepared / "tars" / name) as ours,
        tarfile.open(tmp_path / f"hear2021-{SPOKEN}-48000.tar.gz", "w:gz") as theirs,
    ):
        for member in ours:
            if not member.name.endswith(layout.LICENSE):
                theirs.addfile(member, ours.extractfile(member) if member.isfile() else None)
    words = ("spoken_digit", "--from-published", ".", "--sample-rate", "48000")
    done = command(tmp_path, "heareval", "prepare", *words)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tasks" / SPOKEN / layout.LICENSE).read_text() == TEXT
    assert checksums(tmp_path)[name] == checksums(prepared)[name]


def test_another_licence_gives_another_tarball(tmp_path: Path) -> None:
    clip = tmp_path / "task" / "16000" / "test" / "a.wav"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"sound")
    (tmp_path / "task" / layout.LICENSE).write_text("of an earlier version")
    one, other = (tarball.pack(tmp_path / "task", 16000, tmp_path / "a.tar.gz", text) for text in "ab")
    assert one != other
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert archive.extractfile("hear-2021.1.1/tasks/task/LICENSE.txt").read() == b"b"


# --------------------------------------------------------------------------- corpora that are never packed


@pytest.fixture
def unpackable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """spoken_digit as if its corpus could not be redistributed, and an empty folder to work in."""
    secret = replace(CORPORA["fsdd"], may_be_packed=False)
    monkeypatch.setattr(licences, "CORPORA", {**CORPORA, "fsdd": secret})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(mirror: Path, *words: str) -> list[str]:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    done = CliRunner().invoke(main, [*words, *sums, "--sample-rate", "16000"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


LINE = f"no tarballs of {SPOKEN}: the corpus may not be redistributed"


def test_a_corpus_that_may_not_be_redistributed_is_not_packed(unpackable: Path, mirror: Path) -> None:
    kept = unpackable / "tars" / TAR
    kept.parent.mkdir()
    kept.write_text("somebody's own")
    words = ("prepare", "spoken_digit", "--num-workers", "1")
    lines = run(mirror, *words)
    assert lines[-2] == LINE
    assert lines[-1].endswith("; task folders are in tasks")
    assert [path.name for path in (unpackable / "tars").iterdir()] == [TAR]
    assert kept.read_text() == "somebody's own"
    manifest = read_task_manifest(unpackable / "tasks" / SPOKEN)
    assert manifest.licence is not None
    assert not manifest.licence.may_be_packed
    assert (unpackable / "tasks" / SPOKEN / layout.LICENSE).is_file()
    again = run(mirror, *words)
    assert again[-2] == LINE
    assert again[-1].startswith("nothing to do")
    done = CliRunner().invoke(main, ["verify"])
    assert done.exit_code == 0, done.output


def test_the_plan_says_what_is_not_packed(unpackable: Path, mirror: Path) -> None:
    assert LINE in run(mirror, "plan", "spoken_digit")
    planned = json.loads("\n".join(run(mirror, "plan", "spoken_digit", "--json")))
    (task,) = planned["tasks"]
    assert (task["may_be_packed"], task["tarballs"]["bytes"]) == (False, 0)


def test_a_task_that_is_never_packed_is_not_adopted(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"timbre_similarity-\w+-full: got a task that has no tarballs"):
        find_jobs(CorpusRequest(("timbre_similarity",), from_published=str(tmp_path)))


def test_what_may_be_packed_is_packed_beside_it(unpackable: Path, mirror: Path) -> None:
    lines = run(mirror, "prepare", "spoken_digit", "dcase2016_task2", "--num-workers", "1")
    assert lines[-2] == LINE
    assert lines[-1].endswith("; tarballs and SHA256SUMS are in tars")
    assert {name.split("-")[2] for name in checksums(unpackable)} == {"dcase2016_task2"}
