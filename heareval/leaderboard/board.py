"""What a board shows: one table for each protocol, with a row for each model and a column for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Origin(Enum):
    """Who computed the scores of a row.

    Rows of different origin never share a rank, unless the reader asks for it.
    """

    RECOMPUTED = "recomputed"
    SUBMITTED = "as submitted, not recomputed"
    PUBLISHED = "published, not recomputed"


@dataclass(frozen=True)
class Column:
    """A task as the board shows it.

    Args:
        key: name of the task's folder, such as `esc50-v2.0.0-full`; unique in a table, part of URLs.
        title: name for readers, such as `ESC-50`.
        domain: "speech", "environmental sound" or "music"; "" for tasks that are not heareval's.
        metric: name of the metric that is ranked by, the task's first.
        is_lower_better: whether lower scores are better.
        description: one or two sentences about the task; "" if nobody wrote them.
        licence: SPDX identifier of the corpus' licence, or "unknown".
        citation: who made the corpus.
    """

    key: str
    title: str
    domain: str
    metric: str
    is_lower_better: bool = False
    description: str = ""
    licence: str = "unknown"
    citation: str = ""


@dataclass(frozen=True)
class MetricValue:
    """The score of one metric, in the metric's own unit: a share is 0 to 1.

    Args:
        interval_95: ends of the 95 % interval; None if there is none.
        chance: score of predictions that know nothing; None if unknown.
        seed_std: standard deviation over seeds; None with one seed.
    """

    score: float
    interval_95: tuple[float, float] | None = None
    chance: float | None = None
    seed_std: float | None = None


@dataclass(frozen=True)
class Cell:
    """What one model reached on one task: the value of every metric, the column's metric first.

    Args:
        clips: number of tested clips; 0 if unknown.
        tested: which clips were tested, in words: the number of each split, and a digest of their labels if
            that is known; "" if nothing is. Scores with different words can't be compared.
        seeds: number of seeds; 0 if unknown.
        cost_s: seconds of embedding and of prediction together; None if unknown.
        device: `cpu` or the name of the GPU; "" if unknown.
        memory_bytes: largest memory of the process that computed the embeddings, without that of a GPU; None
            if unknown.
        joules: energy; None if unknown.
    """

    metrics: Mapping[str, MetricValue]
    clips: int = 0
    tested: str = ""
    seeds: int = 0
    cost_s: float | None = None
    device: str = ""
    memory_bytes: int | None = None
    joules: float | None = None

    @property
    def score(self) -> float:
        """Return the score of the column's metric."""
        return next(iter(self.metrics.values())).score


@dataclass(frozen=True)
class Row:
    """A model in one table. Everything but `key` may be hostile text of a card.

    Args:
        key: name of its page: lower-case ASCII letters, digits and hyphens; unique on the board.
        name: name of the model.
        revision: which version of the model; "" for published rows.
        origin: who computed the scores.
        source: where published scores were printed; "" for cards.
        cells: by the key of the column. A missing task is absent, never imputed.
        missing: reasons for tasks that are missing, by task.
        facts: what the card says about the model, by the name of the fact, such as `pretraining_data`; only
            facts that are known.
        provenance: how the scores came about: versions, fingerprints, protocol, dates.
    """

    key: str
    name: str
    revision: str
    origin: Origin
    source: str = ""
    cells: Mapping[str, Cell] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """Where a row stands among some rows; numbers are None where they are undefined.

    Args:
        rank: 1 is best; equal for rows that are tied. None for rows that are not ranked, because tasks are
            missing.
        rank_interval: ends of the 95 % interval of the rank over resampled tasks.
        mean: mean score over the columns, each times 100; None if a task is missing.
        borda: sum over tasks of the number of models minus the mean rank.
        official: the aggregate of 2021: tasks standardised, clipped to -1 to 1, mean; with imputed cells.
        relative: s(m), 0 for HEAR-Naive and 100 for the best row of every task; None if a task is missing.
        task_ranks: rank on each task, by the key of the column; equal scores share their mean rank.
    """

    rank: int | None
    rank_interval: tuple[int, int] | None
    mean: float | None
    borda: float
    official: float | None
    relative: float | None
    task_ranks: Mapping[str, float]


@dataclass(frozen=True)
class ProtocolTable:
    """All rows of one protocol.

    Args:
        protocol: recorded name of the protocol.
        columns: in the order in which they are shown.
        rows: best first.
        standings: by the key of the row, among rows of the same origin.
        standings_together: the same among all rows, for readers who ask for it.
        ranked: keys of the columns that ranks, means and aggregates are about, by the value of the origin.
        ranked_together: the same for `standings_together`.
        incomparable: keys of the columns whose scores are of different clips.
        notes: a sentence about each of these columns.
    """

    protocol: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    standings: Mapping[str, Standing]
    standings_together: Mapping[str, Standing]
    ranked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ranked_together: tuple[str, ...] = ()
    incomparable: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """A leaderboard: one table for each protocol, because scores of different protocols are never compared.

    Args:
        title: name of the board.
        tables: the table of `hear2021` first.
        refused: sentences about cards that were left out.
    """

    title: str
    tables: tuple[ProtocolTable, ...]
    refused: tuple[str, ...] = ()
