"""Clips, embeddings and tarballs that another program changes, as a submission could."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from heareval import files
from heareval.api import Places, verify
from heareval.formats.digests import FileDigest, check_unchanged, digest_file, find_changes
from tests.commands import MODEL, SPOKEN, command, only_line

EMBED = ("heareval", "embed")
CLIP = Path("tasks", SPOKEN, "16000", "fold03")
# It overwrites the first clip of fold03, with audio of the same length, when it embeds.
HOSTILE = (
    MODEL
    + """
import os, pathlib
SCENES = get_scene_embeddings

def get_scene_embeddings(audio, model):
    path = sorted(pathlib.Path(os.environ["TARGET"]).glob("*.wav"))[0]
    path.chmod(0o644)
    sound = path.read_bytes()
    path.write_bytes(sound[:44] + bytes(len(sound) - 44))
    return SCENES(audio, model)
"""
)


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """Task folder and tarballs, and a model."""
    for name in ("tasks", "tars"):
        shutil.copytree(prepared / name, tmp_path / name)
    (tmp_path / "my_model.py").write_text(MODEL)
    return tmp_path


@pytest.fixture(scope="module")
def embedded_once(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with embeddings."""
    folder = tmp_path_factory.mktemp("embedded")
    for name in ("tasks", "tars"):
        shutil.copytree(prepared / name, folder / name)
    (folder / "my_model.py").write_text(MODEL)
    done = command(folder, *EMBED, "my_model")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def embedded(embedded_once: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    return shutil.copytree(embedded_once, tmp_path / "embedded")


def test_a_file_is_compared_by_size_and_time_then_by_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("mine")
    digests = {"a": digest_file(path)}
    assert digest_file(path, "feed") == FileDigest("feed", 4, path.stat().st_mtime_ns)
    os.utime(path, ns=(0, 0))
    assert list(find_changes(tmp_path, digests)) == []
    path.write_text("your")
    assert list(find_changes(tmp_path, digests)) == ["a: other content"]
    os.utime(path, ns=(0, digests["a"].mtime_ns))
    assert list(find_changes(tmp_path, digests)) == []
    assert list(find_changes(tmp_path, digests, is_thorough=True)) == ["a: other content"]
    path.write_text("longer")
    assert list(find_changes(tmp_path, digests)) == ["a: 6 bytes instead of 4"]
    path.unlink()
    with pytest.raises(Exception, match=rf"^{tmp_path}: got files .* \(a: no such file\), .* Look\.$"):
        check_unchanged(tmp_path, digests, "Look.")


def test_a_submission_that_overwrites_clips_is_told(folder: Path) -> None:
    (folder / "hostile.py").write_text(HOSTILE)
    line = only_line(command(folder, *EMBED, "hostile", TARGET=str(folder / CLIP)))
    first = sorted((folder / CLIP).glob("*.wav"))[0].name
    assert f"16000: got files that another program has changed (fold03/{first}: other content)" in line
    assert not (folder / "embeddings" / "hostile" / SPOKEN).exists()
    # The next submission doesn't pay for it.
    assert "another program has changed" in only_line(command(folder, *EMBED, "my_model"))
    done = command(folder, "heareval", "verify")
    assert done.returncode == 1
    assert f"tasks/{SPOKEN}: 1 of " in done.stdout
    assert f"  16000/fold03/{first}: other content\n" in done.stdout


def test_a_clip_is_not_published_again_after_it_was_changed(mirror: Path, tmp_path: Path) -> None:
    """The clips in the work folder are the same files."""
    words = ("heareval", "prepare", "spoken_digit", "--mirror", str(mirror))
    words += ("--accept-checksums", str(mirror / "MD5SUMS"), "--sample-rate", "16000")
    assert command(tmp_path, *words).returncode == 0
    clip = sorted((tmp_path / CLIP).glob("*.wav"))[0]
    clip.chmod(0o644)
    with open(clip, "r+b") as stream:
        stream.seek(44)
        stream.write(b"noise")
    line = only_line(command(tmp_path, *words, "--sample-rate", "22050"))
    assert f"(fold03/{clip.name}: other content)" in line
    shutil.rmtree(tmp_path / "tasks")
    line = only_line(command(tmp_path, *words))
    assert f"(16000/fold03/{clip.name}: other content)" in line
    remedy = re.search(r"Remove (\S+/shard00\d-\w+), and run again\.", line)
    assert remedy, line
    shutil.rmtree(remedy[1])
    assert command(tmp_path, *words).returncode == 0
    assert all(each.files and not each.changes for each in verify(_places(tmp_path)))


def test_overwritten_embeddings_are_told(embedded: Path) -> None:
    made = embedded / "embeddings" / "my_model" / SPOKEN
    probe = ("heareval", "predict", str(made), "--probe", "knn-cosine")
    array = np.load(made / "fold02.npy")
    np.save(made / "fold02.npy", np.zeros_like(array))
    assert "(fold02.npy: other content)" in only_line(command(embedded, *probe))
    np.save(made / "fold02.npy", array)
    labels = (made / "fold00.json").read_text()
    (made / "fold00.json").write_text(labels.replace("  4\n", "  1\n"))
    assert "(fold00.json: other content)" in only_line(command(embedded, *probe))
    (made / "fold00.json").write_text(labels)
    assert command(embedded, *probe).returncode == 0


def test_everything_is_verified(embedded: Path) -> None:
    done = command(embedded, "heareval", "verify")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 10, lines
    assert all(line.endswith("ok") for line in lines)
    tarball = next((embedded / "tars").glob("hear-LATEST-*-16000.tar.gz"))
    tarball.write_bytes(tarball.read_bytes()[:-1])
    assert [each.path for each in verify(_places(embedded)) if each.changes] == [tarball]


def test_overwritten_predictions_are_told(embedded: Path) -> None:
    made = embedded / "embeddings" / "my_model" / SPOKEN
    assert command(embedded, "heareval", "predict", str(made), "--probe", "linear").returncode == 0
    path = made / "test.probe-linear.predictions.npz"
    with np.load(path) as stored:
        members = dict(stored)
    np.savez(path, **{**members, "fold02/predictions": members["fold02/predictions"] * 0.5})
    told = f"({path.name}: {path.stat().st_size} bytes instead of "
    assert told in only_line(command(embedded, "heareval", "report", str(made)))
    (made / "fold01.json").write_text("[]")
    (embedded / "embeddings" / "my_model" / "other").mkdir()
    shutil.copy(made / "task_metadata.json", embedded / "embeddings" / "my_model" / "other")
    changed = {each.path.name: each.changes for each in verify(_places(embedded)) if each.changes}
    assert list(changed) == [SPOKEN]
    assert [change.split(":")[0] for change in changed[SPOKEN]] == ["fold01.json", path.name]
    (made / files.MANIFEST).unlink()
    changed = {each.path.name: each.changes for each in verify(_places(embedded)) if each.changes}
    assert "MANIFEST.json: got no such file, expected the digests of the embeddings" in changed[SPOKEN][0]


def test_a_damaged_manifest_does_not_hide_other_changes(folder: Path) -> None:
    shutil.copytree(folder / "tasks" / SPOKEN, folder / "tasks" / "another")
    (folder / "tasks" / "another" / files.MANIFEST).write_text("[]")
    clip = sorted((folder / CLIP).glob("*.wav"))[0]
    clip.unlink()
    changed = {each.path.name: each.changes for each in verify(_places(folder)) if each.changes}
    assert "MANIFEST.json: got [], expected a JSON object" in changed["another"][0]
    assert changed[SPOKEN] == (f"16000/fold03/{clip.name}: no such file",)


def test_a_damaged_record_of_a_tarball_does_not_hide_other_changes(folder: Path) -> None:
    sidecar = min((folder / "tars" / ".manifests").glob("*.json"))
    shutil.copy(sidecar, sidecar.with_name("zzz.json"))
    sidecar.write_text("[]")
    tarball = folder / "tars" / files.read_json(sidecar.with_name("zzz.json"))["names"][0]
    tarball.write_bytes(b"")
    changed = {each.path.name: each.changes for each in verify(_places(folder)) if each.changes}
    assert "got [], expected a JSON object" in changed[sidecar.name][0]
    assert "0 bytes instead of" in changed[tarball.name][0]


def test_folders_of_earlier_versions_have_no_digests(folder: Path) -> None:
    manifest = folder / "tasks" / SPOKEN / files.MANIFEST
    values = files.read_json(manifest)
    del values["digests"]
    files.write_json(manifest, values)
    for path in (folder / "tasks").rglob("DIGESTS.json"):
        path.unlink()
    assert command(folder, *EMBED, "my_model").returncode == 0
    assert f"tasks/{SPOKEN}: no digests were recorded" in command(folder, "heareval", "verify").stdout


def test_nothing_to_verify(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval", "verify"))
    assert "folders tasks, tars, embeddings: got none of them, expected what heareval has made" in line


def _places(folder: Path) -> Places:
    return Places(*(str(folder / name) for name in ("_workdir", "tasks", "tars", "embeddings")))


def test_a_folder_without_its_description_is_verified(tmp_path: Path) -> None:
    made = tmp_path / "embeddings" / "mine" / SPOKEN
    made.mkdir(parents=True)
    removed = {"task_metadata.json": {"sha256": "0" * 64, "bytes": 3, "mtime_ns": 1}}
    manifest = {"fingerprint": "0123456789abcdef", "arrays": [], "digests": removed}
    (made / "MANIFEST.json").write_text(json.dumps(manifest))
    (found,) = verify(_places(tmp_path))
    assert (found.path, found.changes) == (made, ("task_metadata.json: no such file",))
