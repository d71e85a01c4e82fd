"""The tasks compared with those that the 2021 kit made from the same corpora."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heareval.spec import ENGINES, TaskSpec
from heareval.tasks import audio, metadata, tarball
from heareval.tasks.metadata import SelectedClips
from heareval.tasks.registry import find_task
from tests.conftest import ArchivesOf

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = sorted(path.name for path in GOLDEN.iterdir())
# Other releases of the Opus codec decode to other samples, but to the same number.
LOSSY = ("coughvid-full",)
# How much a resampled excerpt may differ from the reference, which has random dither, in 16-bit steps.
TOLERANCE_LSB = 2


def golden_json(case: str, name: str) -> object:
    return json.loads((GOLDEN / case / name).read_text())


def task_of(case: str) -> tuple[TaskSpec, str]:
    """Return the task with the settings of the case."""
    facts = golden_json(case, "case.json")
    task, name = find_task(facts["task"]), facts["mode"]
    changed = facts["changed_settings"]
    limits = next(
        (value for key, value in changed.items() if key.startswith("max_")), task.modes[name].max_duration_s
    )
    seconds = changed.get("sample_duration", task.modes[name].clip_duration_s)
    mode = replace(task.modes[name], max_duration_s=limits, clip_duration_s=seconds)
    return replace(task, modes={name: mode}), name


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def select_case(archives_of: ArchivesOf) -> Callable[[str], SelectedClips]:
    """Return the function that selects the clips of a case, once."""

    @functools.cache
    def select(case: str) -> SelectedClips:
        task, mode = task_of(case)
        return metadata.select_clips(task, mode, task.read_recordings(archives_of(task, mode), mode))

    return select


@pytest.fixture
def selected(case: str, select_case: Callable[[str], SelectedClips]) -> SelectedClips:
    return select_case(case)


def is_scene(case: str) -> bool:
    return golden_json(case, "task_metadata.json")["embedding_type"] == "scene"


@pytest.mark.parametrize("case", [case for case in CASES if is_scene(case)])
def test_splits_and_labels(case: str, selected: SelectedClips, tmp_path: Path) -> None:
    task, mode = task_of(case)
    metadata.write_description(tmp_path, task, mode, selected)
    for split in task.splits_of(mode).names:
        assert (tmp_path / f"{split}.json").read_bytes() == (GOLDEN / case / f"{split}.json").read_bytes()


@pytest.mark.parametrize("case", [case for case in CASES if not is_scene(case)])
def test_splits_and_events(case: str, selected: SelectedClips, tmp_path: Path) -> None:
    task, mode = task_of(case)
    metadata.write_description(tmp_path, task, mode, selected)
    for split in task.splits_of(mode).names:
        ours = json.loads((tmp_path / f"{split}.json").read_text())
        golden = golden_json(case, f"{split}.json")
        assert list(ours) == list(golden)
        for clip, events in golden.items():
            assert [e["label"] for e in ours[clip]] == [e["label"] for e in events]
            for key in ("start", "end"):
                # The reference read its times from text and lost the last digit of some.
                expected = pytest.approx([e[key] for e in events], abs=1e-9, rel=0)
                assert [e[key] for e in ours[clip]] == expected


def test_vocabulary_and_metadata(case: str, selected: SelectedClips, tmp_path: Path) -> None:
    task, mode = task_of(case)
    metadata.write_description(tmp_path, task, mode, selected)
    assert (tmp_path / "labelvocabulary.csv").read_bytes() == (
        GOLDEN / case / "labelvocabulary.csv"
    ).read_bytes()
    ours, golden = (
        json.loads((tmp_path / "task_metadata.json").read_text()),
        golden_json(case, "task_metadata.json"),
    )
    assert list(ours) == list(golden)
    without_address = {key: value for key, value in golden.items() if key != "download_urls"}
    assert {key: ours[key] for key in without_address} == without_address
    # The stand-ins have other URLs and checksums; everything else is equal.
    assert _without_addresses(ours.get("download_urls")) == _without_addresses(golden.get("download_urls"))


def _without_addresses(value: object) -> object:
    if isinstance(value, list):
        return [_without_addresses(each) for each in value]
    if isinstance(value, dict):
        return {k: "" if k in ("url", "md5") else _without_addresses(v) for k, v in value.items()}
    return value


def test_native_samples(case: str, selected: SelectedClips) -> None:
    task, mode = task_of(case)
    seconds = task.duration_s(mode)
    rows = {row["path"]: row for row in csv.DictReader((GOLDEN / case / "native.csv").open())}
    assert {f"{clip.split}/{clip.clip_id}.wav" for clip in selected.clips} == set(rows)
    digests: dict[str, str] = {}
    for clip in selected.clips:
        samples, rate = audio.read_mono(
            clip.path, clip.start_frame, lambda _, clip=clip: clip.frames or -1, floor=clip.floor
        )
        samples = audio.trim_pad(samples, round(seconds * rate)) if seconds else samples
        name = f"{clip.split}/{clip.clip_id}.wav"
        assert (rate, len(samples)) == (int(rows[name]["sample_rate"]), int(rows[name]["frames"])), name
        digests[name] = hashlib.md5(samples.tobytes()).hexdigest()
    compared = set() if case in LOSSY else set(rows)
    assert {name: digests[name] for name in compared} == {name: rows[name]["pcm_md5"] for name in compared}


WITH_EXCERPTS = [name for name in CASES if (GOLDEN / name / "excerpts.npz").exists()]


# Clips of minutes, which ffmpeg takes seconds to resample.
LONG = ("dcase2016_task2-full", "maestro-5h")


@pytest.mark.parametrize(
    ("case", "engine"),
    [
        pytest.param(case, engine, marks=pytest.mark.slow if engine == "ffmpeg" and case in LONG else [])
        for case in WITH_EXCERPTS
        for engine in ENGINES
    ],
)
def test_resampled_excerpts(case: str, engine: str, selected: SelectedClips, tmp_path: Path) -> None:
    task, mode = task_of(case)
    clips = {f"{clip.split}/{clip.clip_id}.wav": clip for clip in selected.clips}
    rows = {row["path"]: row for row in csv.DictReader((GOLDEN / case / "files.csv").open())}
    excerpts = np.load(GOLDEN / case / "excerpts.npz")
    assert excerpts.files
    for name in excerpts.files:
        rate, _, clip_name = name.partition("/")
        settings = audio.AudioSettings((int(rate),), task.duration_s(mode), engine)
        audio.prepare_clips([clips[clip_name]], tmp_path, settings)
        samples, _ = audio.read_mono(tmp_path / name, 0, lambda _: -1)
        assert len(samples) == int(rows[name]["frames"]), name
        expected = excerpts[name].astype(int)
        assert np.abs(samples[: len(expected)] - expected).max() <= TOLERANCE_LSB, name


def test_tarball_members(case: str, selected: SelectedClips, tmp_path: Path) -> None:
    task, mode = task_of(case)
    name, golden = next(iter(golden_json(case, "tar.json").items()))
    rate = int(name.removesuffix(".tar.gz").rsplit("-", 1)[1])
    folder = tmp_path / task.folder(mode)
    metadata.write_description(folder, task, mode, selected)
    for clip in selected.clips:
        path = folder / str(rate) / clip.split / f"{clip.clip_id}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.write_wav(path, np.zeros(4, np.int16), rate)
    tarball.pack(folder, rate, tmp_path / name, "the licence")
    with tarfile.open(tmp_path / name) as tar:
        members = [[member.name, "dir" if member.isdir() else "file"] for member in tar]
    # The reference has no licence, and lists its top-level files in the order of a directory.
    licence = [f"hear-2021.1.1/tasks/{task.folder(mode)}/LICENSE.txt", "file"]
    assert sorted(members) == sorted([licence, *golden])
