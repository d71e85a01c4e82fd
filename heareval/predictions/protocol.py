"""The evaluation protocol: its settings, its grids, and the grid points selected from them."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from heareval.errors import HearevalError, unknown_name
from heareval.formats.limit import check_limit
from heareval.formats.task_metadata import TaskMetadata
from heareval.layout import name_limited

# Part of every fingerprint. Increase it when the same settings would give other scores.
PREDICTOR_VERSION = 3
# The same for training in bf16 alone.
BF16_VERSION = 2
PUBLISHED_GRID_POINTS = 8
# Seeds of a run with full reports, unless another number is asked for.
FULL_REPORT_SEEDS = 5
# The largest seed of a run, and the most seeds that it may have; the options, cards and names of results have
# the same limits.
MAX_SEED = 2**64 - 1
MAX_SEEDS = 9999

GridName = Literal["default", "fast", "faster"]
Order = Literal["fixed", "shuffled"]
Device = Literal["auto", "cpu", "cuda"]
ProtocolName = Literal["hear2021", "pairwise"]
Probe = Literal["mlp", "knn-cosine", "knn-l1", "linear"]
PROBES: tuple[Probe, ...] = get_args(Probe)
TrainPrecision = Literal["float32", "tf32", "bf16"]
TRAIN_PRECISIONS: tuple[TrainPrecision, ...] = get_args(TrainPrecision)
Distance = Literal["l1", "l2", "cosine"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
Grid = Mapping[str, Sequence[Any]]


# Batch normalisation needs two rows to compute a variance.
MINIMA: Mapping[str, int] = {
    "hidden_layers": 0,
    "hidden_dim": 1,
    "batch_size": 2,
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "patience": 1,
}


@dataclass(frozen=True)
class LearnerSettings:
    """The settings of a learner; each learner adds fields, whose names are the keys in the results."""


@dataclass(frozen=True)
class DistanceSettings(LearnerSettings):
    """What stands in place of a learner's settings where nothing is trained.

    Args:
        distance: what clips are compared by.
    """

    distance: Distance


@dataclass(frozen=True)
class Settings(LearnerSettings):
    """One grid point of the network: its shape and how it is trained.

    The text of an instance seeds its training, so the names of the class and its fields must not change.

    Args:
        hidden_layers: number of hidden layers; 0 is a linear predictor.
        lr: Adam's learning rate.
        initialization: "xavier_uniform" or "xavier_normal".
        dropout: share of activations that are set to 0 in training.
        batch_size: rows per training step.
        max_epochs: epochs after which training stops in any case.
        check_val_every_n_epoch: epochs between validations.
        patience: validations without a better score after which training stops.
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
        for name, minimum in MINIMA.items():
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise HearevalError(f"{name} of a grid point", got=str(value), expected=f"{minimum} or more")
        for name in ("lr", "dropout"):
            value = getattr(self, name)
            if type(value) not in (int, float):
                raise HearevalError(f"{name} of a grid point", got=repr(value), expected="a number")
        if not (0 < self.lr < math.inf and 0 <= self.dropout < 1):
            got = f"lr {self.lr} and dropout {self.dropout}"
            raise HearevalError("a grid point", got=got, expected="lr above 0, dropout in [0, 1)")

    @property
    def epochs_per_validation(self) -> int:
        """Return the epochs between validations; a task that trains for fewer is validated at the end."""
        return min(self.check_val_every_n_epoch, self.max_epochs)

    @property
    def last_validation(self) -> int:
        """Return the epoch of the last validation if nothing stops the training before."""
        return self.max_epochs - self.max_epochs % self.epochs_per_validation


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
# The evaluation of 2021 changed the grid of this task in its code; the metadata of the task doesn't mention
# it.
TASK_GRIDS: Mapping[str, Grid] = {"dcase2016_task2": {"check_val_every_n_epoch": (10,)}}


def count_points(grid: Grid) -> int:
    """Return the number of points of a grid.

    >>> count_points(GRIDS["default"])
    16
    """
    return math.prod(len(values) for values in grid.values())


INITIALIZATIONS = ("xavier_uniform", "xavier_normal")


