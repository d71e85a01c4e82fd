"""The evaluation of one embeddings folder."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from heareval.errors import HearevalError
from heareval.predictions.checkpoints import Checkpoints
from heareval.predictions.data import SplitRoles, read_task
from heareval.predictions.kinds import (
    PairwiseKind,
    find_kind,
    read_splits,
)
from heareval.predictions.learners import EvaluationContext, find_learner
from heareval.predictions.learners.precision import check_device
from heareval.predictions.learners.side_by_side import SideBySide, use_threads
from heareval.predictions.protocol import DistanceSettings, Protocol
from heareval.predictions.results import FoldResult, ModelResult, Run, TaskResult, Validation
from heareval.predictions.search import assign_roles, check_rows, run_protocol
from heareval.spec import Progress, ignore_progress


def evaluate_folder(
    folder: Path,
    protocol: Protocol,
    progress: Progress = ignore_progress,
    *,
    in_memory: bool | None = None,
    scratch: Path | None = None,
    max_stacked: int | None = None,
    checkpoints: Checkpoints | None = None,
    side_by_side: SideBySide | None = None,
) -> TaskResult:
    """Train, select and test models on an embeddings folder, or measure its distances, and write nothing.

    Args:
        in_memory: whether to hold embeddings in the device's memory instead of reading them from disk as
            needed; None means if there is room. Probes hold those that they are fitted to in any case.
        scratch: a folder of this machine for copies of embeddings that are read as needed; None without one.
        max_stacked: how many networks are trained as one stack at most; None means as many as the device
            gains from.
        checkpoints: from which the trainings of networks resume; None without.
        side_by_side: how networks share the cores of a CPU; None trains one after the other on all of them.
            Probes, distances and GPUs leave it out.

    Raises:
        HearevalError: the folder can't be evaluated.
        ValueError: the protocol is not that of the task.
    """
    started = time.perf_counter()
    task = read_task(folder)
    kind = find_kind(task)
    if protocol.is_pairwise != task.metadata.is_pairwise:
        raise ValueError(f"{protocol} for a {kind.name} task; Protocol.for_task gives the right one")
    if task.manifest and protocol.limit != task.manifest.limit:
        raise ValueError(f"{protocol} for embeddings with the limit {task.manifest.limit}")
    kind.check_metrics()
    device = choose_device(protocol)
    check_device(protocol.train_precision, device)
    trains_on_cpu = protocol.probe == "mlp" and not protocol.is_pairwise and device.type == "cpu"
    side_by_side = side_by_side if trains_on_cpu else None
    threads = None
    if isinstance(kind, PairwiseKind):
        decided_by, runs = "", _measure(kind, protocol, device, progress)
    else:
        rounds = assign_roles(task)
        splits = read_splits(kind, device, in_memory=in_memory, scratch=scratch)
        with _suggesting_larger(protocol.limit):
            check_rows(rounds, splits)
        context = EvaluationContext(task, kind, protocol, splits, max_stacked, checkpoints, side_by_side)
        learner = find_learner(context)
        # Tests of models are part of it, so that their last bits do not depend on the cores either.
        with use_threads(side_by_side.threads if side_by_side else None):
            threads = torch.get_num_threads() if trains_on_cpu else None
            decided_by, runs = learner.criterion.name, run_protocol(context, learner, rounds, progress)
    return TaskResult(
        protocol=protocol,
        kind=kind,
        decided_by=decided_by,
        runs=runs,
        clips={order.name: len(order.clips) for order in task.orders},
        device=name_device(device),
        threads=threads,
        seconds=time.perf_counter() - started + (checkpoints.resumed_s if checkpoints else 0.0),
    )


def _measure(
    kind: PairwiseKind, protocol: Protocol, device: torch.device, progress: Progress
) -> tuple[Run, ...]:
    """Return the single result of a pairwise task, which has no models and takes no seeds."""
    started = time.perf_counter()
    with _suggesting_larger(protocol.limit):
        # It is prepared when it is first used.
        _ = kind.relation
    predictions = kind.measure(protocol.distance, device, progress)
    scores = kind.score(kind.order.name, predictions)
    seconds = time.perf_counter() - started
    settings = DistanceSettings(protocol.distance)
    model = ModelResult(settings, Validation(math.nan), best_epoch=None, epochs=None, seconds=seconds)
    roles = SplitRoles(kind.order.name, "", ())
    return (Run(protocol.seed, (), (FoldResult(roles, model, scores, predictions),)),)


@contextlib.contextmanager
def _suggesting_larger(limit: int | None) -> Iterator[None]:
    """Let errors about too few clips say that a limit is the reason."""
    try:
        yield
    except HearevalError as error:
        if limit is not None:
            error.remedy = f"Use a larger limit than {limit}."
        raise


def choose_device(protocol: Protocol) -> torch.device:
    """Return the device to train on.

    Raises:
        HearevalError: the protocol demands CUDA, and there is no CUDA device.
    """
    is_available = torch.cuda.is_available()
    if protocol.device == "cuda" and not is_available:
        raise HearevalError(
            "device", got="no CUDA device", expected="cuda", remedy="Use --gpus 0, or leave it out."
        )
    return torch.device("cpu" if protocol.device == "cpu" or not is_available else "cuda:0")


def name_device(device: torch.device) -> str:
    """Return `cpu`, or the name of the GPU."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
