"""Check a card: every number is computed again from its predictions and from the checker's own references."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.card import CHECK_HINT, DISTANCES, Card, CardResult, read_card
from heareval.formats.completeness import find_lacking, find_repeated, list_needed
from heareval.formats.fields import shorten
from heareval.formats.results_folder import EVALUATE_AGAIN
from heareval.predictions.cards import list_lower_is_better, name_result
from heareval.predictions.claimed_protocol import find_contradiction
from heareval.predictions.data import SplitRoles, Task, read_references
from heareval.predictions.kinds import PairwiseKind, find_kind
from heareval.predictions.references import fingerprint_references, is_published_corpus
from heareval.predictions.search import assign_roles
from heareval.predictions.stored import (
    ComparedNumber,
    StoredResult,
    compare_numbers,
    match_stored,
    recompute_scores,
)

# What the predictions of a card may take in memory. The largest task of the benchmark takes 0.2 GB a seed.
MAX_EXPANDED_BYTES = 2_000_000_000
# What numpy writes. Other methods raise errors of their own kinds where a file is damaged.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The bit of a member's flags.
ENCRYPTED = 0x1
# More than the largest file has: five arrays for each of ten folds.
MAX_MEMBERS = 1000


@dataclass(frozen=True)
class CheckedResult:
    """What came of checking one result of a card.

    Args:
        numbers: every number that was compared; () if it could not be computed again.
        problems: sentences on why the result is refused.
        lacking: what the checker lacks to check the result; "" if nothing.
    """

    task_folder: str
    protocol: str
    numbers: tuple[ComparedNumber, ...] = ()
    problems: tuple[str, ...] = ()
    lacking: str = ""


@dataclass(frozen=True)
class CheckedCard:
    """What came of checking a card.

    Args:
        folder: its folder.
        card: its content; None if that could not be read.
        problems: sentences on why the card is refused, those about results included.
        results: what came of each result; () if the card could not be read.
    """

    folder: Path
    card: Card | None
    problems: tuple[str, ...]
    results: tuple[CheckedResult, ...] = ()

    @property
    def lacking(self) -> tuple[str, ...]:
        """Return what the checker lacks: a sentence for each result without references."""
        return tuple(result.lacking for result in self.results if result.lacking)

    @property
    def is_recomputed(self) -> bool:
        """Return whether every number of the card was computed again, and is right."""
        return not self.problems and not self.lacking


def check_card(folder: Path, tasks: Path, pairwise: Sequence[str]) -> CheckedCard:
    """Check a card against the task folders that the checker has.

    Args:
        folder: folder of the card.
        tasks: the folder of the checker's task folders.
        pairwise: names of the tasks that are scored by distances.
    """
    try:
        card = read_card(folder)
    except HearevalError as error:
        return CheckedCard(folder, None, (_describe(error),))
    results = tuple(check_result(card, result, tasks) for result in card.results)
    problems = (
        *_check_model(card),
        *_check_completeness(card, pairwise),
        *(each for one in results for each in one.problems),
    )
    return CheckedCard(folder, card, problems, results)


def _describe(error: HearevalError) -> str:
    # In a card, whoever is told so has no embeddings to evaluate.
    if error.remedy == EVALUATE_AGAIN:
        error.remedy = CHECK_HINT
    return str(error)


def _check_model(card: Card) -> Iterator[str]:
    told = card.model.sample_rate
    other = [rate for each in card.results if (rate := each.scores.submission.get("sample_rate")) != told]
    if other:
        yield f"card {card.folder}: sample_rate: got {told}, expected {shorten(other[0])}, as the results say"


def _check_completeness(card: Card, pairwise: Sequence[str]) -> Iterator[str]:
    names = [name_result(result.scores) for result in card.results]
    for repeated in find_repeated(names):
        yield f"card {card.folder}: got {repeated}, expected each task once for each protocol"
    lacking = find_lacking(names, pairwise)
    for protocol, tasks in lacking.items():
        if without := [task for task in tasks if task not in card.missing]:
            yield str(
                HearevalError(
                    f"card {card.folder}",
                    got=f"no {', '.join(without)} with {protocol}",
                    expected="all tasks of the benchmark, or a reason for each that is missing",
                    remedy="Make the card again with `heareval card --missing TASK=REASON`.",
                )
            )
    for task in card.missing:
        if task not in list_needed(pairwise):
            yield f"card {card.folder}: missing: got {task}, expected tasks of the benchmark"
        elif not any(task in each for each in lacking.values()):
            yield f"card {card.folder}: missing: got {task}, which has results, expected tasks without"


def check_result(card: Card, result: CardResult, tasks: Path) -> CheckedResult:
    """Check one result of a card against the task folder of the same name."""
    try:
        task = _read_references(result, tasks)
    except HearevalError as error:
        return CheckedResult(result.task_folder, result.protocol, lacking=str(error))
    try:
        numbers = _recompute(card, result, task)
    except HearevalError as error:
        return CheckedResult(result.task_folder, result.protocol, problems=(_describe(error),))
    wrong = [number for number in numbers if not number.is_equal]
    problems = tuple(_describe_difference(card, result, wrong[0], len(wrong) - 1) for _ in wrong[:1])
    return CheckedResult(result.task_folder, result.protocol, numbers, problems)


def _read_references(result: CardResult, tasks: Path) -> Task:
    """Return the checker's own task. That it is missing or damaged is no fault of the card.

    Raises:
        HearevalError: there is no such folder, or it is damaged.
    """
    folder = tasks / result.task_folder
    if not (folder / layout.TASK_METADATA).is_file():
        raise HearevalError(
            f"references of {result.task_folder}",
            got=f"no such folder in {tasks}",
            expected="the task's folder, with the labels of its clips",
            remedy=f"Make it with `heareval prepare {result.scores.task} --mode {result.scores.mode}`, or "
            "unpack its tarball.",
        )
    return read_references(folder)


def _describe_difference(card: Card, result: CardResult, wrong: ComparedNumber, others: int) -> str:
    more = f" ({others} more numbers differ)" if others else ""
    return str(
        HearevalError(
            f"{wrong.what} of {wrong.metric} in {_name(card, result)}",
            got=_show(wrong.given),
            expected=f"{_show(wrong.recomputed)}, as computed from the predictions{more}",
        )
    )


def _show(number: float | None) -> str:
    return "none" if number is None else f"{number:.6f}"


def _name(card: Card, result: CardResult) -> Path:
    return card.folder / result.task_folder / layout.scores(result.protocol)


def _recompute(card: Card, result: CardResult, task: Task) -> tuple[ComparedNumber, ...]:
    """Return all numbers of a result, as given and as computed again; raise what `read_result` does."""
    stored = read_result(card, result, task)
    return compare_numbers(stored.scores, recompute_scores(stored))


def read_result(card: Card, result: CardResult, task: Task) -> StoredResult:
    """Return a result of a card with its predictions, matched with the checker's references.

    The ends of its intervals are not computed again.

    Args:
        task: the checker's references.

    Raises:
        HearevalError: the result is not about the references, its predictions are damaged, or they give other
            scores.
    """
    scores, folder = result.scores, card.folder / result.task_folder
    path = folder / layout.predictions(scores.protocol)
    _check_archive(path)
    if (found := fingerprint_references(task)) != result.references:
        raise HearevalError(
            f"references of {_name(card, result)}",
            got=f"a card about other clips or labels ({result.references})",
            expected=f"those of {result.task_folder} of the checker ({found})",
            remedy="The card is of another split, or the checker's task folder is another: prepare it again.",
        )
    _check_facts(card, result, task)
    return match_stored(folder, scores, task)


def _check_archive(path: Path) -> None:
    """Raise HearevalError if a predictions file has members that numpy does not write, or too large ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise HearevalError(f"{path} can't be read", got=str(error), remedy=CHECK_HINT) from None
    expanded = sum(member.file_size for member in members)
    if expanded > MAX_EXPANDED_BYTES:
        raise HearevalError(
            f"{path}", got=f"arrays of {expanded:,} bytes", expected=f"{MAX_EXPANDED_BYTES:,} at most"
        )
    if len(members) > MAX_MEMBERS:
        raise HearevalError(f"{path}", got=f"{len(members):,} members", expected=f"{MAX_MEMBERS:,} at most")
    names = [member.filename for member in members]
    for member in members:
        what = f"{shorten(member.filename)} in {path}"
        if names.count(member.filename) > 1:
            raise HearevalError(what, got="several members of this name", expected="one", remedy=CHECK_HINT)
        if member.compress_type not in COMPRESSIONS or member.flag_bits & ENCRYPTED:
            got = "an encrypted or unusually compressed member"
            raise HearevalError(what, got=got, expected="one as numpy writes it", remedy=CHECK_HINT)


