"""Gunshot triangulation: 22 shots of seven firearms, recorded by four microphones, which are the labels.

Source: Cooper and Shaw, "Gunshots recorded in an open field using iPod Touch devices", 2020.
"""

from __future__ import annotations

from collections.abc import Iterator

from heareval.errors import HearevalError
from heareval.spec import Archives, Mode, Recording, Splits, TaskSpec
from heareval.tasks import shots
from heareval.tasks.sources import SCENE_METRICS, downsampled, sounds_below, zenodo

# File stem of each microphone's recording -> the sample that marks the same moment in all four.
MARKS = {"mic1raw": 15764451, "mic2raw16b": 13764742, "mic3raw": 9334032, "mic4raw": 6794611}
LEAD = 48000  # samples before the mark that are used
SHOTS = 22
BEFORE_ONSET, CLIP = 6000, 72000  # in samples


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield every shot of every microphone; the onsets are those in the first recording."""
    if mode == "small":
        for path in sounds_below(archives["train"], "**/mic*_shot*_fid*.wav"):
            microphone, _, firearm = path.stem.split("_")
            yield Recording(path, path.stem, (microphone,), group=firearm)
        return
    onsets = _onsets(archives)
    for number, (name, mark) in enumerate(MARKS.items(), start=1):
        path = archives[name] / f"{name}.wav"
        shots.check_rate(path)
        for shot, onset in enumerate(onsets):
            # The first firearm is shot four times, the others three times.
            firearm = f"fid{max(0, shot - 1) // 3 + 1}"
            clip_id = f"mic{number}_shot{shot}_{firearm}"
            start = mark - LEAD + onset - BEFORE_ONSET
            # Floor, instead of round, to 16 bit, as the 2021 kit did for this task only.
            yield Recording(
                path, clip_id, (f"mic{number}",), group=firearm, start_frame=start, frames=CLIP, floor=True
            )


def _onsets(archives: Archives) -> list[int]:
    """Return the onset of each shot, in samples from the beginning of the aligned recordings."""
    name, mark = next(iter(MARKS.items()))
    onsets = shots.find_onsets(archives[name] / f"{name}.wav", mark - LEAD, SHOTS)
    if len(onsets) != SHOTS:
        raise HearevalError(f"{name}.wav", got=f"{len(onsets)} shots", expected=str(SHOTS))
    return onsets


_PUBLISHED = tuple(
    zenodo(3997406, f"{name}.wav", md5, key=name)
    for name, md5 in zip(
        MARKS,
        (
            "e2f4acad742278c973e9c190fee03b5f",
            "184d888f457f331f592eeb4ee5fa12e2",
            "db2ffa4fdf8b42b98c208670f4578b4b",
            "571da84eecf397bf0356a24400769ced",
        ),
        strict=True,
    )
)
_DOWNSAMPLED = downsampled("gunshot_triangulation.zip", "c24bfa3b60fc9a2f51169fdb9bc336fa")

TASK = TaskSpec(
    name="gunshot_triangulation",
    version="v1.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=7),
    clip_duration_s=1.5,
    labels=("mic1", "mic2", "mic3", "mic4"),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode(_PUBLISHED, clips=88),
        "small": Mode((_DOWNSAMPLED,), drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
