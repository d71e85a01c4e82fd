"""The published small archives, compared with the tasks of the 2021 kit; both lie outside the repository."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import pytest

from heareval import files
from heareval.archives.unpack import extract
from heareval.tasks import audio, metadata
from heareval.tasks.registry import find_task

SHARED = Path(os.environ.get("HEAREVAL_SHARED", Path(__file__).parents[3] / "shared"))
ARCHIVES, GOLDEN = SHARED / "archives", SHARED / "lab" / "golden_real"
CASES = sorted(path.name for path in GOLDEN.iterdir()) if GOLDEN.is_dir() else []

pytestmark = pytest.mark.skipif(
    not (CASES and ARCHIVES.is_dir()), reason=f"no archives at {SHARED}; set HEAREVAL_SHARED to their folder"
)


@pytest.mark.parametrize("case", CASES)
def test_published_archives(case: str, tmp_path: Path) -> None:
    task, mode = find_task(case.removesuffix("-small")), "small"
    archives = {}
    for download in task.modes[mode].downloads:
        archive = ARCHIVES / download.file_name
        assert files.file_checksum(archive, "md5") == download.checksum
        archives[download.folder] = tmp_path / "extracted" / download.folder
        extract.extract(archive, archives[download.folder])
    selected = metadata.select_clips(task, mode, task.read_recordings(archives, mode))
    metadata.write_description(tmp_path, task, mode, selected)
    golden = GOLDEN / case
    for name in [*(f"{split}.json" for split in task.splits_of(mode).names), "labelvocabulary.csv"]:
        assert (tmp_path / name).read_bytes() == (golden / name).read_bytes()
    ours, theirs = (json.loads((f / "task_metadata.json").read_text()) for f in (tmp_path, golden))
    # Only the addresses of the downloads differ.
    assert {k: v for k, v in ours.items() if k != "download_urls"} == {
        k: v for k, v in theirs.items() if k not in ("download_urls", "tmp_dir")
    } | {"tmp_dir": "_workdir"}
    rows = {row["path"]: row for row in csv.DictReader((golden / "native.csv").open())}
    assert {f"{clip.split}/{clip.clip_id}.wav" for clip in selected.clips} == set(rows)
    for clip in selected.clips:
        samples, rate = audio.read_mono(clip.path, clip.start_frame, lambda _, clip=clip: clip.frames or -1)
        samples = audio.trim_pad(samples, round(task.duration_s(mode) * rate))
        row = rows[f"{clip.split}/{clip.clip_id}.wav"]
        assert (rate, hashlib.md5(samples.tobytes()).hexdigest()) == (int(row["sample_rate"]), row["pcm_md5"])