@dataclass(frozen=True)
class Protocol:
    """How predictors are trained and selected, or how pairwise tasks are scored without any.

    Args:
        name: the published protocol that it starts from; "pairwise" for tasks that are scored by distances
            alone, to which only the distance and the device matter.
        grid: name of the grid.
        grid_points: number of grid points that are selected at random; at most all of the grid.
        order: "fixed" trains on the same batches in every epoch, as in 2021; "shuffled" draws new ones.
        seed: seed of the selected grid points, the weights and the dropout, from 0 to MAX_SEED.
        seeds: number of repetitions with consecutive seeds, starting from `seed`; at most MAX_SEEDS, and no
            seed exceeds MAX_SEED.
        device: "auto" uses a CUDA device if there is one.
        deterministic: make scores equal on every run of one machine; slower on CUDA.
        probe: the learner. Only "mlp", the network, has a grid. Results of the others have
            the probe in their name.
        distance: what the clips of pairwise tasks are compared by.
        limit: how many clips of each split are embedded and scored at most; None means all. Such results are
            for smoke tests, and have the limit in their name.
        train_precision: precision of the matrix products in which networks are trained: "bf16" and "tf32" are
            faster where the hardware has them. Validation and predictions are float32 in any case.
    """

    name: ProtocolName = "hear2021"
    grid: GridName = "default"
    grid_points: int = PUBLISHED_GRID_POINTS
    order: Order = "fixed"
    seed: int = 0
    seeds: int = 1
    device: Device = "auto"
    deterministic: bool = True
    probe: Probe = "mlp"
    distance: Distance = "l1"
    limit: int | None = None
    train_precision: TrainPrecision = "float32"

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("protocol", self.name, get_args(ProtocolName)),
            ("grid", self.grid, tuple(GRIDS)),
            ("order", self.order, ("fixed", "shuffled")),
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("probe", self.probe, PROBES),
            ("distance", self.distance, DISTANCES),
            ("train precision", self.train_precision, TRAIN_PRECISIONS),
        ):
            if value not in known:
                raise unknown_name(kind, value, known)
        if self.grid_points < 1:
            raise HearevalError("grid points", got=str(self.grid_points), expected="1 or more")
        if self.grid_points > (most := count_points(GRIDS[self.grid])):
            raise HearevalError(
                "grid points",
                got=str(self.grid_points),
                expected=f"at most {most}, which are all points of the grid {self.grid!r}",
            )
        check_limit(self.limit)
        if not 1 <= self.seeds <= MAX_SEEDS:
            raise HearevalError("seeds", got=str(self.seeds), expected=f"1 to {MAX_SEEDS}")
        if not 0 <= self.seed <= MAX_SEED:
            # Some random number generators ignore the sign of a seed.
            raise HearevalError("seed", got=str(self.seed), expected=f"0 to {MAX_SEED}")
        if self.all_seeds[-1] > MAX_SEED:
            raise HearevalError(
                f"seed {self.seed} and {self.seeds} seeds",
                got=f"{self.all_seeds[-1]} as the last seed",
                expected=f"{MAX_SEED} at most",
                remedy="Take a smaller first seed.",
            )
        network_options = (self.grid, self.grid_points, self.order, self.seeds, self.train_precision)
        is_default = network_options == ("default", PUBLISHED_GRID_POINTS, "fixed", 1, "float32")
        if self.probe != "mlp" and not is_default:
            raise HearevalError(
                f"probe {self.probe}",
                got="settings of the network",
                remedy="Leave out --grid, --grid-points, --shuffle, --seeds and --train-precision.",
            )

    @property
    def is_pairwise(self) -> bool:
        """Return whether distances are scored, and nothing is trained."""
        return self.name == "pairwise"

    def for_task(self, *, is_pairwise: bool) -> Protocol:
        """Return the protocol as it applies to a task, without the settings that don't matter to it.

        Args:
            is_pairwise: whether the task is scored by distances alone.

        >>> Protocol(probe="linear", distance="l2").for_task(is_pairwise=True).recorded_name
        'pairwise-l2'
        >>> Protocol(distance="l2").for_task(is_pairwise=False) == Protocol()
        True
        """
        if is_pairwise:
            return Protocol(name="pairwise", device=self.device, distance=self.distance, limit=self.limit)
        return dataclasses.replace(self, distance="l1")

    @property
    def all_seeds(self) -> range:
        """Return the seeds with which the protocol is repeated."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def recorded_name(self) -> str:
        """Return the name of the results. Every variant of the published protocol has another name.

        >>> Protocol().recorded_name, Protocol(grid="fast", order="shuffled").recorded_name
        ('hear2021', 'hear2021-fast-shuffled')
        >>> Protocol(seeds=5).recorded_name, Protocol(probe="knn-l1").recorded_name
        ('hear2021-5seeds', 'probe-knn-l1')
        >>> Protocol(train_precision="bf16").recorded_name
        'hear2021-bf16'
        >>> Protocol(limit=20).recorded_name
        'hear2021-limit20'
        """
        return name_limited(self._unlimited_name, self.limit)

    @property
    def _unlimited_name(self) -> str:
        if self.is_pairwise:
            return f"pairwise-{self.distance}"
        if self.probe != "mlp":
            return f"probe-{self.probe}"
        parts: list[str] = [self.name]
        if self.grid != "default":
            parts.append(self.grid)
        if self.grid_points != PUBLISHED_GRID_POINTS:
            parts.append(f"{self.grid_points}points")
        if self.order != "fixed":
            parts.append(self.order)
        if self.train_precision != "float32":
            parts.append(self.train_precision)
        if self.seeds > 1:
            parts.append(f"{self.seeds}seeds")
        return "-".join(parts)


def count_seeds(asked: int | None, probe: Probe, *, has_reports: bool) -> int:
    """Return the seeds of a run: as many as asked for, or what is usual.

    A probe involves hardly any chance, and takes one.

    >>> count_seeds(None, "mlp", has_reports=True), count_seeds(3, "mlp", has_reports=True)
    (5, 3)
    """
    return asked or (FULL_REPORT_SEEDS if has_reports and probe == "mlp" else 1)


def settings_for_fingerprint(protocol: Protocol) -> dict[str, Any]:
    """Return the settings of a protocol that decide the scores, as JSON values.

    The device is left out: scores of different devices agree within the noise of the seeds, and a run that
    moves to another machine must not start over.
    """
    if protocol.is_pairwise:
        return {"protocol": protocol.recorded_name, "distance": protocol.distance}
    settings = {
        "protocol": protocol.recorded_name,
        "grid": protocol.grid,
        "grid_points": protocol.grid_points,
        "order": protocol.order,
        "seed": protocol.seed,
        "seeds": protocol.seeds,
        "deterministic": protocol.deterministic,
    }
    return {**settings, "bf16": BF16_VERSION} if protocol.train_precision == "bf16" else settings


def grid_for(protocol: Protocol, task_name: str, overrides: Grid) -> Grid:
    """Return the grid of a task: the protocol's, changed for the task's name, then by its metadata.

    Args:
        overrides: `evaluation_params.task_specific_param_grid` of task_metadata.json.

    Raises:
        HearevalError: the metadata names an unknown setting or initialization.
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


