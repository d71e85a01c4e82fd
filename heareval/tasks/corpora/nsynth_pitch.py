"""NSynth: four-second notes of a thousand instruments; the label is the MIDI pitch.

Source: Engel et al., "Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders", 2017.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import OPEN_DOWNSAMPLED

SPLITS = ("train", "valid", "test")
PITCHES = range(21, 109)  # the keys of a piano; other notes are dropped


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the notes of the three sets, each of which has its `examples.json`."""
    for split in SPLITS:
        folder = archives[split] / f"nsynth-{split}"
        notes = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
        for note in notes.values():
            if note["pitch"] in PITCHES:
                name = note["note_str"]
                instrument = name.split("-")[0]
                path = folder / "audio" / f"{name}.wav"
                yield Recording(path, name, (note["pitch"],), split=split, group=instrument)


def _downloads(address: str, checksums: tuple[str, str, str]) -> tuple[Download, ...]:
    return tuple(
        Download(address.format(s), checksum, s) for s, checksum in zip(SPLITS, checksums, strict=True)
    )


_PUBLISHED = _downloads(
    "http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{}.jsonwav.tar.gz",
    (
        "fde6665a93865503ba598b9fac388660",
        "87e94a00a19b6dbc99cf6d4c0c0cae87",
        "5e6f8719bf7e16ad0a00d518b78af77d",
    ),
)
_DOWNSAMPLED = _downloads(
    OPEN_DOWNSAMPLED + "nsynth-{}-small.zip",
    (
        "c17070e4798655d8bea1231506479ba8",
        "e36722262497977f6b945bb06ab0969d",
        "9a98e869ed4add8ba9ebb0d7c22becca",
    ),
)

_SOME = Mode(_PUBLISHED, sounds=305979)  # the modes use a sixtieth or a sixth of them
_SMALL = Mode(_DOWNSAMPLED, drop_missing_files=True)
_PITCH = TaskSpec(
    name="nsynth_pitch",
    version="v2.2.3",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("trainvaltest"),
    clip_duration_s=4.0,
    labels=tuple(PITCHES),
    metrics=("pitch_acc", "chroma_acc"),
    modes={
        "5h": replace(_SOME, clips=5000, max_duration_s={"train": 16e3, "valid": 2e3, "test": 2e3}),
        "50h": replace(_SOME, clips=49060, max_duration_s={"train": 160e3, "valid": 20e3, "test": 20e3}),
        "small": _SMALL,
        "demo": Mode(_PUBLISHED, published=False),
    },
    default_mode="5h",
    read_recordings=read_recordings,
    settings={"pitch_range_min": PITCHES[0], "pitch_range_max": PITCHES[-1]},
    is_open=True,
)
# Cross-validation over all three sets; the notes of an instrument are in one fold.
_KFOLD = replace(
    _PITCH,
    name="nsynth_pitch_kfold",
    splits=Splits("new_split_kfold", folds=10),
    modes={
        "5h": replace(_SOME, clips=5000, max_duration_s=2000.0),
        "50h": replace(_SOME, clips=50000, max_duration_s=20000.0),
        "small": _SMALL,
    },
    moved_settings={"nfolds": "default_mode"},
    is_open=False,
)
TASKS = [_PITCH, _KFOLD]
