"""Cards and rows for tests of the board, made without a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval.formats.card import Card, CardResult, Cost, ModelFacts
from heareval.formats.scores import FoldEntry, GridEntry, RunEntry, ScoreEntry, Scores
from heareval.leaderboard.board import Cell, Column, MetricValue, Origin, Row


def make_result(
    task: str = "esc50",
    version: str = "v2.0.0",
    mode: str = "full",
    *,
    protocol: str = "hear2021",
    scores: Mapping[str, float | ScoreEntry | None] | None = None,
    lower_is_better: tuple[str, ...] = (),
    cost: Cost | None = None,
    **changes: Any,
) -> CardResult:
    """Return a result; a number stands for a score with an interval of 0.1."""
    entries = {}
    for metric, score in ({"top1_acc": 0.8, "mAP": 0.7} if scores is None else scores).items():
        is_entry = isinstance(score, ScoreEntry)
        if is_entry or score is None:
            entries[metric] = score if is_entry else ScoreEntry(None)
        else:
            interval = (score - 0.05, score + 0.05)
            folds = {"test": score}
            entries[metric] = ScoreEntry(
                score, interval_95=interval, resamples=1000, folds=folds, details={"test": {}}, chance=0.02
            )
    model = GridEntry({"lr": 0.01}, 0.5, None, 3, 10, 1.0)
    values: dict[str, Any] = {
        "version": version,
        "mode": mode,
        "fingerprint": "f" * 12,
        "embeddings_fingerprint": "e" * 12,
        "submission": {},
        "is_the_published_corpus": True,
        "made_from": {},
        "unusual_embedding": {},
        "problems": (),
        "decided_by": "top1_acc",
        "score_mode": "max",
        "embedding_path": "",
        "runs": (RunEntry(0, {"lr": 0.01}, (FoldEntry("test", "valid", ("train",), model),), (model,)),),
        "labels": 50,
        "clips": {"train": 100, "valid": 50, "test": 40},
        "device": "cpu",
        "deterministic": True,
        "seconds": 1.0,
        "versions": {"heareval": "0.2.0", "torch": "2.4"},
        **changes,
    }
    return CardResult(
        f"{task}-{version}-{mode}",
        protocol,
        "r" * 12,
        lower_is_better,
        "float32",
        cost or Cost("cpu", 10.0, 5.0),
        Scores(protocol=protocol, task=task, scores=entries, **values),
    )


def make_card(
    name: str = "model",
    revision: str = "v1",
    results: Sequence[CardResult] | None = None,
    missing: Mapping[str, str] | None = None,
    **facts: Any,
) -> Card:
    """Return a card that lies nowhere."""
    return Card(
        Path("cards") / "folder" / revision,
        ModelFacts(name, revision, **facts),
        (make_result(),) if results is None else tuple(results),
        missing or {},
        "c" * 12,
    )


def make_rows(scores: NDArray[np.float64], origin: Origin = Origin.RECOMPUTED) -> list[Row]:
    """Return a row for each row of an array `(models, tasks)`; NaN is a missing task."""
    return [
        Row(
            f"model-{number}",
            f"Model {number}",
            "v1",
            origin,
            cells={
                f"task{place}": Cell({"acc": MetricValue(float(score))})
                for place, score in enumerate(line)
                if not np.isnan(score)
            },
        )
        for number, line in enumerate(scores)
    ]


def make_columns(count: int, lower_is_better: Sequence[int] = ()) -> list[Column]:
    """Return the columns of `make_rows`."""
    return [
        Column(f"task{each}", f"Task {each}", "", "acc", each in lower_is_better) for each in range(count)
    ]
