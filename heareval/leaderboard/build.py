"""A board put together: cards and published rows become one table for each protocol."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from heareval.formats.card import Card, CardResult, ModelFacts
from heareval.formats.fields import shorten
from heareval.formats.scores import ScoreEntry
from heareval.layout import PUBLISHED_PROTOCOL
from heareval.leaderboard.board import Board, Cell, Column, MetricValue, Origin, ProtocolTable, Row, Standing
from heareval.leaderboard.columns import (
    BEEHIVE,
    BEEHIVE_FOLDS,
    PLACES,
    PUBLISHED_COLUMNS,
    TaskFacts,
    could_be_scored,
    describe_column,
    find_missing_name,
    make_column,
)
from heareval.leaderboard.published import read_naive
from heareval.leaderboard.slugs import add_digest, make_slug
from heareval.leaderboard.standings import choose_ranked, compute_standings, find_incomparable

# No metric comes near. A card that nobody has recomputed may claim anything.
LARGEST_SCORE = 1e6
# A table with more columns helps nobody, and a card may have hundreds of tasks of its own.
MAX_COLUMNS = 150
ORIGINS = tuple(Origin)


def know_nothing(task: str, mode: str) -> TaskFacts:
    """Return no facts about a task."""
    return TaskFacts()


def build_board(
    cards: Mapping[Origin, Sequence[Card]],
    published: Sequence[Row] = (),
    *,
    describe_task: Callable[[str, str], TaskFacts] = know_nothing,
    title: str = "HEAR leaderboard",
    refused: Sequence[str] = (),
) -> Board:
    """Return the board of some cards and of published rows.

    Rows stand in the order of their origins: recomputed, as submitted, published; then best first.

    Args:
        cards: the cards, by who computed their scores.
        published: rows of `published.read_published`; they are scores of the published protocol.
        describe_task: returns what is known about a task, from its name and mode.
        refused: sentences about cards that the caller has left out.
    """
    kept, sentences = _keep_credible(cards)
    keys = _name_pages([card for card, _ in kept], {row.key for row in published})
    rows: dict[str, list[Row]] = {}
    columns: dict[str, dict[str, Column]] = {}
    for card, origin in kept:
        for protocol in sorted({result.protocol for result in card.results}):
            results = [result for result in card.results if result.protocol == protocol]
            for each in results:
                column, shown = make_column(each), columns.setdefault(protocol, {})
                if column.key not in shown:
                    facts = describe_task(each.scores.task, each.scores.mode)
                    shown[column.key] = describe_column(column, facts)
            key = keys[card.model.name, card.model.revision]
            rows.setdefault(protocol, []).append(_make_row(key, card, origin, results, shown))
    if published:
        rows.setdefault(PUBLISHED_PROTOCOL, []).extend(published)
        columns.setdefault(PUBLISHED_PROTOCOL, {}).update(_describe_published(describe_task))
    protocols = sorted(rows, key=lambda protocol: (protocol != PUBLISHED_PROTOCOL, protocol))
    tables = []
    for protocol in protocols:
        chosen, left_out = _choose_columns(rows[protocol], list(columns[protocol].values()))
        if left_out:
            sentences.append(f"{protocol}: {left_out} tasks that few models were scored on have no column.")
        # HEAR-Naive was scored with the published protocol only.
        naive = read_naive() if protocol == PUBLISHED_PROTOCOL else {}
        tables.append(_make_table(protocol, chosen, rows[protocol], naive))
    return Board(title, tuple(tables), (*refused, *sentences))


def _keep_credible(cards: Mapping[Origin, Sequence[Card]]) -> tuple[list[tuple[Card, Origin]], list[str]]:
    """Return the cards to show, with their origins, and a sentence about each that is left out."""
    kept: dict[tuple[str, str], tuple[Card, Origin]] = {}
    sentences = []
    for origin in ORIGINS:
        for card in cards.get(origin, ()):
            name = (card.model.name, card.model.revision)
            fault = f"{shorten(name[0])} {shorten(name[1])} is there twice" if name in kept else ""
            fault = fault or _find_incredible(card)
            if fault:
                sentences.append(f"{card.folder.parent.name}/{card.folder.name} is left out: {fault}.")
            else:
                kept[name] = (card, origin)
    return list(kept.values()), sentences


def _find_incredible(card: Card) -> str:
    for result in card.results:
        for metric, entry in result.scores.scores.items():
            for number in (entry.score, *(entry.interval_95 or ()), entry.chance, entry.seed_std):
                if number is not None and LARGEST_SCORE < abs(number) < math.inf:
                    return f"{shorten(metric)} of {result.task_folder} is {number:g}"
    return ""


def _name_pages(cards: Sequence[Card], taken: set[str]) -> dict[tuple[str, str], str]:
    """Return the key of every card's page, by name and revision."""
    slugs = {each: make_slug(*each) for each in ((card.model.name, card.model.revision) for card in cards)}
    digested = {name: add_digest(slug, *name) for name, slug in slugs.items()}
    counts = Counter(slugs.values())
    # A name may be chosen to look like the page of another model, whose page must stay its own. Which of two
    # models comes first must not decide what their pages are called.
    reserved = {*taken, *digested.values(), *(slug for slug, count in counts.items() if count > 1)}
    return {name: digested[name] if slug in reserved else slug for name, slug in slugs.items()}


