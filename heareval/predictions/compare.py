"""Comparison of two submissions, from the predictions that their evaluations stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heareval import layout
from heareval.errors import HearevalError, unknown_name
from heareval.formats.scores import defined_or_none, number_to_json
from heareval.frames import make_frame
from heareval.markdown import escape_markdown, format_markdown_table
from heareval.predictions.differences import ComparedTask, Difference, average_tasks, compare_results
from heareval.predictions.metrics import METRICS
from heareval.predictions.statistics import interval_ends
from heareval.predictions.stored import StoredResult, read_stored
from heareval.predictions.table import format_interval, format_number, new_table, render_lines
from heareval.terminal import fold

if TYPE_CHECKING:
    import pandas

# Columns of a table: text, numbers, text.
LEFT, NUMBERS, RIGHT = ("task", "metric"), ("A", "B", "A - B", "95 % interval", "p"), ("p from", "protocol")
# Keys of `difference_to_dict` whose values are numbers, some of which may be undefined or infinite.
NUMBERS_OF_A_DIFFERENCE = ("score", "other_score", "difference", "low", "high", "p", "p_holm")


@dataclass(frozen=True)
class Comparison:
    """The comparison of two submissions.

    Args:
        a: name of submission A.
        b: name of submission B.
        differences: by task, protocol and metric.
        overall: for each protocol the mean difference of the tasks' first metrics.
        not_compared: what could not be compared, and why.
        notes: remarks on what was compared.
    """

    a: str
    b: str
    differences: tuple[Difference, ...]
    overall: tuple[Difference, ...]
    not_compared: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary for each task, protocol and metric, then for the means over tasks.

        Its keys are those of `difference_to_dict`; p needs no correction.

        Example: `{each["task"]: each["difference"] for each in heareval.compare("a", "b").to_dicts()}`
        """
        return [
            difference_to_dict((self.a, self.b), each, each.p, int(not math.isnan(each.p)))
            for each in (*self.differences, *self.overall)
        ]

    def to_frame(self) -> pandas.DataFrame:
        """Return `to_dicts` as a pandas.DataFrame, with a row for each dictionary.

        Raises:
            HearevalError: pandas is not installed.

        Example: `heareval.compare("a", "b").to_frame().set_index("task")["difference"]`
        """
        return make_frame(self.to_dicts(), "Comparison.to_frame", numbers=NUMBERS_OF_A_DIFFERENCE)

    def to_markdown(self) -> str:
        """Return the table that `heareval compare` prints as Markdown, with its notes.

        Example: `print(heareval.compare("a", "b").to_markdown())`
        """
        rows = [[escape_markdown(cell) for cell in row] for row in _make_rows(self)]
        parts = ["\n".join(f"* {escape_markdown(line)}" for line in _list_names(self))]
        parts.append(format_markdown_table([*LEFT, *NUMBERS, *RIGHT], rows))
        parts += [escape_markdown(f"Note: {note}.") for note in _list_notes(self)]
        return "\n\n".join(parts)


def find_submission(name: str, embeddings: Path) -> Path:
    """Return the folder of a submission.

    Args:
        name: name of a folder in the embeddings folder, or a path.

    Raises:
        HearevalError: there is no such submission.
    """
    if name and (embeddings / name).is_dir():
        return embeddings / name
    if name and Path(name).is_dir():
        return Path(name).absolute()
    known = [path.name for path in embeddings.glob("*") if path.is_dir() and not path.name.startswith(".")]
    if not known:
        remedy = "Name another with --embeddings-dir."
        raise HearevalError(f"embeddings folder {embeddings}", got="no submissions in it", remedy=remedy)
    raise unknown_name("submission", name, known)


