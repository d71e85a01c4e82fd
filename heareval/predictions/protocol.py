"""What decides a score beside the embeddings: the protocol, its grids and the points drawn from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heareval.errors import HearevalError, unknown_name

# Part of every fingerprint: goes up when the same settings would give other scores.
PREDICTOR_VERSION = 3
PUBLISHED_GRID_POINTS = 8

GridName = Literal["default", "fast", "faster"]
Order = Literal["fixed", "shuffled"]
Device = Literal["auto", "cpu", "cuda"]
Probe = Literal["mlp", "knn-cosine", "knn-l1", "linear"]
PROBES: tuple[Probe, ...] = ("mlp", "knn-cosine", "knn-l1", "linear")
Grid = Mapping[str, Sequence[Any]]


# Batch normalisation has no variance for a single row.
LEAST: Mapping[str, int] = {
    "hidden_layers": 0,
    "hidden_dim": 1,
    "batch_size": 2,
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "patience": 1,
}


@dataclass(frozen=True)
class Settings:
    """One grid point: the predictor's shape and how it is trained.

    Args:
        hidden_layers: how many hidden layers; 0 is a linear predictor.
        lr: Adam's learning rate.
        initialization: "xavier_uniform" or "xavier_normal".
        check_val_every_n_epoch: epochs between validations.
        patience: validations without a better score before training stops.
    """

    hidden_layers: int
    lr: float
    initialization: str
    hidden_dim: int = 1024
    dropout: float = 0.1
    batch_size: int = 1024
    max_epochs: int = 500
    check_val_every_n_epoch: int = 3
    patience: int = 20

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise HearevalError(f"{name} of a grid point", got=str(value), expected=f"{least} or more")
        for name in ("lr", "dropout"):
            value = getattr(self, name)
            if type(value) not in (int, float):
                raise HearevalError(f"{name} of a grid point", got=repr(value), expected="a number")
        if not (0 < self.lr < math.inf and 0 <= self.dropout < 1):
            got = f"lr {self.lr} and dropout {self.dropout}"
            raise HearevalError("a grid point", got=got, expected="lr above 0, dropout in [0, 1)")


_DEFAULT: Grid = {
    "hidden_layers": (1, 2),
    "lr": (3.2e-3, 1e-3, 3.2e-4, 1e-4),
    "initialization": ("xavier_uniform", "xavier_normal"),
}
GRIDS: Mapping[str, Grid] = {
    "default": _DEFAULT,
    "fast": {**_DEFAULT, "max_epochs": (10, 50), "check_val_every_n_epoch": (3, 10)},
    "faster": {
        **_DEFAULT,
        "hidden_layers": (0, 1),
        "hidden_dim": (64, 128),
        "patience": (1, 3),
        "max_epochs": (10,),
        "check_val_every_n_epoch": (1,),
    },
}
# Set by the evaluation in 2021, not by the task's own metadata.
TASK_GRIDS: Mapping[str, Grid] = {"dcase2016_task2": {"check_val_every_n_epoch": (10,)}}
INITIALIZATIONS = ("xavier_uniform", "xavier_normal")


@dataclass(frozen=True)
class Protocol:
    """How predictors are trained and chosen.

    Args:
        name: the published protocol it starts from.
        grid: which settings may be tried.
        grid_points: how many of them are drawn.
        order: "fixed" keeps the batches of 2021, "shuffled" draws new ones every epoch.
        seed: of the drawn grid points, the weights and the dropout.
        seeds: how many times all is done, with this seed, the next and so on.
        device: "auto" takes a CUDA device if there is one.
        deterministic: equal numbers on every run of one machine, on CUDA too (slower there).
        probe: what learns; all but "mlp", the network, do without a grid and have names of their own.
    """

    name: str = "hear2021"
    grid: GridName = "default"
    grid_points: int = PUBLISHED_GRID_POINTS
    order: Order = "fixed"
    seed: int = 0
    seeds: int = 1
    device: Device = "auto"
    deterministic: bool = True
    probe: Probe = "mlp"

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("protocol", self.name, ("hear2021",)),
            ("grid", self.grid, tuple(GRIDS)),
            ("order", self.order, ("fixed", "shuffled")),
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("probe", self.probe, PROBES),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        if self.grid_points < 1:
            raise HearevalError("grid points", got=str(self.grid_points), expected="1 or more")
        if self.seeds < 1:
            raise HearevalError("seeds", got=str(self.seeds), expected="1 or more")
        if self.seed < 0:
            # Chance takes them for positive ones, here and there.
            raise HearevalError("seed", got=str(self.seed), expected="0 or more")
        asked = (self.grid, self.grid_points, self.order, self.seeds)
        usual = asked == ("default", PUBLISHED_GRID_POINTS, "fixed", 1)
        if self.probe != "mlp" and not usual:
            raise HearevalError(
                f"probe {self.probe}",
                got="settings of the network",
                remedy="Leave out --grid, --grid-points, --shuffle and --seeds.",
            )

    @property
    def all_seeds(self) -> range:
        """The seeds that the protocol is gone through with."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def recorded_name(self) -> str:
        """The name under which scores are kept, so that no others mix with those of the published protocol.

        >>> Protocol().recorded_name, Protocol(grid="fast", order="shuffled").recorded_name
        ('hear2021', 'hear2021-fast-shuffled')
        >>> Protocol(seeds=5).recorded_name, Protocol(probe="knn-l1").recorded_name
        ('hear2021-5seeds', 'probe-knn-l1')
        """
        if self.probe != "mlp":
            return f"probe-{self.probe}"
        parts = [self.name]
        if self.grid != "default":
            parts.append(self.grid)
        if self.grid_points != PUBLISHED_GRID_POINTS:
            parts.append(f"{self.grid_points}points")
        if self.order != "fixed":
            parts.append(self.order)
        if self.seeds > 1:
            parts.append(f"{self.seeds}seeds")
        return "-".join(parts)


