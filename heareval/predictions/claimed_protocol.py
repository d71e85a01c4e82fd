"""Whether results can come from the protocol whose name they have.

Predictions do not say how the predictor was trained. But results record the seeds and the settings of every
tested model, and each protocol allows only some.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

from heareval.errors import HearevalError
from heareval.formats.fields import shorten
from heareval.formats.scores import RunEntry, Scores
from heareval.layout import find_limit, name_limited
from heareval.predictions.data import Task
from heareval.predictions.protocol import (
    DISTANCES,
    MAX_SEEDS,
    PROBES,
    PUBLISHED_GRID_POINTS,
    TRAIN_PRECISIONS,
    GridName,
    Protocol,
    TrainPrecision,
    select_grid_points,
)

_PUBLISHED = re.compile(
    f"hear2021(?:-(?P<grid>{'|'.join(get_args(GridName))}))?(?:-(?P<points>[0-9]{{1,4}})points)?"
    f"(?P<shuffled>-shuffled)?(?:-(?P<precision>{'|'.join(TRAIN_PRECISIONS)}))?"
    f"(?:-(?P<seeds>[0-9]{{1,{len(str(MAX_SEEDS))}}})seeds)?"
)


def find_protocol(name: str, *, seed: int = 0) -> Protocol | None:
    """Return the protocol with a recorded name; None if no protocol has that name, or not with that seed.

    Args:
        seed: the first seed, which is not part of the name.

    >>> find_protocol("hear2021-fast-5seeds").seeds, find_protocol("probe-linear").probe
    (5, 'linear')
    >>> find_protocol("probe-knn-l1-limit20").limit
    20
    >>> find_protocol("hear2021-1seeds") is None
    True
    """
    limit = find_limit(name)
    unlimited = name.removesuffix(name_limited("", limit))
    kind, _, rest = unlimited.partition("-")
    try:
        if kind == "pairwise" and rest in DISTANCES:
            return Protocol(name="pairwise", distance=rest, limit=limit)
        if kind == "probe" and rest in PROBES:
            protocol = Protocol(probe=rest, seed=seed)
        elif found := _PUBLISHED.fullmatch(unlimited):
            protocol = Protocol(
                grid=cast(GridName, found["grid"] or "default"),
                grid_points=int(found["points"] or PUBLISHED_GRID_POINTS),
                order="shuffled" if found["shuffled"] else "fixed",
                seed=seed,
                seeds=int(found["seeds"] or 1),
                train_precision=cast(TrainPrecision, found["precision"] or "float32"),
            )
        else:
            return None
        protocol = dataclasses.replace(protocol, limit=limit)
    except HearevalError:
        return None
    return protocol if protocol.recorded_name == name else None


def find_contradiction(scores: Scores, task: Task) -> str:
    """Return what shows that scores are not of the protocol that they name, as a phrase; "" if nothing does.

    Args:
        task: the task that was scored.
    """
    if find_protocol(scores.protocol) is None:
        return f"{shorten(scores.protocol)}, which no protocol is called"
    seeds = [run.seed for run in scores.runs]
    protocol = find_protocol(scores.protocol, seed=seeds[0])
    # No protocol has seeds that are negative or too large.
    if protocol is None or seeds != list(protocol.all_seeds):
        return f"the seeds {shorten(seeds)[1:-1]} with {scores.protocol}"
    return next(_list_foreign_settings(scores, protocol, task), "")


def _list_foreign_settings(scores: Scores, protocol: Protocol, task: Task) -> Iterator[str]:
    for run in scores.runs:
        for fold in run.folds:
            if not _is_possible(fold.model.settings, run, protocol, task):
                yield f"the settings {shorten(dict(fold.model.settings))} with {scores.protocol}"


def _is_possible(settings: Mapping[str, Any], run: RunEntry, protocol: Protocol, task: Task) -> bool:
    """Return whether a protocol may have selected these settings."""
    if protocol.is_pairwise:
        return settings == {"distance": protocol.distance}
    if protocol.probe != "mlp":
        return settings.get("probe") == protocol.probe
    of_run = dataclasses.replace(protocol, seed=run.seed)
    points = select_grid_points(of_run, task.name, task.metadata.settings_grid)
    return any(settings == dataclasses.asdict(point) for point in points)
