"""The evaluation of one embeddings folder."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from heareval.errors import HearevalError
from heareval.predictions.data import read_task
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.learners import EvaluationContext, find_learner
from heareval.predictions.protocol import Protocol
from heareval.predictions.results import TaskResult
from heareval.predictions.search import assign_roles, check_rows, run_protocol
from heareval.spec import Progress, ignore_progress


def evaluate_folder(
    folder: Path,
    protocol: Protocol,
    progress: Progress = ignore_progress,
    *,
    in_memory: bool | None = None,
    max_stacked: int | None = None,
) -> TaskResult:
    """Train, select and test models on an embeddings folder, and write nothing.

    Args:
        in_memory: whether to hold embeddings in the device's memory instead of reading them from disk as
            needed; None means if there is room. Probes hold those that they are fitted to in any case.
        max_stacked: how many networks are trained side by side at most; None means as many as the device
            gains from.

    Raises:
        HearevalError: the folder can't be evaluated.
    """
    started = time.perf_counter()
    task = read_task(folder)
    kind = find_kind(task)
    kind.check_metrics()
    rounds = assign_roles(task)
    device = choose_device(protocol)
    splits = read_splits(kind, device, in_memory=in_memory)
    check_rows(rounds, splits)
    context = EvaluationContext(task, kind, protocol, splits, max_stacked)
    learner = find_learner(context)
    runs = run_protocol(context, learner, rounds, progress)
    return TaskResult(
        protocol=protocol,
        task=task,
        decided_by=learner.criterion.name,
        runs=runs,
        clips={name: len(split.clips) for name, split in splits.items()},
        device=name_device(device),
        seconds=time.perf_counter() - started,
    )


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
