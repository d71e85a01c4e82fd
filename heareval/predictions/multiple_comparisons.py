"""Comparison of three or more submissions: each with each, with p-values corrected for their number."""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heareval.errors import HearevalError
from heareval.frames import make_frame
from heareval.layout import display_path
from heareval.markdown import escape_markdown, format_markdown_table
from heareval.predictions.compare import (
    NUMBERS_OF_A_DIFFERENCE,
    describe_exclusive,
    difference_to_dict,
    find_scored,
)
from heareval.predictions.differences import ComparedTask, Difference, average_tasks, compare_results
from heareval.predictions.metrics import METRICS
from heareval.predictions.pvalues import correct_by_holm
from heareval.predictions.stored import StoredResult, read_stored
from heareval.spec import Progress, ignore_progress

if TYPE_CHECKING:
    import pandas

# Corrected p-values below these are marked.
MARKS = ((0.01, "**"), (0.05, "*"))
# The smallest p that one draw of bootstrap resamples gives is 0.002; corrected for this many pairs, 0.048.
PAIRS_OF_A_DRAW = 24
NOT_COMPARED = "-"
# Characters of a line where the width of the terminal does not matter.
WIDTH = 80


@dataclass(frozen=True)
class PairDifference:
    """The difference of two of several submissions.

    Args:
        a: place of submission A among all.
        b: place of submission B, after A's.
        difference: A's score minus B's; its p is not corrected.
        p_holm: p corrected for the pairs of the matrix by Holm's method; NaN if there is no p.
    """

    a: int
    b: int
    difference: Difference
    p_holm: float


@dataclass(frozen=True)
class Matrix:
    """The differences of each two submissions in one metric of a task, or in the mean over tasks.

    Args:
        task: name of the task's folder, or of the mean over several tasks.
        is_shown: whether the metric is the first of its task; text shows no others.
        scores: place of a submission -> its score; {} for a mean over tasks.
        pairs: what could be compared.
    """

    task: str
    protocol: str
    metric: str
    is_shown: bool
    scores: Mapping[int, float]
    pairs: tuple[PairDifference, ...]

    @property
    def comparisons(self) -> int:
        """Return the number of p-values, for which they are corrected."""
        return sum(not math.isnan(each.difference.p) for each in self.pairs)

    @property
    def places(self) -> list[int]:
        """Return the places of the submissions that were compared with another one."""
        return sorted({place for each in self.pairs for place in (each.a, each.b)})


