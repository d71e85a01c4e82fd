"""The columns of the leaderboard of 2021, and the tasks whose scores they show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task2021:
    """A task of the leaderboard of 2021.

    Args:
        title: the heading of its column in the published CSV file.
        name: name of the task.
        modes: the modes of the task that the column shows.
    """

    title: str
    name: str
    modes: tuple[str, ...] = ("full",)

    @property
    def key(self) -> str:
        """Return the name of the task, with the mode where two columns show the same task.

        >>> Task2021("ESC-50", "esc50").key, Task2021("NSynth Pitch 5h", "nsynth_pitch", ("5h",)).key
        ('esc50', 'nsynth_pitch-5h')
        """
        return f"{self.name}-{self.modes[0]}" if self.name in _TWICE else self.name


_TWICE = ("nsynth_pitch", "speech_commands")
# In the order of the published CSV file. The file does not say what the column of the beehives shows: here it
# is the mean of both tasks, in either mode.
TASKS_2021 = (
    Task2021("Beehive", "beehive_states_fold0", ("full", "5h")),
    Task2021("Beehive", "beehive_states_fold1", ("full", "5h")),
    Task2021("Beijing Opera", "beijing_opera"),
    Task2021("CREMA-D", "tfds_crema_d"),
    Task2021("DCASE 2016", "dcase2016_task2"),
    Task2021("ESC-50", "esc50"),
    Task2021("FSD50K", "fsd50k"),
    Task2021("GTZAN Genre", "tfds_gtzan"),
    Task2021("GTZAN Music/Speech", "tfds_gtzan_music_speech"),
    Task2021("Gunshot", "gunshot_triangulation"),
    Task2021("Libricount", "libricount"),
    Task2021("Maestro 5h", "maestro", ("5h",)),
    Task2021("Mridangam Stroke", "mridangam_stroke"),
    Task2021("Mridangam Tonic", "mridangam_tonic"),
    Task2021("NSynth Pitch 50h", "nsynth_pitch", ("50h",)),
    Task2021("NSynth Pitch 5h", "nsynth_pitch", ("5h",)),
    Task2021("Speech commands 5h", "speech_commands", ("5h",)),
    Task2021("Speech commands full", "speech_commands", ("full",)),
    Task2021("Vocal Imitation", "vocal_imitation"),
    Task2021("VoxLingua107 top 10", "vox_lingua_top10"),
)


def find_task_2021(name: str, mode: str) -> Task2021 | None:
    """Return the task of the leaderboard of 2021 with this name and mode; None if there is none.

    >>> find_task_2021("speech_commands", "5h").title
    'Speech commands 5h'
    """
    return next((task for task in TASKS_2021 if task.name == name and mode in task.modes), None)