def find_scored(submission: Path) -> set[tuple[str, str]]:
    """Return the protocols and tasks that a submission has scores of; hidden folders are ignored.

    Raises:
        HearevalError: it has none.
    """
    tasks = [path for path in submission.glob("*") if path.is_dir() and not path.name.startswith(".")]
    scored = {(protocol, path.name) for path in tasks for protocol in layout.scored_protocols(path)}
    if not scored and layout.scored_protocols(submission):
        expected = "the folder of a submission, embeddings/SUBMISSION"
        raise HearevalError(f"{submission}", got="the scores of one task", expected=expected)
    if not scored:
        raise HearevalError(f"{submission}", got="no scores", remedy="Run `heareval evaluate` first.")
    return scored


def describe_exclusive(name: str, scored: set[tuple[str, str]]) -> list[str]:
    """Return a line for each protocol of which only one submission has scores, with the tasks."""
    tasks = {each: sorted(task for protocol, task in scored if protocol == each) for each, _ in scored}
    return [f"only {name} has scores of {each}: {', '.join(tasks[each])}" for each in sorted(tasks)]


def compare(a: Path, b: Path) -> Comparison:
    """Compare all scores that two submissions have in common.

    Args:
        a: folder of submission A, with a folder of embeddings for each task.
        b: folder of submission B.

    Raises:
        HearevalError: there is nothing to compare, or a result is damaged.
    """
    scored_a, scored_b = find_scored(a), find_scored(b)
    not_compared = [
        *describe_exclusive(a.name, scored_a - scored_b),
        *describe_exclusive(b.name, scored_b - scored_a),
    ]
    notes: list[str] = []
    compared: list[ComparedTask] = []
    for protocol, task in sorted(scored_a & scored_b):
        results = [read_stored(folder / task, protocol) for folder in (a, b)]
        found = compare_results(task, protocol, results)
        compared += found.pairs.values()
        not_compared += [
            f"{task}, {protocol}: not compared: {reason}" for reason in found.mismatches.values()
        ]
        if found.pairs:
            notes += _describe_seeds(task, *results)
    overall = average_tasks(compared)
    differences = tuple(difference for task in compared for difference in task.differences)
    notes += [*_describe_intervals([*differences, *overall]), *_describe_means(compared, overall)]
    if not compared:
        got = "; ".join(not_compared) or "no scores"
        raise HearevalError(f"{a} and {b}", got=got, expected="scores of both on the same clips of a task")
    return Comparison(
        a.name,
        b.name,
        differences,
        overall,
        tuple(not_compared),
        tuple(dict.fromkeys(notes)),
    )


def _describe_seeds(task: str, result_a: StoredResult, result_b: StoredResult) -> list[str]:
    """Return a note if the results have different seeds, because the difference then includes their noise."""
    a, b = (result.scores.runs[0].seed for result in (result_a, result_b))
    if a == b:
        return []
    more = f" (and the next {len(result_a.runs) - 1})" if len(result_a.runs) > 1 else ""
    return [f"{task}, {result_a.protocol}: A has seed {a}, B has seed {b}{more}"]


def _describe_intervals(differences: Sequence[Difference]) -> list[str]:
    """Return a note for each reason why differences have no interval, with the tasks and metrics."""
    tasks: dict[str, dict[str, list[str]]] = {}
    for each in differences:
        if each.no_interval:
            tasks.setdefault(each.no_interval, {}).setdefault(each.task, []).append(each.metric)
    return [
        f"no 95 % interval, as {why}: "
        + ", ".join(f"{task} ({', '.join(dict.fromkeys(metrics))})" for task, metrics in by_task.items())
        for why, by_task in tasks.items()
    ]


