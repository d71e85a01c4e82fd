"""About how long training takes, from the size of a task; what is known of it is on two cores."""

from __future__ import annotations

from heareval.predictions.protocol import GRIDS, TASK_GRIDS, Protocol, Settings
from heareval.spec import Splits

# Two cores take about this long for a step on a batch of 1,024 rows, in seconds: a fixed part and one for
# each dimension of the embeddings. Read off `python -m benchmarks.predict` (benchmarks/README.md).
STEP_S, STEP_S_PER_DIMENSION = 0.015, 0.015 / 1000


def estimate_training(
    protocol: Protocol, task: str, splits: Splits, rows: int, dimensions: int
) -> tuple[float, float] | None:
    """Return the least and the most seconds that training takes on two cores; None if that is not known.

    How long a network trains depends on when it stops improving, so the two are far apart. Tasks that are
    scored by distances train nothing.

    Args:
        protocol: how predictors are trained.
        task: name of the task.
        splits: how its clips are split.
        rows: number of embeddings, of all splits.
        dimensions: length of an embedding.

    >>> low, high = estimate_training(Protocol(), "esc50", Splits("presplit_kfold", 5), 2000, 1024)
    >>> round(low / 60, 1), round(high / 60, 1)
    (0.8, 6.1)
    >>> estimate_training(Protocol("pairwise"), "timbre_similarity", Splits("test_only"), 334, 1024)
    (0.0, 0.0)
    """
    if protocol.is_pairwise:
        return 0.0, 0.0
    if protocol.probe != "mlp" or splits.mode == "test_only":
        return None
    grid = {**GRIDS[protocol.grid], **TASK_GRIDS.get(task, {})}
    default = Settings(1, 1e-3, "xavier_uniform")
    most = grid.get("max_epochs", (default.max_epochs,))
    between = grid.get("check_val_every_n_epoch", (default.check_val_every_n_epoch,))
    patience = grid.get("patience", (default.patience,))
    widths = grid.get("hidden_dim", (default.hidden_dim,))
    # One fold is for validation and one for testing. The grid is searched on the first of them only.
    folds = splits.folds or 0
    share = (folds - 2) / folds if folds > 2 else 0.8
    trainings = (protocol.grid_points + max(0, folds - 1)) * protocol.seeds
    steps = max(1, -(-round(rows * share) // default.batch_size))
    wide, narrow = (width / default.hidden_dim for width in (max(widths), min(widths)))
    step_s = STEP_S + STEP_S_PER_DIMENSION * dimensions
    fewest_epochs = min(min(most), min(between) * (min(patience) + 1))
    return trainings * steps * step_s * narrow * fewest_epochs, trainings * steps * step_s * wide * max(most)
