"""What heareval 0.1.0 made is complete although digests of code are computed in another way since."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import luigi
import pytest

from heareval import files
from heareval.embeddings.submission import Submission
from heareval.formats.task_manifest import SkippedClip
from heareval.layout import Places
from heareval.predictions.protocol import Protocol
from heareval.workflow import clips, corpus
from heareval.workflow.clips import SelectClips
from heareval.workflow.corpus import FetchListed, TaskJob
from heareval.workflow.evaluate import score_task
from heareval.workflow.prepare import PackTar, PublishTask
from tests.commands import checksums, command, prepare

JOB = TaskJob("speech_commands", "5h")
RATES = {"sample_rates": (16000,)}


@pytest.fixture(autouse=True)
def _forget_steps() -> Iterator[None]:
    """Luigi returns the same step, with the fingerprint it had, for the same parameters."""
    yield
    luigi.task_register.Register.clear_instance_cache()


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(*(str(tmp_path / name) for name in ("work", "tasks", "tars", "embeddings")))


def make(kind: type, places: Places, **parameters: Any) -> Any:
    """A step as a new run would see it."""
    luigi.task_register.Register.clear_instance_cache()
    return kind(places, **{"job": JOB, **parameters})


def make_legacy(kind: type, places: Places, **parameters: Any) -> Any:
    """The same step as in heareval 0.1.0, which knew its own digest only."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (clips, corpus):
            patch.setattr(module, "reader_digest", corpus.legacy_reader_digest)
        step = make(kind, places, **parameters)
        assert step.fingerprint if isinstance(step, FetchListed) else step.clips_fingerprint
    return step


def publish(step: PublishTask, **facts: Any) -> None:
    """Write the manifest that a step publishes; nothing else is looked at."""
    manifest = {"fingerprint": step.samples_fingerprint, "clips": {}, "sample_rates": [16000], **facts}
    files.write_json(step.folder / files.MANIFEST, manifest)


def test_the_digests_differ(places: Places) -> None:
    """Otherwise these tests would show nothing."""
    legacy = make_legacy(PublishTask, places, **RATES)
    assert make(PublishTask, places, **RATES).clips_fingerprint != legacy.clips_fingerprint


def test_a_published_task_is_complete(places: Places) -> None:
    legacy = make_legacy(PublishTask, places, **RATES)
    publish(legacy)
    step = make(PublishTask, places, **RATES)
    assert step.complete()
    assert step.task_fingerprint == legacy.task_fingerprint


def test_further_rates_join_the_published_ones(places: Places) -> None:
    legacy = make_legacy(PublishTask, places, **RATES)
    publish(legacy)
    step = make(PublishTask, places, sample_rates=(16000, 48000))
    assert step.missing_rates == (48000,)
    assert step.fingerprint_without([]) == legacy.fingerprint_without([])


def test_a_published_task_with_skipped_clips_is_complete(places: Places) -> None:
    parameters = {"job": TaskJob("speech_commands", "5h", on_bad_audio="skip"), **RATES}
    legacy = make_legacy(PublishTask, places, **parameters)
    skipped = [SkippedClip("train", "a", "empty")]
    publish(legacy, fingerprint=legacy.fingerprint_without(skipped), skipped=[asdict(skipped[0])])
    step = make(PublishTask, places, **parameters)
    assert step.complete()
    assert step.task_fingerprint == legacy.fingerprint_without(skipped)


def test_a_task_published_otherwise_is_not_adopted(places: Places) -> None:
    legacy = make_legacy(PublishTask, places, **RATES)
    publish(legacy, fingerprint="0" * 16)
    step = make(PublishTask, places, **RATES)
    assert not step.complete()
    assert step.clips_fingerprint != legacy.clips_fingerprint


def test_a_run_that_was_interrupted_goes_on(places: Places) -> None:
    legacy = make_legacy(SelectClips, places)
    legacy.folder.mkdir(parents=True)
    step = make(SelectClips, places)
    assert step.folder == legacy.folder
    assert step.complete()


def test_pythons_with_different_old_digests_agree_in_the_end(places: Places) -> None:
    """Another node, whose Python does not know the old digest, has published the task again."""
    make_legacy(SelectClips, places).folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "legacy_reader_digest", lambda task: "of another Python")
        other = make(PublishTask, places, **RATES)
        publish(other)
    step = make(PublishTask, places, **RATES)
    assert step.complete()
    assert step.clips_fingerprint == other.clips_fingerprint


def test_listed_files_are_not_fetched_again(places: Places) -> None:
    parameters = {"job": TaskJob("tfds_crema_d", "full")}
    legacy = make_legacy(FetchListed, places, **parameters)
    today = make(FetchListed, places, **parameters)
    assert today.folder != legacy.folder
    legacy.folder.mkdir(parents=True)
    assert make(FetchListed, places, **parameters).folder == legacy.folder
    today.folder.mkdir(parents=True)
    assert make(FetchListed, places, **parameters).folder == today.folder


def test_tarballs_embeddings_and_scores_are_complete(places: Places) -> None:
    """Their fingerprints follow from that of the task."""
    submission = Submission("my_model", name="my_model", fingerprint="1" * 16, sample_rate=16000)

    def fingerprints(step: PublishTask, tar: PackTar) -> tuple[str, str, str]:
        scored = score_task(step, submission, Protocol())
        return tar.fingerprint, scored.embeddings_fingerprint, scored.fingerprint

    legacy = make_legacy(PublishTask, places, **RATES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "reader_digest", corpus.legacy_reader_digest)
        before = fingerprints(legacy, PackTar(places, job=JOB, sample_rate=16000, **RATES))
    publish(legacy)
    step = make(PublishTask, places, **RATES)
    assert fingerprints(step, PackTar(places, job=JOB, sample_rate=16000, **RATES)) == before


# Runs `prepare` as 0.1.0 did.
LEGACY_RUNNER = """
from heareval.workflow import clips, corpus
clips.reader_digest = corpus.reader_digest = corpus.legacy_reader_digest
from heareval.commands import main
main()
"""


def test_a_whole_run_has_nothing_to_do(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "legacy_runner.py").write_text(LEGACY_RUNNER)
    words = ("spoken_digit", "--sample-rate", "16000")
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    done = command(tmp_path, "legacy_runner", "prepare", *words, *sums)
    assert "tarballs and" in done.stdout, done.stderr
    before = checksums(tmp_path)
    manifest = next((tmp_path / "tasks").glob(f"*/{files.MANIFEST}"))
    fingerprint = json.loads(manifest.read_text())["fingerprint"]
    assert "nothing to do" in prepare(tmp_path, mirror, *words).stdout
    shutil.rmtree(tmp_path / "_workdir")
    assert "nothing to do" in prepare(tmp_path, mirror, *words).stdout
    # What is missing is made again, of the same bytes.
    shutil.rmtree(tmp_path / "tars")
    done = prepare(tmp_path, mirror, *words)
    assert "1 step done" in done.stdout, done.stderr
    assert checksums(tmp_path) == before
    # Without the published folder nothing is known of the old digest any more.
    shutil.rmtree(tmp_path / "tasks")
    shutil.rmtree(tmp_path / "_workdir")
    done = prepare(tmp_path, mirror, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(manifest.read_text())["fingerprint"] != fingerprint
    assert checksums(tmp_path) == before
