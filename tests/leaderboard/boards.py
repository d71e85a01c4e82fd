"""Synthetic boards: any number of models and tasks, rows of several origins, and hostile texts."""

from __future__ import annotations

import random
from collections.abc import Sequence

from heareval.leaderboard.board import (
    Board,
    Cell,
    Column,
    MetricValue,
    Origin,
    ProtocolTable,
    Row,
    Standing,
)

DOMAINS = ("speech", "environmental sound", "music")
HOSTILE = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "x" * 10_000,
    "\u202egnol ton si eman siht",
    "מודל \u200f(left) א",
    '=HYPERLINK("http://127.0.0.1/","click")',
    "{{ 7 * 7 }}{% raw %}",
    "nul \x00 bell \x07 \ud800 surrogate",
    "javascript:alert(1)",
    "Z̴̧̛͍a̶l̷g̸o " * 20,
    "-1+cmd|' /C calc'!A0",
    "\uff1d1+1",
)


def make_columns(tasks: int) -> tuple[Column, ...]:
    return tuple(
        Column(
            key=f"task{number}-v1.0.0-full",
            title=f"Task number {number}",
            domain=DOMAINS[number % len(DOMAINS)],
            metric="top1_acc",
            is_lower_better=number == 4,
            description=f"Says which of {number + 2} sounds a clip has.",
            licence="CC-BY-4.0",
            citation="A. Author, A corpus, 2020.",
        )
        for number in range(tasks)
    )


def make_cell(score: float, rng: random.Random, *, is_published: bool = False) -> Cell:
    if is_published:
        return Cell({"top1_acc": MetricValue(score)})
    value = MetricValue(score, (score - 0.021, score + 0.02), chance=0.1, seed_std=0.004)
    metrics = {"top1_acc": value, "mAP": MetricValue(score / 2), "d_prime": MetricValue(1.5)}
    return Cell(metrics, clips=2000, seeds=3, cost_s=rng.uniform(10, 1000), device="cuda")


def make_rows(
    models: int,
    columns: Sequence[Column],
    *,
    origin: Origin = Origin.RECOMPUTED,
    names: Sequence[str] = (),
    seed: int = 0,
    missing: float = 0.1,
) -> list[Row]:
    """Rows with random scores, some of which are missing."""
    rng = random.Random(seed)
    rows = []
    for number in range(models):
        skill = rng.uniform(0.2, 0.9)
        lacks = rng.random() < missing * 4
        cells = {
            column.key: make_cell(
                min(0.999, max(0.0, skill + rng.gauss(0, 0.08))), rng, is_published=origin is Origin.PUBLISHED
            )
            for column in columns
            if not (lacks and rng.random() < missing * 4)
        }
        name = names[number % len(names)] if names else f"Model {origin.name.lower()} {number}"
        facts: dict[str, str | int | float | bool] = {
            "parameters": rng.randrange(10**6, 10**9),
            "release_date": f"{2018 + number % 8}-0{1 + number % 9}-15",
            "has_open_weights": number % 2 == 0,
            "trained_on_evaluation_data": ("no", "unknown", "yes")[number % 3],
            "pretraining_data": "AudioSet" if not names else name,
            "url": "https://example.org/model?a=1&b=2" if not names else name,
            "reference": "javascript:alert(1)" if names else "10.1000/182",
        }
        is_published = origin is Origin.PUBLISHED
        rows.append(
            Row(
                key=f"{origin.name.lower()}-{number}",
                name=name,
                revision="" if is_published else "1.0" if not names else name,
                origin=origin,
                source="HEAR 2021" if is_published else "",
                cells=cells,
                missing={}
                if is_published
                else {column.key: "too long" for column in columns[::2] if column.key not in cells},
                facts={} if is_published else facts,
                provenance={} if is_published else {"heareval": "0.2.0", "card": name[:100]},
            )
        )
    return rows


def stand(rows: Sequence[Row], columns: Sequence[Column]) -> dict[str, Standing]:
    """Standings by plain loops; the official aggregate is left out."""
    ranks: dict[str, dict[str, float]] = {row.key: {} for row in rows}
    for column in columns:
        sign = 1 if column.is_lower_better else -1
        scores = {row.key: sign * row.cells[column.key].score for row in rows if column.key in row.cells}
        ordered = sorted(scores.values())
        for key, score in scores.items():
            ranks[key][column.key] = ordered.index(score) + 1 + (ordered.count(score) - 1) / 2
    borda = {key: sum(len(rows) - rank for rank in each.values()) for key, each in ranks.items()}
    complete = [row.key for row in rows if len(row.cells) == len(columns)]
    ordered_keys = sorted(complete, key=lambda key: -borda[key])
    return {
        row.key: Standing(
            rank=(rank := ordered_keys.index(row.key) + 1) if row.key in complete else None,
            rank_interval=(max(1, rank - 3), rank + 4) if row.key in complete else None,
            mean=100 * sum(cell.score for cell in row.cells.values()) / len(columns)
            if row.key in complete
            else None,
            borda=borda[row.key],
            official=borda[row.key] / (len(rows) * len(columns)),
            relative=None,
            task_ranks=ranks[row.key],
        )
        for row in rows
    }


def make_table(protocol: str, columns: Sequence[Column], rows: Sequence[Row]) -> ProtocolTable:
    standings: dict[str, Standing] = {}
    for origin in Origin:
        standings |= stand([row for row in rows if row.origin is origin], columns)
    together = stand(rows, columns)
    best_first = sorted(rows, key=lambda row: standings[row.key].rank or len(rows) + 1)
    return ProtocolTable(protocol, tuple(columns), tuple(best_first), standings, together)


def make_board(models: int = 12, tasks: int = 6, *, published: int = 5, names: Sequence[str] = ()) -> Board:
    """A board with recomputed, submitted and published rows, and a second protocol."""
    columns = make_columns(tasks)
    rows = make_rows(models, columns, names=names)
    rows += make_rows(2, columns, origin=Origin.SUBMITTED, seed=1)
    rows += make_rows(published, columns, origin=Origin.PUBLISHED, seed=2)
    tables = [make_table("hear2021", columns, rows)]
    if models > 3:
        tables.append(make_table("pairwise-l1", columns[:2], make_rows(3, columns[:2], missing=0)))
    return Board("HEAR leaderboard", tuple(tables), refused=tuple(names[:3]))
