"""NSynth without training: notes of the same pitch should be the nearest to each other.

The clips are those of the test set of `nsynth_pitch`; each query searches the other instruments.

Source: Musgrave et al., "A Metric Learning Reality Check", 2020, for the metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

from heareval.spec import Archives, Mode, Recording, Retrieval, Splits
from heareval.tasks.corpora import nsynth_pitch

_PITCH = next(task for task in nsynth_pitch.TASKS if task.name == "nsynth_pitch")
SOUNDS = 4096  # in the archive of the test set
CLIPS = {"5h": 500, "50h": 4060}


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the notes of the test set with pitch and instrument."""
    # The reader of `nsynth_pitch` needs the archives of training and validation, which are 60 times larger.
    folder = archives["test"] / "nsynth-test"
    notes = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
    for note in notes.values():
        if note["pitch"] in nsynth_pitch.PITCHES:
            name = note["note_str"]
            attributes = {"pitch": str(note["pitch"]), "instrument": name.split("-")[0]}
            yield Recording(folder / "audio" / f"{name}.wav", name, split="test", attributes=attributes)


def read_relation(archives: Archives, mode: str) -> Retrieval:
    """Return the relation: same pitch, other instrument; intervals resample instruments."""
    return Retrieval(relevant="pitch", differ=("instrument",), unit="instrument")


def _modes() -> Mapping[str, Mode]:
    """Return the modes of `nsynth_pitch` with the archive and the limit of the test set only."""
    modes = {}
    for name in ("5h", "50h", "small"):
        mode = _PITCH.modes[name]
        limit = mode.limit_s("test")
        modes[name] = replace(
            mode,
            downloads=tuple(download for download in mode.downloads if download.split == "test"),
            max_duration_s=None if limit is None else {"test": limit},
            clips=CLIPS.get(name, 0),
            sounds=SOUNDS if mode.sounds else 0,
        )
    return modes


TASK = replace(
    _PITCH,
    name="nsynth_pitch_retrieval",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    labels=(),
    metrics=("map_at_r", "precision_at_1"),
    modes=_modes(),
    read_recordings=read_recordings,
    read_relation=read_relation,
    clips_of="nsynth_pitch",
    is_open=False,
)