@dataclass(frozen=True, repr=False)
class MultipleComparison:
    """The comparison of three or more submissions, each with each.

    It prints as a matrix for each task and one for the mean over tasks. Text calls the submissions A, B, C
    and so on.

    Args:
        submissions: their names, in the order in which they were given.
        matrices: by protocol, task and metric.
        overall: for each protocol the mean over the tasks on which all submissions were compared.
        not_compared: what could not be compared, and why.
        notes: remarks on what was compared.

    Example: `heareval.compare("one", "two", "three").to_markdown()`
    """

    submissions: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    overall: tuple[Matrix, ...]
    not_compared: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return format_multiple(self)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary for each pair of submissions, task, protocol and metric, then for the means.

        Its keys are those of `heareval.predictions.compare.difference_to_dict`.

        Example: `[each["other"] for each in found.to_dicts() if each["p_holm"] < 0.05]`
        """
        return [
            difference_to_dict(
                (self.submissions[each.a], self.submissions[each.b]),
                each.difference,
                each.p_holm,
                matrix.comparisons,
            )
            for matrix in (*self.matrices, *self.overall)
            for each in matrix.pairs
        ]

    def to_frame(self) -> pandas.DataFrame:
        """Return `to_dicts` as a pandas.DataFrame, with a row for each dictionary.

        Raises:
            HearevalError: pandas is not installed.

        Example: `found.to_frame().query("metric == 'top1_acc'").pivot_table("p_holm", "submission", "other")`
        """
        return make_frame(self.to_dicts(), "MultipleComparison.to_frame", numbers=NUMBERS_OF_A_DIFFERENCE)

    def to_markdown(self) -> str:
        """Return the matrices as Markdown, with what their numbers are.

        Example: `print(heareval.compare("one", "two", "three").to_markdown())`
        """
        lists = (_list_letters(self), _explain(self))
        parts = ["\n".join(f"* {escape_markdown(line)}" for line in lines) for lines in lists]
        for matrix in _list_shown(self):
            head, *rows = ([escape_markdown(cell) for cell in row] for row in _make_cells(matrix))
            parts.append(escape_markdown(_name_matrix(matrix)))
            parts.append(format_markdown_table(head, rows))
        parts += [escape_markdown(f"Note: {note}.") for note in _list_notes(self)]
        return "\n\n".join(parts)


def compare_each(folders: Sequence[Path], progress: Progress = ignore_progress) -> MultipleComparison:
    """Compare all scores of three or more submissions, each with each.

    The predictions of each submission are read once. Its scores are resampled once, on the same clips as
    those of all others, and all pairs are tested with the same random swaps.

    Args:
        folders: folders of submissions, with a folder of embeddings for each task.
        progress: receives the numbers of results that have been compared, and of all.

    Raises:
        HearevalError: a submission is named twice, there is nothing to compare, or a result is damaged.
    """
    _check_distinct(folders)
    scored = [find_scored(folder) for folder in folders]
    several = {each for a, b in combinations(scored, 2) for each in a & b}
    letters = [name_place(place) for place in range(len(folders))]
    not_compared = _describe_missing(letters, scored, several)
    notes: list[str] = []
    compared: list[dict[tuple[int, int], ComparedTask]] = []
    pairs = len(folders) * (len(folders) - 1) // 2
    done, total = 0, sum(len(each & several) for each in scored)
    for protocol, task in sorted(several):
        progress(done, total)
        places = [place for place, each in enumerate(scored) if (protocol, task) in each]
        results = [read_stored(folders[place] / task, protocol) for place in places]
        found = compare_results(task, protocol, results, draws=math.ceil(pairs / PAIRS_OF_A_DRAW))
        compared.append({(places[a], places[b]): each for (a, b), each in found.pairs.items()})
        not_compared += [
            f"{task}, {protocol}: {letters[places[a]]} and {letters[places[b]]} not compared: {reason}"
            for (a, b), reason in found.mismatches.items()
        ]
        notes += _describe_seeds(task, {letters[i]: each for i, each in zip(places, results, strict=True)})
        done += len(places)
    if not any(compared):
        got, expected = "; ".join(not_compared), "scores of several on the same clips of a task"
        raise HearevalError(", ".join(map(display_path, folders)), got=got, expected=expected)
    matrices = tuple(matrix for each in compared for matrix in _make_matrices(each))
    overall = tuple(_average(compared, pairs))
    shown = [*(each for each in matrices if each.is_shown), *overall]
    notes += [*_describe_counts(shown, pairs), *_describe_undefined(shown), *_describe_means(shown, pairs)]
    return MultipleComparison(_name(folders), matrices, overall, tuple(not_compared), tuple(notes))


def _name(folders: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of submissions: those of their folders, or paths if two have the same name."""
    names = tuple(folder.name for folder in folders)
    return names if len(set(names)) == len(names) else tuple(map(display_path, folders))


def name_place(place: int) -> str:
    """Return the letter of a submission.

    >>> name_place(0), name_place(25), name_place(26)
    ('A', 'Z', 'AA')
    """
    rounds, letter = divmod(place, len(string.ascii_uppercase))
    return (string.ascii_uppercase[rounds - 1] if rounds else "") + string.ascii_uppercase[letter]


