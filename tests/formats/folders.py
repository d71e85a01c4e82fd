"""Small task folders and embeddings folders for the tests of their readers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

RATE = 16000
SPLITS = ("train", "valid", "test")
SCENE_METADATA: Mapping[str, Any] = {
    "task_name": "tones",
    "version": "v1",
    "mode": "full",
    "embedding_type": "scene",
    "prediction_type": "multiclass",
    "split_mode": "trainvaltest",
    "splits": list(SPLITS),
    "evaluation": ["top1_acc", "mAP"],
}
EVENT_METADATA = {
    **SCENE_METADATA,
    "embedding_type": "event",
    "prediction_type": "multilabel",
    "evaluation": ["event_onset_200ms_fms"],
    "evaluation_params": {"event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]}},
}
SCENE_LABELS = {"low.wav": ["low"], "high.wav": [60]}
EVENT_LABELS = {"low.wav": [{"label": "low", "start": 0.0, "end": 250.0}], "silence.wav": []}
TASK_MANIFEST = {
    "fingerprint": "0123456789abcdef",
    "task": "tones",
    "mode": "full",
    "engine": "soxr",
    "tarball": None,
    "is_the_published_corpus": None,
    "archives": [{"name": "tones.zip", "checksum": "00" * 16, "published": None}],
    "clips": {"train": 2, "valid": 2, "test": 2},
    "dropped": ["lost"],
    "warnings": ["split valid lacks 1 of 2 labels: low"],
    "skipped": [{"split": "train", "clip_id": "bad", "why": "no samples"}],
    "versions": {"heareval": "0.1.0", "python": "3.11.7"},
    "sample_rates": [16000, 48000],
    "rates_of_other_clips": [],
}
EMBEDDINGS_MANIFEST = {
    "fingerprint": "fedcba9876543210",
    "submission": {"module": "my_model", "name": "my_model"},
    "task": "tones-v1-full",
    "made_from": {"archives": [], "is_the_published_corpus": True},
    "form": {"dtype": "float32"},
    "unusual_embedding": {},
    "arrays": ["train.npy", "valid.npy", "test.npy"],
    "clips": 6,
    "device": "cpu",
    "framework": "torch",
    "versions": {"torch": "2.1"},
    "seconds": 1.5,
}


def write_task(folder: Path, *, kind: str = "scene", **changes: Any) -> Path:
    """Write a task folder without sounds or manifest; a change to None leaves a key of its metadata out."""
    folder.mkdir(parents=True)
    metadata = {**(SCENE_METADATA if kind == "scene" else EVENT_METADATA), **changes}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    write_json(folder / "task_metadata.json", metadata)
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,low\n1,60\n")
    for split in SPLITS:
        write_json(folder / f"{split}.json", SCENE_LABELS if kind == "scene" else EVENT_LABELS)
    return folder


def write_sounds(folder: Path, rate: int = RATE) -> None:
    """Write a file for every clip that the JSON files of a task folder list; its content is its name."""
    for split in SPLITS:
        for name in json.loads((folder / f"{split}.json").read_text()):
            path = folder / str(rate) / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)


def write_embeddings(folder: Path, *, kind: str = "scene") -> Path:
    """Write an embeddings folder with arrays of 4 dimensions."""
    write_task(folder, kind=kind)
    write_json(folder / "MANIFEST.json", EMBEDDINGS_MANIFEST)
    for split in SPLITS:
        shape = (2, 4) if kind == "scene" else (2, 5, 4)
        np.save(folder / f"{split}.npy", np.zeros(shape, np.float32))
        if kind == "event":
            np.save(folder / f"{split}.timestamps.npy", np.zeros((2, 5), np.float32))
    return folder


def write_json(path: Path, value: object) -> None:
    """Write a JSON file as heareval does."""
    path.write_text(json.dumps(value, indent=1))
