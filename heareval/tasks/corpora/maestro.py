"""MAESTRO: piano performances with the notes and pedal movements that the piano recorded as MIDI.

Source: Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the MAESTRO
Dataset", 2019.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from heareval.errors import HearevalError
from heareval.spec import Archives, Download, Event, Mode, Recording, Splits, TaskSpec
from heareval.tasks import midi
from heareval.tasks.sources import downsampled, read_table, sound_duration_s

PITCHES = range(21, 109)  # the keys of a piano
MAX_TABLE_GAP_S, MAX_SOUND_GAP_S = 0.05, 5.0


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the pieces of the table with their notes, as the pedal sustains them; its splits are ignored."""
    folder = archives["train_test_valid"] / "maestro-v3.0.0"
    stated_s, notes_s, sound_s = [], [], []
    for row in read_table(folder / "maestro-v3.0.0.csv"):
        sound = folder / row["audio_filename"]
        if mode == "small" and not sound.exists():
            continue
        performance = midi.read_notes(folder / row["midi_filename"])
        stated_s.append(float(row["duration"]))
        notes_s.append(max((note.offset_s for note in performance.notes), default=0.0))
        if mode != "small":
            sound_s.append(sound_duration_s(sound))
        yield Recording(sound, sound.stem, events=_events(performance))
    _check("table and last note", stated_s, notes_s, MAX_TABLE_GAP_S, folder)
    if mode != "small":
        _check("sound and last note", sound_s, notes_s, MAX_SOUND_GAP_S, folder)
        _check("sound and table", sound_s, stated_s, MAX_SOUND_GAP_S, folder)


def _events(performance: midi.Performance) -> tuple[Event, ...]:
    return tuple(
        Event(note.onset_s * 1000.0, note.offset_s * 1000.0, note.pitch)
        for note in performance.sustained
        if note.pitch in PITCHES
    )


def _check(what: str, one_s: Sequence[float], other_s: Sequence[float], limit_s: float, folder: Path) -> None:
    """Raise HearevalError unless lengths from two sources agree on average, as those of one corpus do."""
    gap_s = fmean(abs(a - b) for a, b in zip(one_s, other_s, strict=True))
    if gap_s >= limit_s:
        raise HearevalError(
            f"{folder}: {what}", got=f"{gap_s:.3f} s apart", expected=f"less than {limit_s} s"
        )


_PUBLISHED = Download(
    "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0.zip",
    "41941abdcd786c8066d532002e3b79b9",
    "train_test_valid",
)
_DOWNSAMPLED = downsampled("maestro-v3.0.0-small.zip", "852a3e0436d0f9d12e6566f9c61ed094", "train_test_valid")

TASK = TaskSpec(
    name="maestro",
    version="v3.0.0",
    embedding_type="event",
    prediction_type="multilabel",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=120.0,
    labels=tuple(PITCHES),
    metrics=("event_onset_50ms_fms", "event_onset_offset_50ms_20perc_fms"),
    modes={
        "5h": Mode((_PUBLISHED,), 4500.0, clips=185, sounds=1276, headers=True),
        "small": Mode((_DOWNSAMPLED,), clip_duration_s=5.0, folds=4, drop_missing_files=True),
    },
    default_mode="5h",
    read_recordings=read_recordings,
    settings={
        "use_scoring_for_early_stopping": False,
        "evaluation_params": {
            "event_postprocessing_grid": {"median_filter_ms": [150], "min_duration": [50]},
            "task_specific_param_grid": {"max_epochs": [50], "check_val_every_n_epoch": [1]},
        },
    },
)
