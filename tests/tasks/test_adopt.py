"""Tasks made from finished 48 kHz tarballs: intact, wrongly named and bad ones."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.resampling import resample
from heareval.tasks import adopt, audio
from tests.commands import MODEL, RESULT, SCORE, SPOKEN, checksums, command, only_line, scratch_left
from tests.http_server import serving
from tests.stand_ins import Tree, pack
from tests.stand_ins.trees import as_json

NAME = f"hear2021-{SPOKEN}-48000.tar.gz"
INSIDE = f"hear-2021.1.1/tasks/{SPOKEN}"


@pytest.fixture(scope="module")
def tree(prepared: Path) -> Tree:
    """Return the content of the 48 kHz tarball of spoken_digit."""
    with tarfile.open(prepared / "tars" / f"hear-2021.1.1-{SPOKEN}-48000.tar.gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def published(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tarball in a sub-folder, named as by the benchmark."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "a" / "b").mkdir(parents=True)
    shutil.copyfile(prepared / "tars" / f"hear-2021.1.1-{SPOKEN}-48000.tar.gz", folder / "a" / "b" / NAME)
    return folder


@pytest.fixture(scope="module")
def adopted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make spoken_digit from the tarball at the four rates, without its corpus."""
    folder = tmp_path_factory.mktemp("adopted")
    done = adopt_task(folder, published)
    assert done.returncode == 0, done.stderr
    assert f"at 16000, 22050, 44100, 48000 Hz, made from the tarball {NAME}" in done.stdout
    assert f"note: NOT the published corpus: according to {NAME}" in done.stdout
    assert "fetch" not in done.stderr
    return folder


def adopt_task(folder: Path, source: object, *words: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "heareval.tasks.runner", "spoken_digit", "--from-published", str(source), *words)


def content(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern)}


# --------------------------------------------------------------------------- intact tarballs


@pytest.mark.parametrize(
    "pattern", ["fold*.json", "labelvocabulary.csv", "task_metadata.json", "48000/*/*.wav"]
)
def test_what_the_tarball_holds_stays_as_it_is(adopted: Path, tree: Tree, pattern: str) -> None:
    found = content(adopted / "tasks" / SPOKEN, pattern)
    held = {name.removeprefix(f"{INSIDE}/"): data for name, data in tree.items()}
    assert found == {name: data for name, data in held.items() if Path(name).match(pattern)}
    assert found


def test_its_tarball_is_the_same_again(adopted: Path, prepared: Path) -> None:
    name = f"hear-2021.1.1-{SPOKEN}-48000.tar.gz"
    assert checksums(adopted)[name] == checksums(prepared)[name]


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_other_rates_are_made_from_48_khz(adopted: Path, rate: int) -> None:
    folder = adopted / "tasks" / SPOKEN
    clips = sorted((folder / str(rate)).glob("*/*.wav"))
    assert len(clips) == 65
    for path in clips:
        source = folder / "48000" / path.relative_to(folder / str(rate))
        expected = resample(audio.read_mono(source, 0, lambda _: -1)[0], 48000, rate)
        samples, found_rate = audio.read_mono(path, 0, lambda _: -1)
        assert (found_rate, len(samples)) == (rate, round(0.56 * rate))
        np.testing.assert_array_equal(samples, expected)


def test_the_manifest_tells_the_source(adopted: Path, published: Path) -> None:
    manifest = json.loads((adopted / "tasks" / SPOKEN / "MANIFEST.json").read_text())
    assert manifest["tarball"] == NAME
    checksum = hashlib.sha256((published / "a" / "b" / NAME).read_bytes()).hexdigest()
    (fact,) = manifest["archives"]
    assert fact == {"name": NAME, "checksum": checksum, "published": False}
    assert manifest["clips"] == {f"fold{i:02d}": 13 for i in range(5)}


def test_second_run_has_nothing_to_do(adopted: Path, published: Path) -> None:
    done = adopt_task(adopted, published / "a" / "b" / NAME)
    assert "nothing to do" in done.stdout
    assert f"made from the tarball {NAME}" in done.stdout


def test_tarball_and_corpus_never_mix(prepared: Path, published: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    before = content(folder / "tasks" / SPOKEN, "16000/*/*.wav")
    done = adopt_task(folder, published, "--sample-rate", "44100")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (folder / "tasks" / SPOKEN).iterdir() if path.is_dir()] == ["44100"]
    done = adopt_task(folder, published, "--sample-rate", "16000")
    assert done.returncode == 0, done.stderr
    rates = sorted(path.name for path in (folder / "tasks" / SPOKEN).iterdir() if path.is_dir())
    assert rates == ["16000", "44100"]
    after = content(folder / "tasks" / SPOKEN, "16000/*/*.wav")
    assert sorted(after) == sorted(before)
    assert after != before


