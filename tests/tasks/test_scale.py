"""Splits of tables with up to 100,000 rows, compared with those of the 2021 kit; outside the repository."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from heareval.spec import Event, Label, Mode, Recording, Splits, TaskSpec
from heareval.tasks import metadata

SHARED = Path(os.environ.get("HEAREVAL_SHARED", Path(__file__).parents[3] / "shared"))
TABLES = SHARED / "lab" / "scale"

# Small tables are compared in test_conformance.py, in every run.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not TABLES.is_dir(), reason=f"no tables at {TABLES}; set HEAREVAL_SHARED to their folder"
    ),
]


def recordings(shape: Path) -> list[Recording]:
    """Return the recordings of a table; labels are ints if all of them are numbers."""
    with gzip.open(shape / "input.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    numeric = all(row["label"].isdigit() for row in rows)
    labels: dict[str, list[Label]] = defaultdict(list)
    events: dict[str, list[Event]] = defaultdict(list)
    facts = {}
    for row in rows:
        label = int(row["label"]) if numeric else row["label"]
        if "start" in row:
            events[row["stem"]].append(Event(float(row["start"]), float(row["end"]), label))
        else:
            labels[row["stem"]].append(label)
        facts[row["stem"]] = row
    return [
        Recording(
            Path("/nowhere" if row.get("missing") == "1" else "/dev/null"),
            stem,
            tuple(labels[stem]),
            tuple(events[stem]),
            row["split"],
            row["key"],
        )
        for stem, row in facts.items()
    ]


def task_of(settings: dict) -> TaskSpec:
    is_folds = settings["split_mode"] != "trainvaltest"
    limits = settings["max_task_duration_by_fold" if is_folds else "max_task_duration_by_split"]
    mode = Mode(
        (),
        limits,
        split_percentages=settings.get("split_percentage"),
        drop_missing_files=settings["mode"] == "small",
    )
    return TaskSpec(
        name=settings["task_name"],
        version="v1",
        embedding_type=settings["embedding_type"],
        prediction_type=settings["prediction_type"],
        splits=Splits(settings["split_mode"], settings.get("nfolds")),
        clip_duration_s=settings["sample_duration"],
        metrics=("top1_acc",),
        modes={settings["mode"]: mode},
        default_mode=settings["mode"],
        read_recordings=lambda archives, mode: [],
    )


@pytest.mark.parametrize(
    "shape", sorted(TABLES.iterdir()) if TABLES.is_dir() else [], ids=lambda shape: shape.name
)
def test_large_table(shape: Path, tmp_path: Path) -> None:
    facts = json.loads((shape / "facts.json").read_text())
    task = task_of(facts["settings"])
    mode = task.default_mode
    selected = metadata.select_clips(task, mode, recordings(shape))
    metadata.write_description(tmp_path, task, mode, selected)
    assert (tmp_path / "labelvocabulary.csv").read_bytes() == (shape / "labelvocabulary.csv").read_bytes()
    compare = {"scene": compare_labels, "event": compare_events}[task.embedding_type]
    for name, digest in facts["json_sha256"].items():
        compare(tmp_path / name, shape, digest)


def compare_labels(path: Path, shape: Path, digest: str) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest, path.name


def compare_events(path: Path, shape: Path, digest: str) -> None:
    """Compare with the table itself: the reference lost the last digit of some times."""
    ours = json.loads(path.read_bytes())
    golden = json.loads(gzip.decompress((shape / f"{path.name}.gz").read_bytes()))
    assert list(ours) == list(golden)
    for clip, events in ours.items():
        assert [event["label"] for event in events] == [event["label"] for event in golden[clip]]
        for key in ("start", "end"):
            expected = pytest.approx([event[key] for event in golden[clip]], abs=1e-9, rel=0)
            assert [event[key] for event in events] == expected
