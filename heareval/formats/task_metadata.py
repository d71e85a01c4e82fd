"""Read and check task_metadata.json: what a task is and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from heareval import layout
from heareval.formats.fields import Fields, read_fields, shorten
from heareval.formats.names import check_splits
from heareval.spec import EmbeddingType, PredictionType, SplitMode, Splits

PREPARE_AGAIN = "Prepare the task again, or unpack its tarball again."
MAX_FOLDS = 100
# The key that lists the archives which took the place of the published ones.
STAND_INS = "not_the_published_corpus"


@dataclass(frozen=True)
class TaskMetadata:
    """What a task is and how it is scored.

    Args:
        name: `speech_commands`.
        version: `v0.0.2`; "" if the file has none.
        mode: `full`, `5h` ...; "" if the file has none.
        embedding_type: `scene` (an embedding per clip) or `event` (an embedding per timestamp).
        prediction_type: `multiclass` (exactly one label per clip), `multilabel`, or `pairwise` (distances
            between clips).
        split_mode: `trainvaltest`, one of the two ways to make folds, or `test_only`.
        splits: names of the splits, in order.
        metrics: names of the metrics; the first one decides model selection.
        loss_decides: the validation loss decides model selection instead of the first metric.
        settings_grid: values by which the task changes the predictor's grid, by name.
        postprocessing_grid: values by which the task changes the grid that turns frames into events, by name.
        is_published: False if the task was made from other archives than the published ones or lacks clips
            of them; None if the file does not say.
    """

    name: str
    version: str
    mode: str
    embedding_type: EmbeddingType
    prediction_type: PredictionType
    split_mode: SplitMode
    splits: tuple[str, ...]
    metrics: tuple[str, ...]
    loss_decides: bool
    settings_grid: Mapping[str, Sequence[Any]]
    postprocessing_grid: Mapping[str, Sequence[float]]
    is_published: bool | None

    @property
    def is_event(self) -> bool:
        """Whether the task has timestamp embeddings."""
        return self.embedding_type == "event"

    @property
    def is_pairwise(self) -> bool:
        """Whether distances between clips are scored, and nothing is trained."""
        return self.prediction_type == "pairwise"

    @property
    def is_multilabel(self) -> bool:
        """Whether a clip or frame may have any number of labels."""
        return self.prediction_type == "multilabel"

    @property
    def is_kfold(self) -> bool:
        """Whether the splits are folds of a cross-validation."""
        return self.split_mode in ("new_split_kfold", "presplit_kfold")


def read_task_metadata(folder: Path, *, remedy: str = PREPARE_AGAIN) -> TaskMetadata:
    """Return what a folder's task_metadata.json says.

    Args:
        folder: a task folder, or an embeddings folder, which has a copy of the file.
        remedy: advice for the user if the file is wrong.

    Raises:
        HearevalError: the file is missing or wrong.
    """
    return parse_task_metadata(read_fields(folder / layout.TASK_METADATA, remedy=remedy))


def parse_task_metadata(fields: Fields) -> TaskMetadata:
    """Return what the JSON object of a task_metadata.json says.

    >>> facts = {"task_name": "tones", "embedding_type": "scene", "prediction_type": "multiclass"}
    >>> facts |= {"split_mode": "new_split_kfold", "nfolds": 3, "evaluation": ["top1_acc"]}
    >>> parse_task_metadata(Fields("task_metadata.json", facts)).splits
    ('fold00', 'fold01', 'fold02')
    """
    embedding_type = fields.one_of("embedding_type", get_args(EmbeddingType))
    prediction_type = fields.one_of("prediction_type", get_args(PredictionType))
    if embedding_type == "event" and prediction_type != "multilabel":
        raise fields.error("prediction_type", f"{prediction_type} for an event task", "multilabel")
    split_mode = cast(SplitMode, fields.one_of("split_mode", get_args(SplitMode)))
    if (prediction_type == "pairwise") != (split_mode == "test_only"):
        expected = "test_only for pairwise tasks, and for no others"
        raise fields.error("split_mode", f"{split_mode} for a {prediction_type} task", expected)
    changes = fields.object("evaluation_params", {})
    return TaskMetadata(
        name=_non_empty(fields, "task_name"),
        version=fields.text_or_number("version", ""),
        mode=fields.text_or_number("mode", ""),
        embedding_type=cast(EmbeddingType, embedding_type),
        prediction_type=cast(PredictionType, prediction_type),
        split_mode=split_mode,
        splits=_splits(fields, split_mode),
        metrics=_metrics(fields),
        loss_decides=not fields.flag("use_scoring_for_early_stopping", True),
        settings_grid=_grid(changes, "task_specific_param_grid"),
        postprocessing_grid=_grid(changes, "event_postprocessing_grid", of_numbers=True),
        is_published=False if STAND_INS in fields.values else None,
    )


def _splits(fields: Fields, split_mode: SplitMode) -> tuple[str, ...]:
    """Return the names of the splits, which follow from the split mode where the file does not list them."""
    if "splits" in fields:
        splits = fields.texts("splits")
        check_splits(splits, f"{fields.where}: splits", fields.remedy)
        return splits
    if split_mode in ("trainvaltest", "test_only"):
        return Splits(split_mode).names
    folds = fields.integer("nfolds")
    if not 1 <= folds <= MAX_FOLDS:
        raise fields.error("nfolds", str(folds), f"a number from 1 to {MAX_FOLDS}")
    return Splits(split_mode, folds).names


def _metrics(fields: Fields) -> tuple[str, ...]:
    metrics = fields.texts("evaluation")
    if not metrics:
        raise fields.error("evaluation", "no metric", "at least one")
    return metrics


def _non_empty(fields: Fields, key: str) -> str:
    text = fields.text(key)
    if not text:
        raise fields.error(key, "''", "a name")
    return text


def _grid(changes: Fields, key: str, *, of_numbers: bool = False) -> Mapping[str, Sequence[Any]]:
    """Return the values to try, by the name of the setting."""
    grid = changes.object(key, {})
    for name, values in grid.values.items():
        if not isinstance(values, list) or not values:
            raise grid.error(name, shorten(values), "a list of values")
    return {name: grid.numbers(name) if of_numbers else tuple(grid.values[name]) for name in grid}