def _check_distinct(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            expected = "different ones"
            raise HearevalError("submissions to compare", got=f"{folder.name} twice", expected=expected)
        seen.add(folder.resolve())


# --------------------------------------------------------------------------- matrices


def _make_matrices(compared: Mapping[tuple[int, int], ComparedTask]) -> Iterator[Matrix]:
    """Yield a matrix for each metric of a task, the first metric first."""
    firsts = {each.differences[0].metric for each in compared.values()}
    by_metric: dict[str, dict[tuple[int, int], Difference]] = {}
    for pair, task in compared.items():
        for difference in task.differences:
            by_metric.setdefault(difference.metric, {})[pair] = difference
    for metric, differences in by_metric.items():
        yield _make_matrix(differences, is_shown=metric in firsts)


def _make_matrix(differences: Mapping[tuple[int, int], Difference], *, is_shown: bool) -> Matrix:
    pairs = sorted(differences)
    ordered = [differences[pair] for pair in pairs]
    corrected = correct_by_holm([each.p for each in ordered])
    first = ordered[0]
    scores: dict[int, float] = {}
    for (a, b), each in zip(pairs, ordered, strict=True) if not first.is_mean else ():
        scores |= {a: each.a, b: each.b}
    return Matrix(
        first.task,
        first.protocol,
        first.metric,
        is_shown,
        scores,
        tuple(
            PairDifference(*pair, each, p) for pair, each, p in zip(pairs, ordered, corrected, strict=True)
        ),
    )


def _average(compared: Sequence[Mapping[tuple[int, int], ComparedTask]], pairs: int) -> Iterator[Matrix]:
    """Yield a matrix of mean differences for each protocol with several tasks that compare all pairs."""
    complete = [
        task
        for task in compared
        if len(task) == pairs and all(math.isfinite(each.differences[0].value) for each in task.values())
    ]
    means: dict[str, dict[tuple[int, int], Difference]] = {}
    for pair in complete[0] if complete else ():
        for mean in average_tasks([task[pair] for task in complete]):
            means.setdefault(mean.protocol, {})[pair] = mean
    for differences in means.values():
        yield _make_matrix(differences, is_shown=True)


# --------------------------------------------------------------------------- notes


def _describe_missing(
    letters: Sequence[str], scored: Sequence[set[tuple[str, str]]], several: set[tuple[str, str]]
) -> list[str]:
    """Return a line for each submission and protocol with scores that others lack, or that it lacks."""
    lines = []
    for letter, each in zip(letters, scored, strict=True):
        lines += describe_exclusive(letter, each - several)
        missing = several - each
        for protocol in sorted({protocol for protocol, _ in missing}):
            tasks = sorted(task for of, task in missing if of == protocol)
            lines.append(f"{letter} has no scores of {protocol}: {', '.join(tasks)}")
    return lines


def _describe_seeds(task: str, results: Mapping[str, StoredResult]) -> list[str]:
    """Return a note if results have different seeds, because differences then include their noise."""
    letters: dict[int, list[str]] = {}
    for letter, result in results.items():
        letters.setdefault(result.scores.runs[0].seed, []).append(letter)
    if len(letters) == 1:
        return []
    any_of = next(iter(results.values()))
    more = f" (and the next {len(any_of.runs) - 1})" if len(any_of.runs) > 1 else ""
    told = ", ".join(
        f"{_join_words(some)} {'has' if len(some) == 1 else 'have'} seed {seed}"
        for seed, some in letters.items()
    )
    return [f"{task}, {any_of.protocol}: {told}{more}"]


def _describe_counts(shown: Sequence[Matrix], pairs: int) -> list[str]:
    """Return a note on the matrices whose p-values are corrected for fewer comparisons than the others."""
    tasks: dict[int, list[str]] = {}
    for matrix in shown:
        if 0 < matrix.comparisons < pairs:
            tasks.setdefault(matrix.comparisons, []).append(f"{matrix.task}, {matrix.protocol}")
    return [f"p corrected for {_count(number)} only: {'; '.join(names)}" for number, names in tasks.items()]


def _describe_undefined(shown: Sequence[Matrix]) -> list[str]:
    """Return a note for each reason why differences have no p, with the tasks and pairs."""
    told: dict[str, list[str]] = {}
    for matrix in shown:
        lacking: dict[str, list[PairDifference]] = {}
        for each in matrix.pairs:
            if math.isnan(each.difference.p) and (why := each.difference.no_interval):
                why = "none of its tasks has an interval" if each.difference.is_mean else why
                lacking.setdefault(why, []).append(each)
        for why, some in lacking.items():
            named = [f"{name_place(each.a)} and {name_place(each.b)}" for each in some]
            which = "" if len(some) == len(matrix.pairs) else f" ({', '.join(named)})"
            told.setdefault(why, []).append(f"{matrix.task}{which}")
    return [f"no p, as {why}: {', '.join(names)}" for why, names in told.items()]


def _describe_means(shown: Sequence[Matrix], pairs: int) -> list[str]:
    """Return a note for each protocol without a mean, and for each mean that leaves out or doubts tasks."""
    notes = []
    means = {each.protocol: each for each in shown if not each.scores}
    tasks: dict[str, list[Matrix]] = {}
    for each in shown:
        if each.scores:
            tasks.setdefault(each.protocol, []).append(each)
    for protocol, some in tasks.items():
        averaged = [each for each in some if _is_complete(each, pairs)]
        left_out = [each for each in some if not _is_complete(each, pairs)]
        doubtful = [each for each in averaged if any(pair.difference.no_interval for pair in each.pairs)]
        if protocol not in means:
            if left_out and len(some) > 1:
                notes.append(f"no mean of {protocol}: it needs two tasks with all differences")
            continue
        if left_out:
            notes.append(
                f"the mean of {protocol} leaves out tasks that lack differences: {_name_tasks(left_out)}"
            )
        if doubtful and means[protocol].comparisons:
            notes.append(
                f"p of the mean of {protocol} rests on tasks without an interval: {_name_tasks(doubtful)}"
            )
    return notes


def _is_complete(matrix: Matrix, pairs: int) -> bool:
    """Return whether a matrix has a difference for each pair, none of which is undefined or infinite."""
    values = [each.difference.value for each in matrix.pairs]
    return len(values) == pairs and all(map(math.isfinite, values))


def _name_tasks(matrices: Sequence[Matrix]) -> str:
    return ", ".join(dict.fromkeys(each.task for each in matrices))


# --------------------------------------------------------------------------- text


def multiple_to_json(comparison: MultipleComparison) -> dict[str, Any]:
    """Return a comparison as JSON values; undefined numbers are null."""
    rows = comparison.to_dicts()
    differences = sum(len(matrix.pairs) for matrix in comparison.matrices)
    return {
        "submissions": {name_place(place): name for place, name in enumerate(comparison.submissions)},
        "correction": "Holm",
        "differences": rows[:differences],
        "overall": rows[differences:],
        "not_compared": list(comparison.not_compared),
        "notes": list(comparison.notes),
    }


def format_multiple(comparison: MultipleComparison, columns: int | None = None) -> str:
    """Return a comparison as text: a matrix for each task, then for the means, then notes.

    Args:
        columns: width of the terminal, for which a wider matrix is cut into blocks of columns, one below the
            other; None if it is none.
    """
    lines = _list_letters(comparison)
    for line in _explain(comparison):
        lines += _wrap(line, columns or WIDTH)
    for matrix in _list_shown(comparison):
        lines += ["", *_wrap(_name_matrix(matrix), columns), *_align(_make_cells(matrix), columns)]
    if notes := _list_notes(comparison):
        lines.append("")
    for note in notes:
        lines += _wrap(f"note: {note}", columns)
    return "\n".join(lines)


def _wrap(line: str, columns: int | None) -> list[str]:
    """Return a line cut between words; names of tasks have hyphens, and stay whole."""
    if columns is None:
        return [line]
    return textwrap.wrap(
        line, columns, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False
    )


def _list_shown(comparison: MultipleComparison) -> list[Matrix]:
    return [*(each for each in comparison.matrices if each.is_shown), *comparison.overall]


def _list_letters(comparison: MultipleComparison) -> list[str]:
    return [f"{name_place(place)}: {name}" for place, name in enumerate(comparison.submissions)]


def _explain(comparison: MultipleComparison) -> list[str]:
    """Return what the numbers of the matrices are, a line for each half."""
    pairs = len(comparison.submissions) * (len(comparison.submissions) - 1) // 2
    marks = ", ".join(f"{mark} p < {limit}" for limit, mark in reversed(MARKS))
    return [
        f"above the diagonal: row minus column, times 100; {marks}",
        "below the diagonal: p, the probability of a difference at least this large if row and column were "
        f"equally good; corrected for {_count(pairs)} by Holm's method",
    ]


def _list_notes(comparison: MultipleComparison) -> list[str]:
    lower = dict.fromkeys(
        each.metric for each in comparison.matrices if each.is_shown and not METRICS[each.metric].maximise
    )
    # Their differences count with the opposite sign.
    mean = "; in the mean, a positive difference means that the row is better" if comparison.overall else ""
    return [
        *(f"{metric}: lower is better{mean}" for metric in lower),
        *comparison.notes,
        *comparison.not_compared,
    ]


def _name_matrix(matrix: Matrix) -> str:
    metric = matrix.metric if matrix.scores else "the first metric of each"
    return f"{matrix.task}, {metric}, {matrix.protocol}"


def _make_cells(matrix: Matrix) -> list[list[str]]:
    """Return a matrix as cells of text, with a heading and a first column of letters."""
    places = matrix.places
    found = {(each.a, each.b): each for each in matrix.pairs}
    scores = [[_format_score(matrix.scores[place])] if matrix.scores else [] for place in places]
    cells = [["", *(["score"] if matrix.scores else []), *map(name_place, places)]]
    for row, score in zip(places, scores, strict=True):
        texts = ["" if row == column else _format_cell(found, row, column) for column in places]
        cells.append([name_place(row), *score, *texts])
    return cells


def _format_cell(found: Mapping[tuple[int, int], PairDifference], row: int, column: int) -> str:
    """Return a difference above the diagonal, p below it."""
    each = found.get((min(row, column), max(row, column)))
    if each is None:
        return NOT_COMPARED
    if row > column:
        return NOT_COMPARED if math.isnan(each.p_holm) else f"{each.p_holm:.4f}"
    value = each.difference.value
    mark = next((mark for limit, mark in MARKS if each.p_holm < limit), "")
    return "undefined" if math.isnan(value) else f"{100 * value:+.1f}{mark}"


def _format_score(score: float) -> str:
    return "undefined" if math.isnan(score) else f"{100 * score:.1f}"


def _align(cells: Sequence[Sequence[str]], columns: int | None) -> Iterator[str]:
    """Yield the lines of a matrix, in as many blocks of columns as the width needs."""
    # Marks stand to the right of the digits.
    marks = max(len(mark) for _, mark in MARKS)
    padded = [[cell + " " * (marks - cell.count("*")) for cell in row[1:]] for row in cells]
    width = max(len(cell) for row in padded for cell in row)
    named = max(len(row[0]) for row in cells)
    fitting = len(padded[0]) if columns is None else max(1, (columns - named) // (width + 1))
    for start in range(0, len(padded[0]), fitting):
        if start:
            yield ""
        for row, line in zip(cells, padded, strict=True):
            block = " ".join(cell.rjust(width) for cell in line[start : start + fitting])
            yield f"{row[0].ljust(named)} {block}".rstrip()


def _count(comparisons: int) -> str:
    return f"{comparisons} comparison{'' if comparisons == 1 else 's'}"


def _join_words(words: Sequence[str]) -> str:
    """Return words as one speaks them.

    >>> _join_words(["A", "B", "C"]), _join_words(["A"])
    ('A, B and C', 'A')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