def _check_facts(card: Card, result: CardResult, task: Task) -> None:
    """Raise HearevalError if the card says something else about a result than the task or the scores do."""
    scores, kind = result.scores, find_kind(task)
    is_pairwise = isinstance(kind, PairwiseKind)
    rounds = (SplitRoles(kind.order.name, "", ()),) if isinstance(kind, PairwiseKind) else assign_roles(task)
    is_published = is_published_corpus(task)
    told = [
        ("metrics", list(scores.metrics), list(task.metrics)),
        ("lower_is_better", list(result.lower_is_better), list(list_lower_is_better(scores))),
        ("stored_as", result.stored_as == DISTANCES, is_pairwise),
        ("protocol", scores.protocol.startswith("pairwise-"), is_pairwise),
    ]
    if contradiction := find_contradiction(scores, task):
        raise HearevalError(
            f"protocol of {_name(card, result)}", got=contradiction, expected="seeds and settings that it has"
        )
    if is_published is not None:
        told.append(("is_the_published_corpus", scores.is_the_published_corpus, is_published))
    for run in scores.runs:
        found = [SplitRoles(fold.test, fold.valid, fold.train) for fold in run.folds]
        told.append((f"rounds of seed {run.seed}", found, list(rounds)))
    for what, got, expected in told:
        if got != expected:
            raise HearevalError(
                f"{what} of {_name(card, result)}", got=str(got), expected=f"{expected}, as in the task"
            )