def settings_for_fingerprint(protocol: Protocol) -> dict[str, Any]:
    """What of a protocol decides the scores, as JSON values.

    The device is left out: scores agree between devices within the noise of the seeds, and a run that
    moves to another machine must not start over.
    """
    return {
        "protocol": protocol.recorded_name,
        "grid": protocol.grid,
        "grid_points": protocol.grid_points,
        "order": protocol.order,
        "seed": protocol.seed,
        "seeds": protocol.seeds,
        "deterministic": protocol.deterministic,
    }


def grid_for(protocol: Protocol, task_name: str, overrides: Grid) -> Grid:
    """The grid of a task: the protocol's, changed by the task's name, then by its metadata.

    Args:
        overrides: `evaluation_params.task_specific_param_grid` of task_metadata.json.

    Raises:
        HearevalError: the metadata names a setting that predictors don't have.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in overrides:
        if name not in known:
            raise unknown_name(f"setting in the grid of {task_name}", name, known)
    grid = {**GRIDS[protocol.grid], **TASK_GRIDS.get(task_name, {}), **overrides}
    for name in grid.get("initialization", ()):
        if name not in INITIALIZATIONS:
            raise unknown_name(f"initialization in the grid of {task_name}", name, INITIALIZATIONS)
    return grid


def draw_settings(protocol: Protocol, task_name: str, overrides: Grid) -> tuple[Settings, ...]:
    """The grid points to try, in the order they are tried.

    >>> len(draw_settings(Protocol(), "esc50", {})), draw_settings(Protocol(), "esc50", {})[0].max_epochs
    (8, 500)
    """
    grid = grid_for(protocol, task_name, overrides)
    points = [
        Settings(**dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())
    ]
    random.Random(protocol.seed).shuffle(points)
    return tuple(points[: protocol.grid_points])
