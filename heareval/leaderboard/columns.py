"""The columns of a board: the 19 of the published leaderboard, and those of other tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from heareval.formats.card import CardResult
from heareval.formats.columns2021 import TASKS_2021
from heareval.formats.domains import find_domain
from heareval.leaderboard.board import Column
from heareval.leaderboard.slugs import make_slug

ONSETS_200_MS = "event_onset_200ms_fms"
# The folds of one corpus that share a column of the published leaderboard.
BEEHIVE, BEEHIVE_FOLDS = "beehive_states", ("beehive_states_fold0", "beehive_states_fold1")


@dataclass(frozen=True)
class TaskFacts:
    """What the caller knows about a task; board.Column says what each attribute holds."""

    description: str = ""
    licence: str = "unknown"
    citation: str = ""


@dataclass(frozen=True)
class PublishedColumn:
    """A column of the published leaderboard.

    Args:
        csv_name: its name in leaderboard.csv.
        task: name of the task. The task of the beehive column has two folds, which are tasks of their own.
        mode: mode of the task.
        later_name: its name in published_later.csv; "" if it has no column there.
        column: how the board shows it, without what the caller knows about the task.
    """

    csv_name: str
    task: str
    mode: str
    later_name: str
    column: Column


_TASKS_2021 = {(task.name, mode): task for task in TASKS_2021 for mode in task.modes}


def _publish(
    folder: str, title: str, metric: str = "top1_acc", *, is_in_later: bool = False
) -> PublishedColumn:
    """Return a column; `formats/columns2021.py` has the name of its task in both CSV files."""
    name, _, rest = folder.partition("-")
    mode = rest.rpartition("-")[2]
    task = _TASKS_2021[BEEHIVE_FOLDS[0] if name == BEEHIVE else name, mode]
    column = Column(folder, title, find_domain(task.name), metric)
    return PublishedColumn(task.title, name, mode, task.key if is_in_later else "", column)


# In the order of leaderboard.csv. Each column shows the task's first metric.
PUBLISHED_COLUMNS: tuple[PublishedColumn, ...] = (
    _publish("beehive_states-v2-5h", "Beehive States", "aucroc"),
    _publish("beijing_opera-v1.0-hear2021-full", "Beijing Opera", is_in_later=True),
    _publish("tfds_crema_d-1.0.0-full", "CREMA-D", is_in_later=True),
    _publish(
        "dcase2016_task2-hear2021-full",
        "DCASE 2016 Task 2",
        "event_onset_200ms_fms",
        is_in_later=True,
    ),
    _publish("esc50-v2.0.0-full", "ESC-50", is_in_later=True),
    _publish("fsd50k-v1.0-full", "FSD50K", "mAP", is_in_later=True),
    _publish("tfds_gtzan-1.0.0-full", "GTZAN Genre"),
    _publish("tfds_gtzan_music_speech-1.0.0-full", "GTZAN Music/Speech"),
    _publish("gunshot_triangulation-v1.0-full", "Gunshot Triangulation"),
    _publish("libricount-v1.0.0-hear2021-full", "LibriCount", is_in_later=True),
    _publish("maestro-v3.0.0-5h", "MAESTRO 5h", "event_onset_50ms_fms"),
    _publish("mridangam_stroke-v1.5-full", "Mridangam Stroke", is_in_later=True),
    _publish("mridangam_tonic-v1.5-full", "Mridangam Tonic", is_in_later=True),
    _publish("nsynth_pitch-v2.2.3-50h", "NSynth Pitch 50h", "pitch_acc"),
    _publish("nsynth_pitch-v2.2.3-5h", "NSynth Pitch 5h", "pitch_acc", is_in_later=True),
    _publish("speech_commands-v0.0.2-5h", "Speech Commands 5h", is_in_later=True),
    _publish("speech_commands-v0.0.2-full", "Speech Commands full"),
    _publish("vocal_imitation-v1.1.3-full", "Vocal Imitations", "mAP"),
    _publish("vox_lingua_top10-hear2021-full", "VoxLingua107 Top 10", is_in_later=True),
)
# Folder -> the published column, and its place among them.
BY_FOLDER: Mapping[str, PublishedColumn] = {each.column.key: each for each in PUBLISHED_COLUMNS}
PLACES: Mapping[str, int] = {folder: place for place, folder in enumerate(BY_FOLDER)}
# Title of every task of heareval, also in modes that were never published.
_TITLES: Mapping[str, str] = {
    **{each.task: each.column.title.removesuffix(f" {each.mode}") for each in PUBLISHED_COLUMNS},
    "coughvid": "COUGHVID",
    "esc50_retrieval": "ESC-50 retrieval",
    "mridangam_stroke_retrieval": "Mridangam Stroke retrieval",
    "nsynth_pitch_kfold": "NSynth Pitch folds",
    "nsynth_pitch_retrieval": "NSynth Pitch retrieval",
    "spoken_digit": "Spoken Digit",
    "spoken_digit_abx": "Spoken Digit ABX",
    "tfds_crema_d_same_emotion": "CREMA-D same emotion",
    "tfds_crema_d_same_speaker": "CREMA-D same speaker",
    "timbre_similarity": "Timbre similarity",
    "vocal_imitation_retrieval": "Vocal Imitations retrieval",
    "vocal_imitation_retrieval_fine": "Vocal Imitations fine retrieval",
}
# Tasks that are scored by distances, which other protocols cannot score.
PAIRWISE_TASKS = frozenset(
    {
        "esc50_retrieval",
        "mridangam_stroke_retrieval",
        "nsynth_pitch_retrieval",
        "spoken_digit_abx",
        "tfds_crema_d_same_emotion",
        "tfds_crema_d_same_speaker",
        "timbre_similarity",
        "vocal_imitation_retrieval",
        "vocal_imitation_retrieval_fine",
    }
)


def make_column(result: CardResult) -> Column:
    """Return the column of a card's result, without what the caller knows about its task.

    The two beehive folds share the published column. Scores on a corpus that is known not to be the published
    one are not shown beside published scores. Tasks that are not heareval's have their names as titles.
    """
    scores = result.scores
    is_beehive = scores.task in BEEHIVE_FOLDS
    task = BEEHIVE if is_beehive else scores.task
    key = f"{task}-{scores.version}-{scores.mode}" if is_beehive else result.task_folder
    metric, is_lower_better = scores.metrics[0], scores.metrics[0] in result.lower_is_better
    published = BY_FOLDER.get(key)
    if published is None:
        title, domain = _TITLES.get(task, task), find_domain(scores.task)
        return Column(key, f"{title} {scores.mode}", domain, metric, is_lower_better)
    column = published.column
    if scores.is_the_published_corpus is not False and metric == column.metric:
        return column
    what = "other corpus" if scores.is_the_published_corpus is False else f"by {metric}"
    return replace(
        column,
        key=f"{key}-{make_slug(what)}",
        title=f"{column.title} ({what})",
        metric=metric,
        is_lower_better=is_lower_better,
    )


def describe_column(column: Column, facts: TaskFacts) -> Column:
    """Return a column with what the caller knows about its task."""
    return replace(column, description=facts.description, licence=facts.licence, citation=facts.citation)


def find_missing_name(task: str) -> str:
    """Return the key of the published column of a task that a card lacks, or the task's own name.

    Args:
        task: a name such as `esc50`, or `nsynth_pitch-5h` where two columns show modes of one task.

    >>> find_missing_name("nsynth_pitch-5h"), find_missing_name("my_task")
    ('nsynth_pitch-v2.2.3-5h', 'my_task')
    """
    task = BEEHIVE if task in BEEHIVE_FOLDS else task
    keys = [
        each.column.key
        for each in PUBLISHED_COLUMNS
        if task in (each.task, f"{each.task}-{each.mode}", each.column.key)
    ]
    return keys[0] if len(keys) == 1 else task


def find_title(key: str) -> str:
    """Return the title of a published column or of a task of heareval, or the key itself.

    >>> find_title("esc50-v2.0.0-full"), find_title("esc50_retrieval"), find_title("my_task")
    ('ESC-50', 'ESC-50 retrieval', 'my_task')
    """
    return BY_FOLDER[key].column.title if key in BY_FOLDER else _TITLES.get(key, key)


def could_be_scored(key: str, protocol: str) -> bool:
    """Return whether a task that a card lacks could have a score with a protocol.

    Args:
        key: key of a published column, or name of a task.

    >>> could_be_scored("esc50-v2.0.0-full", "hear2021"), could_be_scored("esc50-v2.0.0-full", "pairwise-l1")
    (True, False)
    """
    is_pairwise = protocol.startswith("pairwise-")
    return key not in (BY_FOLDER if is_pairwise else PAIRWISE_TASKS)
