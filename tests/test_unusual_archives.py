"""Commands on corpora published as rar, in volumes, as single files or without a checksum."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests import stand_ins
from tests.commands import checksums, command, only_line, prepare, scratch_left

TASKS = ("beehive_states_fold0", "beehive_states_fold1", "fsd50k", "tfds_crema_d", "tfds_gtzan")
AT_16000 = ("--sample-rate", "16000")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, unusual_mirror: Path) -> tuple[Path, str]:
    """The folder in which the tasks were prepared, and the output of the command."""
    folder = tmp_path_factory.mktemp("unusual")
    done = prepare(folder, unusual_mirror, *TASKS, *AT_16000)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def manifest(folder: Path, task: str) -> dict:
    return json.loads(next(folder.glob(f"tasks/{task}-*/MANIFEST.json")).read_text())


@pytest.mark.slow
def test_all_clips_and_tarballs_are_written(run: tuple[Path, str]) -> None:
    folder, _ = run
    assert len(checksums(folder)) == 2 * len(TASKS)
    assert not scratch_left(folder)
    for task in TASKS:
        facts = manifest(folder, task)
        for split, count in facts["clips"].items():
            assert len(list(folder.glob(f"tasks/{task}-*/16000/{split}/*.wav"))) == count > 0


@pytest.mark.slow
def test_archives_are_fetched_once_for_all_tasks(run: tuple[Path, str]) -> None:
    archives = [path.name for path in (run[0] / "_workdir" / "downloads").glob("*/Hive*.rar")]
    assert len(archives) == len(set(archives)) == 4
    facts = [path.read_text() for path in (run[0] / "_workdir" / "corpora").glob("*/MANIFEST.json")]
    for name in archives:
        assert sum(name in each for each in facts) == 1


@pytest.mark.slow
def test_clips_keep_their_lengths(run: tuple[Path, str]) -> None:
    lengths = {soundfile.info(path).frames for path in run[0].glob("tasks/fsd50k-*/16000/train/*.wav")}
    assert len(lengths) > 3


@pytest.mark.slow
def test_archives_without_a_checksum_are_recorded_and_reported(
    run: tuple[Path, str], unusual_mirror: Path
) -> None:
    folder, said = run
    # The stand-in has a checksum in the file of accepted ones.
    assert manifest(folder, "tfds_gtzan")["archives"][0]["published"] is None
    facts = {each["name"]: each for each in manifest(folder, "tfds_crema_d")["archives"]}
    assert facts["72 listed files"]["published"] is None
    assert "no checksum was published for 72 listed files; used: SHA-256 " in said


@pytest.mark.slow
def test_clean_keeps_what_further_rates_need(
    run: tuple[Path, str], unusual_mirror: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-a", run[0], folder], check=True)
    reasons = {"a shard whose clips are all in the published task folder", "a lock that no run holds"}
    facts = json.loads(command(folder, "heareval", "clean", "--delete", "--json").stdout)
    assert {each["reason"] for each in facts["leftovers"]} == reasons
    assert "nothing to do" in prepare(folder, unusual_mirror, *TASKS, *AT_16000).stdout
    done = prepare(folder, unusual_mirror, "tfds_crema_d", "beehive_states_fold1", "--sample-rate", "22050")
    assert done.returncode == 0, done.stderr
    for word in ("fetch", "extract", "listed files", "labels and splits"):
        assert word not in done.stderr


@pytest.mark.slow
def test_the_sha256_of_an_archive_without_checksum_is_kept(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    # Clips of 30 s at 48 kHz fill disks, so a few have to do.
    tree = stand_ins.CORPORA["gtzan"]()["genres.tar.gz"]
    tree = {name: content for name, content in tree.items() if name < "genres/blues/blues.00012.wav"}
    stand_ins.pack(tree, mirror / "genres.tar.gz")
    (mirror / "MD5SUMS").write_text("")
    done = prepare(tmp_path, mirror, "tfds_gtzan", *AT_16000)
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256((mirror / "genres.tar.gz").read_bytes()).hexdigest()
    expected = {"name": "genres.tar.gz", "checksum": sha256, "published": None}
    assert manifest(tmp_path, "tfds_gtzan")["archives"] == [expected]
    assert f"no checksum was published for genres.tar.gz; used: SHA-256 {sha256}" in done.stdout
    # Another archive of that name is another corpus, whose clips are never mixed with those of the first.
    shutil.rmtree(tmp_path / "_workdir")
    stand_ins.pack({**tree, "genres/README": b"another edition"}, mirror / "genres.tar.gz")
    assert "nothing to do" in prepare(tmp_path, mirror, "tfds_gtzan", *AT_16000).stdout
    line = only_line(prepare(tmp_path, mirror, "tfds_gtzan", "--sample-rate", "48000"))
    assert f"expected {sha256}" in line
    # Without the published folder it is prepared, and nothing that was made from the first is reused.
    tars = checksums(tmp_path)
    shutil.rmtree(tmp_path / "tasks")
    assert prepare(tmp_path, mirror, "tfds_gtzan", *AT_16000, "--sample-rate", "48000").returncode == 0
    facts = manifest(tmp_path, "tfds_gtzan")
    assert facts["archives"][0]["checksum"] != sha256
    assert facts["sample_rates"] == [16000, 48000]
    assert tars.items() < checksums(tmp_path).items(), "the sounds are the same, so are the tarballs"


def test_an_accepted_archive_must_have_the_accepted_checksum(tmp_path: Path, unusual_mirror: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    shutil.copy(unusual_mirror / "genres.tar.gz", mirror)
    (mirror / "MD5SUMS").write_text(f"{'0' * 32}  genres.tar.gz\n")
    line = only_line(prepare(tmp_path, mirror, "tfds_gtzan", *AT_16000))
    assert f"expected {'0' * 32}" in line
    assert not list(tmp_path.glob("tasks/*"))


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(run: tuple[Path, str], unusual_mirror: Path) -> None:
    assert "nothing to do" in prepare(run[0], unusual_mirror, *TASKS, *AT_16000).stdout