def test_another_tarball_of_the_same_name_is_used(tree: Tree, adopted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(adopted, folder)
    clip = min(name for name in tree if name.endswith(".wav"))
    louder = {**tree, clip: tree[clip][:44] + bytes([1, 0]) * 26880}
    pack(louder, tmp_path / "other" / NAME)
    done = adopt_task(folder, tmp_path / "other", "--sample-rate", "48000")
    assert done.returncode == 0, done.stderr
    assert (folder / "tasks" / SPOKEN / clip.removeprefix(f"{INSIDE}/")).read_bytes() == louder[clip]


def test_tarball_of_the_web(published: Path, adopted: Path, tmp_path: Path) -> None:
    with serving(published / "a" / "b") as (address, behaviour):
        done = adopt_task(tmp_path, address, "--sample-rate", "16000")
        assert done.returncode == 0, done.stderr
        seen = len(behaviour.requests)
        assert "nothing to do" in adopt_task(tmp_path, f"{address}/{NAME}", "--sample-rate", "16000").stdout
        assert len(behaviour.requests) == seen
    task = Path("tasks") / SPOKEN
    assert content(tmp_path / task, "16000/*/*.wav") == content(adopted / task, "16000/*/*.wav")


def test_evaluation_goes_by_the_name_of_the_tarball(tree: Tree, tmp_path: Path) -> None:
    """As for the published mridangam_tonic, which is mridangam_stroke inside."""
    settings = json.loads(tree[f"{INSIDE}/task_metadata.json"])
    wrong = {**settings, "task_name": "mridangam_stroke", "version": "v2"}
    wrong.pop("not_the_published_corpus")
    other = {name.replace(SPOKEN, "mridangam_stroke-v2-full"): data for name, data in tree.items()}
    other["hear-2021.1.1/tasks/mridangam_stroke-v2-full/task_metadata.json"] = as_json(wrong)
    pack(other, tmp_path / NAME)
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", "spoken_digit")
    done = command(tmp_path, *words, "--from-published", NAME, *SCORE)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "embeddings" / "my_model" / SPOKEN / RESULT).read_text())
    assert (scores["task"], scores["is_the_published_corpus"]) == ("spoken_digit", None)
    assert scores["made_from"]["tarball"] == NAME
    assert len(scores["folds"]) == 5
    folder = tmp_path / "tasks" / SPOKEN
    right = {**wrong, "task_name": "spoken_digit", "version": "1.0.9"}
    assert (folder / "task_metadata.json").read_text() == files.dump_json(right)
    assert (folder / "fold00.json").read_bytes() == tree[f"{INSIDE}/fold00.json"]
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert manifest["is_the_published_corpus"] is None
    assert manifest["warnings"] == [
        f"the tarball of {SPOKEN} holds a folder mridangam_stroke-v2-full",
        "task_name 'mridangam_stroke' of the tarball has become 'spoken_digit', as its name says",
        "version 'v2' of the tarball has become '1.0.9', as its name says",
    ]


# --------------------------------------------------------------------------- finding tarballs


def test_the_benchmarks_tarball_goes_before_ours(tmp_path: Path) -> None:
    for edition in reversed(adopt.EDITIONS):
        path = tmp_path / f"{edition}-{SPOKEN}-48000.tar.gz"
        path.touch()
        assert adopt.find_tarball(str(tmp_path), SPOKEN) == str(path)


@pytest.mark.parametrize("name", [NAME, f"hear-LATEST-{SPOKEN}-48000.tar.gz"])
def test_a_url_names_a_tarball_or_where_it_is(name: str) -> None:
    folder = "https://host.org/files"
    assert adopt.find_tarball(f"{folder}/", SPOKEN) == f"{folder}/{NAME}"
    url = f"{folder}/{name}?download=1"
    assert adopt.find_tarball(url, SPOKEN) == url


@pytest.mark.parametrize(
    "name", [NAME.replace("48000", "16000"), NAME.replace("full", "small"), NAME.replace("digit", "letter")]
)
@pytest.mark.parametrize("address", ["", "https://host.org/files/"])
def test_tarballs_of_something_else(tmp_path: Path, name: str, address: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(
        HearevalError,
        match=rf"got {name}, expected {NAME}\. The tarball belongs to another task, version, --mode or",
    ):
        adopt.find_tarball(address + name if address else str(tmp_path / name), SPOKEN)


def test_no_tarball(tmp_path: Path) -> None:
    line = only_line(adopt_task(tmp_path, "nowhere"))
    assert line == f"error: --from-published nowhere: got no such file, expected {NAME}"
    os.mkfifo(tmp_path / NAME)
    line = only_line(adopt_task(tmp_path, NAME))
    assert line == f"error: --from-published {NAME}: got a FIFO, expected {NAME}"
    line = only_line(adopt_task(tmp_path, "."))
    assert f"{tmp_path} of --from-published: got no tarball of the task, expected {NAME} or hear-2021" in line
    with serving(tmp_path) as (address, _):
        line = only_line(adopt_task(tmp_path, address))
    assert f"/{NAME}: got HTTP 404" in line


def test_a_run_does_not_write_over_its_source(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "tars", tmp_path / "tars")
    line = only_line(adopt_task(tmp_path, "tars"))
    got = "got the path that this run writes its own tarball to, expected a tarball elsewhere"
    assert f"hear-2021.1.1-{SPOKEN}-48000.tar.gz: {got}" in line
    done = adopt_task(tmp_path, "tars", "--sample-rate", "16000")
    assert done.returncode == 0, done.stderr


def test_a_tarball_that_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"one")
    mark = adopt.read_mark(str(tmp_path / NAME))
    adopt.check_mark(str(tmp_path / NAME), mark)
    (tmp_path / NAME).write_bytes(b"another")
    with pytest.raises(HearevalError, match=rf"{NAME}: got 7 .*, expected 3 .*: run again"):
        adopt.check_mark(str(tmp_path / NAME), mark)


@pytest.mark.parametrize("part", [0.0, 0.5, 0.999])
def test_cut_off_tarball(published: Path, tmp_path: Path, part: float) -> None:
    whole = (published / "a" / "b" / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: int(len(whole) * part)])
    line = only_line(adopt_task(tmp_path, NAME))
    assert f"archive {tmp_path / NAME}: got " in line
    assert "expected a readable archive" in line
    assert not (tmp_path / "tasks").exists()
    assert not scratch_left(tmp_path)