def select_grid_points(protocol: Protocol, task_name: str, overrides: Grid) -> tuple[Settings, ...]:
    """Select grid points at random, and return them in the order in which they are tried.

    A task whose metadata reduces the grid may have fewer points than are asked for; all of them are returned.

    Args:
        overrides: `evaluation_params.task_specific_param_grid` of task_metadata.json.

    Raises:
        HearevalError: the metadata names an unknown setting, or a value is out of range.

    >>> points = select_grid_points(Protocol(), "esc50", {})
    >>> len(points), points[0].max_epochs
    (8, 500)
    """
    grid = grid_for(protocol, task_name, overrides)
    points = [
        Settings(**dict(zip(grid, values, strict=True))) for values in itertools.product(*grid.values())
    ]
    random.Random(protocol.seed).shuffle(points)
    return tuple(points[: protocol.grid_points])


def count_concurrent_trainings(protocol: Protocol, task: TaskMetadata) -> int:
    """Return how many networks could train at the same time, given enough cores.

    First come the grid points of all seeds, and then, with what was selected, the other folds of all seeds.

    Args:
        protocol: how predictors are trained.
        task: what is trained on.

    Raises:
        HearevalError: the metadata names an unknown setting, or a value is out of range.

    Example: `count_concurrent_trainings(Protocol(), read_task_metadata(folder))` is 8 for esc50.
    """
    points = len(select_grid_points(protocol, task.name, task.settings_grid))
    other_folds = len(task.splits) - 1 if task.is_kfold else 0
    return protocol.seeds * max(points, other_folds)