# --------------------------------------------------------------------------- rows


def _make_row(
    key: str, card: Card, origin: Origin, results: Sequence[CardResult], columns: Mapping[str, Column]
) -> Row:
    cells: dict[str, Cell] = {}
    reasons = {find_missing_name(task): reason for task, reason in card.missing.items()}
    protocol = results[0].protocol
    missing = {key: reason for key, reason in reasons.items() if could_be_scored(key, protocol)}
    for column, parts in _group_results(results).items():
        cell = _make_cell(columns[column], parts, missing)
        if isinstance(cell, str):
            missing[column] = cell
        else:
            cells[column] = cell
    return Row(
        key=key,
        name=card.model.name,
        revision=card.model.revision,
        origin=origin,
        cells=cells,
        missing={name: reason for name, reason in missing.items() if name not in cells},
        facts=_list_facts(card.model),
        provenance=dict(_list_provenance(card, results)),
    )


def _group_results(results: Sequence[CardResult]) -> dict[str, list[CardResult]]:
    grouped: dict[str, list[CardResult]] = {}
    for result in results:
        grouped.setdefault(make_column(result).key, []).append(result)
    return grouped


def _make_cell(column: Column, parts: Sequence[CardResult], missing: Mapping[str, str]) -> Cell | str:
    """Return a cell, or the reason why there is none."""
    # Two users' tasks may have one name.
    if make_column(parts[0]).metric != column.metric:
        return f"scored by {make_column(parts[0]).metric}, while the column shows {column.metric}"
    if (column.metric in parts[0].lower_is_better) != column.is_lower_better:
        return f"the card disagrees on whether a lower {column.metric} is better"
    if parts[0].scores.task in BEEHIVE_FOLDS:
        lacking = sorted({*BEEHIVE_FOLDS} - {part.scores.task for part in parts})
        if lacking:
            reason = missing.get(column.key, "")
            return f"{lacking[0]} has no scores{': ' if reason else ''}{reason}"
        metrics = _join_folds(parts)
    else:
        metrics = dict(_list_values(parts[0].scores.scores))
    if column.metric not in metrics or not math.isfinite(metrics[column.metric].score):
        return f"{column.metric} is {'infinite' if column.metric in metrics else 'undefined'}"
    costs = [second for part in parts for second in (part.cost.embedding_s, part.cost.prediction_s)]
    memory = [part.cost.memory_bytes for part in parts if part.cost.memory_bytes is not None]
    joules = [part.cost.joules for part in parts if part.cost.joules is not None]
    return Cell(
        metrics,
        clips=sum(part.scores.tested_clips for part in parts),
        tested="; ".join(_describe_tested(part) for part in sorted(parts, key=lambda each: each.scores.task)),
        seeds=len(parts[0].scores.runs),
        cost_s=sum(second for second in costs if second is not None) if None not in costs else None,
        device=parts[0].cost.device,
        memory_bytes=max(memory, default=None),
        joules=sum(joules) if len(joules) == len(parts) else None,
    )


def _describe_tested(result: CardResult) -> str:
    clips = [
        f"{result.scores.clips[split]} clips of {split}"
        for split in sorted(fold.test for fold in result.scores.runs[0].folds)
    ]
    return ", ".join([*clips, *([f"references {result.references}"] if result.references else [])])


def _list_values(scores: Mapping[str, ScoreEntry]) -> Iterator[tuple[str, MetricValue]]:
    for metric, entry in scores.items():
        if not math.isnan(entry.value):
            yield metric, MetricValue(entry.value, _close_interval(entry), entry.chance, entry.seed_std)


def _close_interval(entry: ScoreEntry) -> tuple[float, float] | None:
    if entry.interval_95 is None:
        return None
    low, high = entry.interval_95
    return -math.inf if low is None else low, math.inf if high is None else high


