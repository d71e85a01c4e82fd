"""How much sound a task has, as far as it is known before anything is fetched."""

from __future__ import annotations

from heareval.spec import TaskSpec

# Bytes of an hour of 16-bit mono clips at 16 kHz.
BYTES_PER_HOUR = 3600 * 16000 * 2
# Mean length of clips in seconds, where the corpus module does not say it: the code of these modules is part
# of the fingerprint of finished tasks. Fonseca et al. (2022) give 108.3 h in 51,197 clips.
_MEAN_CLIP_S = {"fsd50k": 7.6}


def estimate_hours(task: TaskSpec, mode: str) -> float:
    """Return about how many hours of clips a task has in a mode; 0 if it is not known.

    >>> from heareval.tasks.registry import find_task
    >>> round(estimate_hours(find_task("esc50"), "full"), 1)
    2.8
    """
    chosen = task.modes[mode]
    clip_s = task.duration_s(mode) or chosen.mean_clip_s or _MEAN_CLIP_S.get(task.name, 0)
    return chosen.clips * clip_s / 3600