def _describe_means(compared: Sequence[ComparedTask], overall: Sequence[Difference]) -> list[str]:
    """Return a note for each protocol whose mean leaves out tasks, or has tasks without an interval."""
    notes = []
    for mean in overall:
        protocol = mean.protocol
        firsts = [task.differences[0] for task in compared if task.differences[0].protocol == protocol]
        if left_out := [each.task for each in firsts if not math.isfinite(each.value)]:
            notes.append(
                f"the mean of {protocol} leaves out undefined or infinite differences: {', '.join(left_out)}"
            )
        doubtful = [each.task for each in firsts if each.no_interval]
        if doubtful and mean.interval.resamples:
            notes.append(
                f"the interval of the mean of {protocol} rests on tasks without one: {', '.join(doubtful)}"
            )
    return notes


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON values; undefined numbers are null."""
    return {
        "a": comparison.a,
        "b": comparison.b,
        "differences": [_difference_to_json(each) for each in comparison.differences],
        "overall": [_difference_to_json(each) for each in comparison.overall],
        "not_compared": list(comparison.not_compared),
        "notes": list(comparison.notes),
    }


def _difference_to_json(difference: Difference) -> dict[str, Any]:
    ends = interval_ends(difference.interval)
    return {
        "task": difference.task,
        "protocol": difference.protocol,
        "metric": difference.metric,
        "a": number_to_json(defined_or_none(difference.a)),
        "b": number_to_json(defined_or_none(difference.b)),
        "difference": number_to_json(defined_or_none(difference.value)),
        "p": defined_or_none(difference.p),
        "p_from": difference.p_from,
        "no_interval": difference.no_interval,
        "interval_95": ends and list(ends),
        "resamples": difference.interval.resamples,
        "undefined_resamples": difference.interval.undefined,
    }


def difference_to_dict(
    submissions: tuple[str, str], difference: Difference, p_holm: float, comparisons: int
) -> dict[str, Any]:
    """Return the difference of two submissions as values, which are None where they are undefined.

    The keys are submission, other, task, task_folder ("" for a mean over tasks), protocol, metric, score,
    other_score, difference (score minus other_score; scores are not times 100), low and high (the ends of its
    95 % interval), p, p_holm (p corrected by Holm's method), comparisons (the number of pairs that it is
    corrected for), p_from, no_interval (why there is none), resamples and undefined_resamples. A mean over
    tasks has no scores.
    """
    submission, other = submissions
    values = _difference_to_json(difference)
    low, high = values["interval_95"] or (None, None)
    return {
        "submission": submission,
        "other": other,
        "task": difference.task_name,
        "task_folder": "" if difference.is_mean else difference.task,
        "protocol": difference.protocol,
        "metric": difference.metric,
        "score": values["a"],
        "other_score": values["b"],
        "difference": values["difference"],
        "low": low,
        "high": high,
        "p": values["p"],
        "p_holm": defined_or_none(p_holm),
        "comparisons": comparisons,
        **{key: values[key] for key in ("p_from", "no_interval", "resamples", "undefined_resamples")},
    }


def comparison_table(comparison: Comparison, columns: int | None = None) -> str:
    """Return a comparison as text: a row for each metric, then for the means, then notes.

    Args:
        columns: width of the terminal; None if it is none.
    """
    table = new_table(LEFT, NUMBERS, RIGHT)
    for row in _make_rows(comparison):
        table.add_row(*row)
    names = [fold(name, columns) for name in _list_names(comparison)]
    notes = [fold(f"note: {note}", columns) for note in _list_notes(comparison)]
    return "\n".join([*names, *render_lines(table, columns), *notes])


def _make_rows(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    for each in (*comparison.differences, *comparison.overall):
        scores = ["" if each.is_mean else format_number(defined_or_none(score)) for score in (each.a, each.b)]
        interval = format_interval(interval_ends(each.interval))
        p = "" if math.isnan(each.p) else format_number(each.p)
        value = format_number(defined_or_none(each.value))
        yield (each.task, each.metric, *scores, value, interval, p, each.p_from, each.protocol)


def _list_names(comparison: Comparison) -> list[str]:
    return [f"A: {comparison.a}", f"B: {comparison.b}"]


def _list_notes(comparison: Comparison) -> list[str]:
    lower_is_better = dict.fromkeys(
        each.metric for each in comparison.differences if not METRICS[each.metric].maximise
    )
    return [
        *(f"{name}: lower is better" for name in lower_is_better),
        *comparison.notes,
        *comparison.not_compared,
    ]