def _join_folds(parts: Sequence[CardResult]) -> dict[str, MetricValue]:
    """Return the means of both folds, then the scores of each, which have intervals."""
    folds = {part.scores.task.rpartition("_")[2]: dict(_list_values(part.scores.scores)) for part in parts}
    shared = [metric for metric in parts[0].scores.metrics if all(metric in each for each in folds.values())]
    joined = {}
    for metric in shared:
        values = [each[metric] for each in folds.values()]
        chances = [value.chance for value in values if value.chance is not None]
        joined[metric] = MetricValue(
            sum(value.score for value in values) / len(values),
            chance=sum(chances) / len(chances) if len(chances) == len(values) else None,
        )
    single = {
        f"{metric} of {fold}": value for fold, values in folds.items() for metric, value in values.items()
    }
    return {**joined, **single}


def _list_facts(model: ModelFacts) -> dict[str, str | int | float | bool]:
    facts: dict[str, str | int | float | bool] = {}
    for each in dataclasses.fields(model):
        value = getattr(model, each.name)
        value = ", ".join(value) if isinstance(value, tuple) else value
        if each.name not in ("name", "revision") and value not in ("", None, "unknown"):
            facts[each.name] = value
    return facts


def _list_provenance(card: Card, results: Sequence[CardResult]) -> Iterator[tuple[str, str]]:
    yield "protocol", results[0].protocol
    yield "card", card.fingerprint
    versions = Counter(
        ", ".join(f"{name} {version}" for name, version in sorted(each.scores.versions.items()))
        for each in results
    )
    yield "versions", "; ".join(sorted(filter(None, versions)))
    for result in results:
        scores = result.scores
        seeds = ", ".join(str(run.seed) for run in scores.runs)
        notes = [f"results {scores.fingerprint}", f"references {result.references}", f"seeds {seeds}"]
        notes += ["not the published corpus"] if scores.is_the_published_corpus is False else []
        notes += [f"{name} {value}" for name, value in sorted(scores.unusual_embedding.items())]
        notes += scores.problems
        yield result.task_folder, "; ".join(notes)


# --------------------------------------------------------------------------- tables


def _describe_published(describe_task: Callable[[str, str], TaskFacts]) -> Iterator[tuple[str, Column]]:
    for each in PUBLISHED_COLUMNS:
        task = BEEHIVE_FOLDS[0] if each.task == BEEHIVE else each.task
        yield each.column.key, describe_column(each.column, describe_task(task, each.mode))


def _choose_columns(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[list[Column], int]:
    """Return the columns with a score, in their order, and the number of those that are too many."""
    counts = Counter(key for row in rows for key in row.cells)
    usual = len(PUBLISHED_COLUMNS)
    order = sorted(columns, key=lambda each: (PLACES.get(each.key, usual), -counts[each.key], each.key))
    scored = [column for column in order if counts[column.key]]
    chosen = scored[:MAX_COLUMNS]
    chosen.sort(key=lambda each: (PLACES.get(each.key, usual), each.key))
    return chosen, len(scored) - len(chosen)


def _describe_incomparable(rows: Sequence[Row], column: Column) -> str:
    """Return a sentence about a column whose scores can't be compared."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if column.key in row.cells:
            names.setdefault(row.cells[column.key].tested, []).append(row.name)
    tested = "; ".join(f"{', '.join(each)}: {what}" for what, each in names.items() if what)
    return (
        f"{column.title} has no best score and counts for no rank or mean, because the submissions were "
        f"tested on different clips ({tested})"
    )


def _make_table(
    protocol: str, columns: Sequence[Column], rows: Sequence[Row], naive: Mapping[str, float]
) -> ProtocolTable:
    keys = {column.key for column in columns}
    rows = [replace(row, cells={key: cell for key, cell in row.cells.items() if key in keys}) for row in rows]
    groups = {origin: [row for row in rows if row.origin is origin] for origin in ORIGINS}
    groups = {origin: group for origin, group in groups.items() if group}
    standings: dict[str, Standing] = {}
    for group in groups.values():
        standings |= compute_standings(group, columns, naive)
    incomparable = find_incomparable(rows, columns)
    together = standings if len(groups) == 1 else compute_standings(rows, columns, naive)
    return ProtocolTable(
        protocol,
        tuple(columns),
        tuple(sorted(rows, key=lambda row: _order(row, standings[row.key]))),
        standings,
        together,
        {origin.value: choose_ranked(group, columns) for origin, group in groups.items()},
        choose_ranked(rows, columns),
        incomparable,
        tuple(_describe_incomparable(rows, column) for column in columns if column.key in incomparable),
    )


@dataclass(frozen=True, order=True)
class _Order:
    """What rows are sorted by: the origin, the rank, Borda points where there is no rank, and the name."""

    origin: int
    rank: float
    borda: float
    name: str
    key: str


def _order(row: Row, standing: Standing) -> _Order:
    rank = math.inf if standing.rank is None else standing.rank
    return _Order(ORIGINS.index(row.origin), rank, -standing.borda, row.name.casefold(), row.key)
