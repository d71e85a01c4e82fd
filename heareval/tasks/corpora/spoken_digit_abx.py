"""Free Spoken Digit Dataset without training: is a digit nearer to itself across speakers?

The clips are those of `spoken_digit`. Only its mode `full` has file names with the speaker.

Source: Schatz et al., "Evaluating speech features with the Minimal-Pair ABX task", Interspeech 2013, for the
metric.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from heareval.spec import Abx, Archives, Recording, Splits
from heareval.tasks.corpora import spoken_digit


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the recordings with digit and speaker; files are named `<digit>_<speaker>_<take>.wav`."""
    for clip in spoken_digit.read_recordings(archives, mode):
        digit, speaker, _ = clip.path.stem.split("_")
        yield replace(clip, labels=(), split="test", attributes={"digit": digit, "speaker": speaker})


def read_relation(archives: Archives, mode: str) -> Abx:
    """Return the relation: recordings of a digit by different speakers, against other digits."""
    return Abx(category="digit", speaker="speaker")


TASK = replace(
    spoken_digit.TASK,
    name="spoken_digit_abx",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    labels=(),
    metrics=("abx_error",),
    modes={"full": spoken_digit.TASK.modes["full"]},
    read_recordings=read_recordings,
    read_relation=read_relation,
    clips_of="spoken_digit",
    is_open=False,
)
