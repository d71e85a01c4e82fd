"""Our scores of a model beside a published row: do they differ by more than noise?

Both runs tested the same clips, but each trained its predictors with other random numbers, on arrays that may
differ in rounding, dither or the version of a library. So a difference is compared with a tolerance of two
parts:

    tolerance = sqrt(h ** 2 + (2 * s * sqrt(1 + 1 / n)) ** 2)

h is half the width of our 95 % interval over test clips, s the standard deviation over seeds, and n the
number of our seeds; the published score is of one seed. "Within noise" means that the test set is too small
to tell the two scores apart. It does not mean that they are equal: two runs on the same clips usually differ
by the seed part only, which is shown beside the difference.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from heareval.errors import HearevalError
from heareval.formats.scores import ScoreEntry, Scores, defined_or_none, number_to_json
from heareval.leaderboard.board import Row
from heareval.leaderboard.columns import BEEHIVE, BEEHIVE_FOLDS, PUBLISHED_COLUMNS, PublishedColumn

# Standard deviation of scores over 10 seeds of one model, by the task's folder, as one team measured it.
SEED_STD: Mapping[str, float] = {
    "beijing_opera-v1.0-hear2021-full": 0.003,
    "tfds_crema_d-1.0.0-full": 0.001,
    "esc50-v2.0.0-full": 0.004,
    "fsd50k-v1.0-full": 0.001,
    "libricount-v1.0.0-hear2021-full": 0.002,
    "mridangam_stroke-v1.5-full": 0.001,
    "mridangam_tonic-v1.5-full": 0.001,
    "nsynth_pitch-v2.2.3-5h": 0.005,
    "speech_commands-v0.0.2-5h": 0.003,
    "vox_lingua_top10-hear2021-full": 0.007,
}
# More seeds leave the protocol as it is.
COMPARABLE_PROTOCOL = re.compile(r"hear2021(-\d+seeds)?")


class Verdict(Enum):
    """What a difference means."""

    WITHIN_NOISE = "within noise"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class KnownDifference:
    """Something that is known to make a score differ from one of 2021.

    Args:
        text: a sentence of the Scores section of CHANGELOG.md.
        applies: returns whether it concerns some scores.
    """

    text: str
    applies: Callable[[Scores], bool]


KNOWN_DIFFERENCES = (
    KnownDifference(
        "Resampled clips are not dithered. They stay within 2 LSB of the published ones, which were dithered "
        "at "
        "random.",
        lambda scores: True,
    ),
    KnownDifference(
        "The order of grid points, the weights and the dropout come from heareval's own seeds.",
        lambda scores: True,
    ),
    KnownDifference(
        "Dropout masks are drawn in a different way, in a third of the time on a CPU, and every network has "
        "its own random numbers for its weights, its dropout and, with `--shuffle`, its batches (predictor "
        "version 3): other "
        "samples from the same distribution.",
        lambda scores: True,
    ),
    KnownDifference(
        "On a GPU, networks are trained in parallel, which rounds sums in a different order: scores differ "
        "as between "
        "a CPU and a GPU.",
        lambda scores: scores.device != "cpu",
    ),
    KnownDifference(
        "`--dtype float16`, `--precision` and `--chunk-seconds` may change scores; results that used them "
        "say so.",
        lambda scores: bool(scores.unusual_embedding),
    ),
    KnownDifference(
        "A task made with `--from-published` has its other sample rates resampled from 48 kHz, not from the "
        "corpus' "
        "own rate.",
        lambda scores: bool(scores.made_from.get("tarball")),
    ),
    KnownDifference(
        "Embeddings (stage `embed`, version 2) of clips of unequal length come from different batches than "
        "before, "
        "which may change them by float noise.",
        lambda scores: scores.task == "fsd50k",
    ),
    KnownDifference(
        "vox_lingua_top10: a tie at the tenth place is broken by the name of the language; in 2021 it "
        "depended on the "
        "order of a directory.",
        lambda scores: scores.task == "vox_lingua_top10",
    ),
    KnownDifference(
        "An event score without any estimated event is 0, not NaN.",
        lambda scores: scores.task in ("dcase2016_task2", "maestro"),
    ),
)


@dataclass(frozen=True)
class TaskParity:
    """Our score of one task and protocol beside the published one. Numbers are None where they are undefined.

    Args:
        task: name of the task's folder.
        metric: the task's first metric.
        ours: our score.
        published: the published score.
        difference: ours minus the published one.
        interval_95: ends of our 95 % interval; an end is None where it is infinite.
        seeds: number of our seeds.
        seed_std: standard deviation over seeds; None if unknown.
        tolerance: the largest difference that counts as noise; None if there is nothing to judge by.
        reason: why the scores are not comparable, or what the verdict lacks; "" if there is nothing to say.
    """

    task: str
    protocol: str
    metric: str
    ours: float | None
    published: float | None
    difference: float | None
    interval_95: tuple[float | None, float | None] | None
    seeds: int
    seed_std: float | None
    tolerance: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Parity:
    """The scores of a submission beside a published row.

    Args:
        submission: name of the submission.
        row: the published row.
        tasks: what both have a score of.
        only_ours: folders of tasks that the row has no score of.
        only_published: keys of columns of which the row has a score and the submission has none.
        known_differences: what is known to make scores differ from those of 2021 -> the tasks it concerns.
    """

    submission: str
    row: Row
    tasks: tuple[TaskParity, ...]
    only_ours: tuple[str, ...]
    only_published: tuple[str, ...]
    known_differences: Mapping[str, tuple[str, ...]]


def find_row(rows: Sequence[Row], name: str) -> Row:
    """Return the row with a name, or with a name and a source: `HEAR-Naive (GRAM 2026)`.

    Upper and lower case are alike.

    Raises:
        HearevalError: there is none, or there are several.

    >>> from heareval.leaderboard.published import read_published
    >>> find_row(read_published(), "crepe").name
    'CREPE'
    """
    wanted = name.casefold()
    found = [row for row in rows if wanted in (row.name.casefold(), name_row(row).casefold())]
    if len(found) == 1:
        return found[0]
    if found:
        raise HearevalError(
            "published row",
            got=f"{name!r}, which {len(found)} sources have",
            expected=" or ".join(map(repr, map(name_row, found))),
        )
    known = {row.name.casefold(): row.name for row in rows}
    near = [known[each] for each in difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)]
    near += [row.name for row in rows if wanted in row.name.casefold() and row.name not in near][:3]
    remedy = f"Did you mean {' or '.join(near)}? " if near else ""
    raise HearevalError(
        "unknown published row",
        got=repr(name),
        expected=f"one of {len(rows)}",
        remedy=f"{remedy}`heareval parity --rows` lists them.",
    )


def name_row(row: Row) -> str:
    """Return the name of a row that no other row has: its own and that of its source."""
    return f"{row.name} ({row.source})"


def compare_with_row(submission: str, results: Sequence[Scores], row: Row) -> Parity:
    """Return the scores of a submission beside a published row.

    Args:
        submission: name of the submission.
        results: its scores, one for each task and protocol.
        row: a published row.
    """
    tasks, only_ours, seen = [], [], set()
    known: dict[str, list[str]] = {}
    for scores in results:
        folder = _name_folder(scores)
        published = _find_column(scores)
        if published is None or published.column.key not in row.cells:
            only_ours.append(folder)
            continue
        seen.add(published.column.key)
        tasks.append(_compare_task(scores, published, row))
        if tasks[-1].verdict is not Verdict.NOT_COMPARABLE:
            for each in KNOWN_DIFFERENCES:
                if each.applies(scores):
                    known.setdefault(each.text, []).append(folder)
    return Parity(
        submission,
        row,
        tuple(tasks),
        tuple(dict.fromkeys(only_ours)),
        tuple(key for key in row.cells if key not in seen),
        {text: tuple(dict.fromkeys(folders)) for text, folders in known.items()},
    )


def _name_folder(scores: Scores) -> str:
    return f"{scores.task}-{scores.version}-{scores.mode}"


def _find_column(scores: Scores) -> PublishedColumn | None:
    """Return the published column of a task in this mode or, if there is none, in another mode."""
    task = BEEHIVE if scores.task in BEEHIVE_FOLDS else scores.task
    found = [each for each in PUBLISHED_COLUMNS if each.task == task]
    found.sort(key=lambda each: each.mode != scores.mode)
    return found[0] if found else None


def _compare_task(scores: Scores, published: PublishedColumn, row: Row) -> TaskParity:
    column = published.column
    entry = scores.scores.get(column.metric, ScoreEntry(None))
    printed = row.cells[column.key].score
    difference = defined_or_none(entry.value - printed)
    seed_std = SEED_STD.get(column.key, entry.seed_std)
    tolerance = _find_tolerance(entry, seed_std, len(scores.runs))
    reason = "; ".join(_list_reasons(scores, published, entry, tolerance))
    if reason:
        verdict = Verdict.NOT_COMPARABLE
    else:
        is_within = difference is not None and tolerance is not None and abs(difference) <= tolerance
        verdict = Verdict.WITHIN_NOISE if is_within else Verdict.DIFFERS
        reason = "; ".join(_list_remarks(scores, entry, seed_std))
    return TaskParity(
        task=_name_folder(scores),
        protocol=scores.protocol,
        metric=column.metric,
        ours=entry.score,
        published=printed,
        difference=difference,
        interval_95=entry.interval_95,
        seeds=len(scores.runs),
        seed_std=seed_std,
        tolerance=tolerance,
        verdict=verdict,
        reason=reason,
    )


def _find_tolerance(entry: ScoreEntry, seed_std: float | None, seeds: int) -> float | None:
    """Return the largest difference that counts as noise; the module says how it is computed."""
    if entry.interval_95 is None or None in entry.interval_95:
        half = None
    else:
        half = (entry.interval_95[1] - entry.interval_95[0]) / 2  # type: ignore[operator]
    if half is None and seed_std is None:
        return None
    return math.hypot(half or 0.0, 2 * (seed_std or 0.0) * math.sqrt(1 + 1 / seeds))


def _list_reasons(
    scores: Scores, published: PublishedColumn, entry: ScoreEntry, tolerance: float | None
) -> Iterator[str]:
    """Yield why scores are not comparable with the published ones, the plainest reason first."""
    if not COMPARABLE_PROTOCOL.fullmatch(scores.protocol):
        yield f"protocol {scores.protocol} instead of hear2021"
    if scores.mode != published.mode:
        yield f"mode {scores.mode} instead of {published.mode}"
    if scores.is_the_published_corpus is False:
        yield "not the published corpus"
    if scores.task in BEEHIVE_FOLDS:
        yield "the published table does not say how its column combines the two folds"
    if not math.isfinite(entry.value):
        yield f"{published.column.metric} is {'infinite' if math.isinf(entry.value) else 'undefined'}"
    if tolerance is None:
        yield "neither an interval nor the standard deviation over seeds is known"


def _list_remarks(scores: Scores, entry: ScoreEntry, seed_std: float | None) -> Iterator[str]:
    """Yield what a reader of a verdict should know."""
    if scores.is_the_published_corpus is None:
        yield "whether this is the published corpus is unknown"
    if entry.interval_95 is None or None in entry.interval_95:
        yield "no interval, so the tolerance covers seeds only"
    if seed_std is None:
        yield "the standard deviation over seeds is unknown"


def parity_to_json(parity: Parity) -> dict[str, object]:
    """Return a comparison as JSON values; infinite numbers are "inf"."""
    tasks = [{**vars(each), "verdict": each.verdict.value} for each in parity.tasks]
    values = {
        "submission": parity.submission,
        "row": parity.row.name,
        "source": parity.row.source,
        "tasks": tasks,
        "only_ours": parity.only_ours,
        "only_published": parity.only_published,
        "known_differences": parity.known_differences,
    }
    return dict(number_to_json(values))
