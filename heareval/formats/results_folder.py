"""The results that an evaluation leaves in an embeddings folder: scores as JSON, predictions as NPZ.

`test.*predicted-scores.json` has the attributes of `Scores` as keys; `test.*predictions.npz` has the members
`fingerprint`, `<split>/clips`, `<split>/targets` and so on.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import files, layout
from heareval.errors import HearevalError, about_files
from heareval.formats.fields import Fields, read_fields, shorten

EVALUATE_AGAIN = "Evaluate the task again."


@dataclass(frozen=True)
class ScoreEntry:
    """The score of one metric. Numbers are None where they are undefined or infinite.

    Args:
        score: mean over folds and seeds.
        std: standard deviation over folds; None with one fold.
        interval_95: ends of the 95 % confidence interval; an end is None where it is infinite.
        resamples: number of bootstrap resamples with a score.
        undefined_resamples: number of bootstrap resamples without one.
        folds: score of each tested split, the mean over seeds.
        details: further numbers of each tested split, such as precision and recall.
        seed_std: standard deviation over seeds, if there are several.
        seeds: score of each seed, if there are several.
    """

    score: float | None
    std: float | None = None
    interval_95: tuple[float | None, float | None] | None = None
    resamples: int = 0
    undefined_resamples: int = 0
    folds: Mapping[str, float | None] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    seed_std: float | None = None
    seeds: Mapping[str, float | None] | None = None

    @property
    def value(self) -> float:
        """Return the score, NaN where it is undefined."""
        return math.nan if self.score is None else self.score


@dataclass(frozen=True)
class GridEntry:
    """One trained model.

    Args:
        settings: its settings by name.
        validation_score: its best score on the validation split; None where it is undefined.
        postprocessing: values by name of what turns its frames into events; None in scene tasks.
        best_epoch: epochs after which the best validation took place; None where there are no epochs.
        epochs: epochs trained; None where there are no epochs.
        seconds: duration of the training.
        curve: epoch and score of every validation.
    """

    settings: Mapping[str, Any]
    validation_score: float | None
    postprocessing: Mapping[str, float] | None
    best_epoch: int | None
    epochs: int | None
    seconds: float
    curve: tuple[tuple[int, float | None], ...] = ()


@dataclass(frozen=True)
class FoldEntry:
    """The model that was tested on one split.

    Args:
        test: the tested split.
        valid: the split that validated the model.
        train: the splits that the model was trained on.
    """

    test: str
    valid: str
    train: tuple[str, ...]
    model: GridEntry


@dataclass(frozen=True)
class RunEntry:
    """All models that one seed trained.

    Args:
        settings: the best settings.
        folds: the tested models.
        grid: every model of the search.
    """

    seed: int
    settings: Mapping[str, Any]
    folds: tuple[FoldEntry, ...]
    grid: tuple[GridEntry, ...]


@dataclass(frozen=True)
class Scores:
    """The content of a scores file.

    Args:
        protocol: recorded name of the protocol, as in the file's name.
        task: name of the task.
        fingerprint: fingerprint of these results.
        embeddings_fingerprint: fingerprint of the embeddings that were scored.
        is_the_published_corpus: whether the task was made from the published archives; None if nobody knows.
        scores: the scores by metric, the task's first metric first.
        problems: sentences about scores that are undefined, infinite or unusual.
        decided_by: what chose the models: the name of a metric, or "loss".
        runs: the models, one run for each seed.
        labels: size of the vocabulary.
        clips: number of clips of each split.
        versions: releases of the packages that computed the scores.
    """

    protocol: str
    task: str
    version: str
    mode: str
    fingerprint: str
    embeddings_fingerprint: str
    submission: Mapping[str, Any]
    is_the_published_corpus: bool | None
    made_from: Mapping[str, Any]
    unusual_embedding: Mapping[str, Any]
    scores: Mapping[str, ScoreEntry]
    problems: tuple[str, ...]
    decided_by: str
    runs: tuple[RunEntry, ...]
    labels: int
    clips: Mapping[str, int]
    device: str
    deterministic: bool
    seconds: float
    versions: Mapping[str, Any]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics, the task's first metric first."""
        return tuple(self.scores)


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions for one tested split.

    Args:
        clips: file names of the clips, in the order of the rows.
        targets: `(clips, labels)`, or `(clips, timestamps, labels)` in event tasks, of 0 and 1.
        predictions: probabilities, `(seeds, *shape of targets)`.
        timestamps_ms: `(clips, timestamps)` milliseconds; None in scene tasks.
        postprocessing: by name what turned frames into events, `(seeds,)` each; {} in scene tasks.
    """

    clips: tuple[str, ...]
    targets: NDArray[np.uint8]
    predictions: NDArray[np.float32]
    timestamps_ms: NDArray[np.float64] | None = None
    postprocessing: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


# Members of a split in the NPZ file, beside the names of its postprocessing.
CLIPS, TARGETS, PREDICTIONS, TIMESTAMPS = "clips", "targets", "predictions", "timestamps_ms"


# --------------------------------------------------------------------------- scores


def finite_or_none(value: float) -> float | None:
    """Return a number as JSON has it, which knows neither NaN nor infinity.

    >>> finite_or_none(0.5), finite_or_none(math.inf)
    (0.5, None)
    """
    return float(value) if math.isfinite(value) else None


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """Return the content of a scores file as JSON values, in the order of the file.

    The first seed's models stand at the top level, those of the other seeds under `more_seeds`.
    """
    first, *others = scores.runs
    values: dict[str, Any] = {}
    for key, value in vars(scores).items():
        if key == "scores":
            values[key] = {metric: score_to_json(score) for metric, score in value.items()}
        elif key == "runs":
            values |= run_to_json(first)
            values |= {"seeds": len(scores.runs), "more_seeds": [run_to_json(run) for run in others]}
        else:
            values[key] = list(value) if isinstance(value, tuple) else value
    return values


def score_to_json(score: ScoreEntry) -> dict[str, Any]:
    """Return the score of one metric as JSON values."""
    values = asdict(score)
    if score.seeds is None:
        del values["seed_std"], values["seeds"]
    return values


def run_to_json(run: RunEntry) -> dict[str, Any]:
    """Return the models of one seed as JSON values."""
    folds = [
        {"test": fold.test, "valid": fold.valid, "train": list(fold.train), **asdict(fold.model)}
        for fold in run.folds
    ]
    grid = [asdict(point) for point in run.grid]
    return {"seed": run.seed, "settings": run.settings, "folds": folds, "grid": grid}


def write_scores(folder: Path, scores: Scores) -> Path:
    """Write a scores file whole or not at all, and return its path."""
    path = folder / layout.scores(scores.protocol)
    files.write_json(path, scores_to_json(scores))
    return path


def read_scores(path: Path) -> Scores:
    """Return the content of a scores file.

    Raises:
        HearevalError: the file is missing, can't be read, or doesn't hold scores.
    """
    return _parse_scores(read_fields(path, remedy=EVALUATE_AGAIN))


def find_scores_fingerprint(folder: Path, protocol: str) -> str:
    """Return the fingerprint of a protocol's results; "" if they are missing, incomplete or damaged."""
    if not (folder / layout.predictions(protocol)).exists():
        return ""
    try:
        return read_fields(folder / layout.scores(protocol)).text("fingerprint", "")
    except HearevalError:
        return ""


def _parse_scores(fields: Fields) -> Scores:
    metrics = fields.object("scores")
    if not metrics.values:
        raise fields.error("scores", "no metric", "at least one")
    runs = (_parse_run(fields), *map(_parse_run, fields.objects("more_seeds", ())))
    clips = fields.counts("clips")
    for fold in runs[0].folds:
        if fold.test not in clips:
            raise fields.error("clips", f"no {fold.test}", "the number of clips of every tested split")
    tested = [fold.test for fold in runs[0].folds]
    return Scores(
        protocol=fields.text("protocol"),
        task=fields.text("task", ""),
        version=fields.text("version", ""),
        mode=fields.text("mode", ""),
        fingerprint=fields.text("fingerprint"),
        embeddings_fingerprint=fields.text("embeddings_fingerprint"),
        submission=fields.mapping("submission", {}),
        is_the_published_corpus=fields.flag("is_the_published_corpus", None),
        made_from=fields.mapping("made_from", {}),
        unusual_embedding=fields.mapping("unusual_embedding", {}),
        scores={metric: _parse_score(metrics.object(metric), tested) for metric in metrics},
        problems=fields.texts("problems", ()),
        decided_by=fields.text("decided_by", ""),
        runs=runs,
        labels=fields.integer("labels", 0),
        clips=clips,
        device=fields.text("device", ""),
        deterministic=fields.flag("deterministic", True),
        seconds=fields.number("seconds", 0.0),
        versions=fields.mapping("versions", {}),
    )


def _parse_score(fields: Fields, tested: Sequence[str]) -> ScoreEntry:
    folds = _optional_numbers(fields.object("folds"))
    if sorted(folds) != sorted(tested):
        expected = f"the tested splits {', '.join(tested)}"
        raise fields.error("folds", shorten(list(folds)), expected)
    details = fields.object("details", {})
    return ScoreEntry(
        score=fields.number("score", None),
        std=fields.number("std", None),
        interval_95=_parse_interval(fields),
        resamples=fields.integer("resamples", 0),
        undefined_resamples=fields.integer("undefined_resamples", 0),
        folds=folds,
        details={split: _optional_numbers(details.object(split)) for split in details},
        seed_std=fields.number("seed_std", None),
        seeds=_optional_numbers(fields.object("seeds")) if "seeds" in fields else None,
    )


def _optional_numbers(fields: Fields) -> dict[str, float | None]:
    return {key: fields.number(key, None) for key in fields}


def _parse_interval(fields: Fields) -> tuple[float | None, float | None] | None:
    ends = fields.values.get("interval_95")
    if ends is None:
        return None
    if not (isinstance(ends, list) and len(ends) == 2 and all(map(_is_optional_number, ends))):
        raise fields.error("interval_95", shorten(ends), "two numbers")
    return ends[0], ends[1]


def _is_optional_number(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _parse_run(fields: Fields) -> RunEntry:
    folds = tuple(
        FoldEntry(fold.text("test"), fold.text("valid"), fold.texts("train"), _parse_model(fold))
        for fold in fields.objects("folds")
    )
    if not folds:
        raise fields.error("folds", "none", "at least one")
    grid = tuple(map(_parse_model, fields.objects("grid")))
    return RunEntry(fields.integer("seed"), fields.mapping("settings"), folds, grid)


def _parse_model(fields: Fields) -> GridEntry:
    postprocessing = fields.object("postprocessing", {})
    values = {name: postprocessing.number(name) for name in postprocessing}
    return GridEntry(
        settings=fields.mapping("settings"),
        validation_score=fields.number("validation_score", None),
        postprocessing=values or None,
        best_epoch=fields.integer("best_epoch", None),
        epochs=fields.integer("epochs", None),
        seconds=fields.number("seconds", 0.0),
        curve=_parse_curve(fields),
    )


def _parse_curve(fields: Fields) -> tuple[tuple[int, float | None], ...]:
    points = fields.values.get("curve") or []
    is_curve = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_optional_number, point))
        for point in points
    )
    if not is_curve:
        raise fields.error("curve", shorten(points), "a list of epochs and scores")
    return tuple((epoch, score) for epoch, score in points)


# --------------------------------------------------------------------------- predictions


def write_predictions(
    folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, SplitPredictions]
) -> None:
    """Write a predictions file whole or not at all.

    Args:
        fingerprint: fingerprint of the results, as in the scores file.
        splits: the predictions by tested split.
    """
    members: dict[str, NDArray[Any]] = {"fingerprint": np.array(fingerprint)}
    for split, predictions in splits.items():
        members |= {f"{split}/{name}": value for name, value in _members(predictions)}
    with files.building_file(folder / layout.predictions(protocol)) as scratch, open(scratch, "wb") as stream:
        np.savez_compressed(stream, **members)  # type: ignore[arg-type]


def _members(predictions: SplitPredictions) -> Iterator[tuple[str, NDArray[Any]]]:
    yield CLIPS, np.array(predictions.clips, dtype=np.str_)
    yield TARGETS, predictions.targets
    yield PREDICTIONS, _without_single_seed(predictions.predictions)
    if predictions.timestamps_ms is not None:
        yield TIMESTAMPS, predictions.timestamps_ms
    for name, values in predictions.postprocessing.items():
        yield name, _without_single_seed(values)


def _without_single_seed(values: NDArray[Any]) -> NDArray[Any]:
    # Files of one seed have no axis for seeds, as in the first version of this format.
    return np.asarray(values[0] if len(values) == 1 else values)


def read_predictions(
    folder: Path, scores: Scores, shapes: Mapping[str, tuple[int | None, ...]]
) -> dict[str, SplitPredictions]:
    """Return the predictions that belong to a scores file, by tested split.

    Args:
        shapes: shape of the targets of every tested split; None is an axis of any length.

    Raises:
        HearevalError: the file is missing, can't be read, belongs to other scores or has other shapes.
    """
    path = folder / layout.predictions(scores.protocol)
    try:
        with np.load(path, allow_pickle=False) as members:
            # Files of the first version have no fingerprint inside.
            found = str(members.get("fingerprint", scores.fingerprint))
            if found != scores.fingerprint:
                raise HearevalError(
                    f"{path}",
                    got=f"predictions with fingerprint {found}",
                    expected=f"{scores.fingerprint}, as in the scores",
                    remedy=EVALUATE_AGAIN,
                )
            return {
                fold.test: _read_split(path, members, fold, shapes[fold.test], len(scores.runs))
                for fold in scores.runs[0].folds
            }
    except FileNotFoundError:
        raise HearevalError(
            f"{path}", got="no such file", expected="the predictions of the scores", remedy=EVALUATE_AGAIN
        ) from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, AttributeError) as error:
        raise HearevalError(f"{path} can't be read", got=str(error), remedy=EVALUATE_AGAIN) from None
    except OSError as error:
        raise about_files(error) from None


def _read_split(
    path: Path,
    members: Mapping[str, NDArray[Any]],
    fold: FoldEntry,
    expected: tuple[int | None, ...],
    seeds: int,
) -> SplitPredictions:
    def read(name: str, kinds: str, *shapes: tuple[int | None, ...]) -> NDArray[Any]:
        # Every access unpacks the member again, so each is read once.
        member = f"{fold.test}/{name}"
        if member not in members:
            raise _wrong_member(path, member, "nothing", f"an array {shapes[0]}")
        array = members[member]
        if array.dtype.kind not in kinds or not any(_matches(array.shape, shape) for shape in shapes):
            raise _wrong_member(path, member, f"{array.dtype} {array.shape}", f"an array {shapes[0]}")
        return array

    targets = read(TARGETS, "iufb", expected)
    shape = targets.shape
    predictions = read(PREDICTIONS, "f", *_with_seeds(seeds, shape))
    timestamps_ms = None
    postprocessing: dict[str, NDArray[np.float64]] = {}
    if fold.model.postprocessing is not None:
        timestamps_ms = read(TIMESTAMPS, "f", shape[:2])
        for name in fold.model.postprocessing:
            postprocessing[name] = np.broadcast_to(read(name, "f", (seeds,), ()), (seeds,))
    clips = tuple(map(str, read(CLIPS, "U", shape[:1])))
    return SplitPredictions(clips, targets, predictions.reshape(seeds, *shape), timestamps_ms, postprocessing)


def _with_seeds(seeds: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (shape, (seeds, *shape)) if seeds == 1 else ((seeds, *shape),)


def _matches(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, length) for length, wanted in zip(shape, expected, strict=True)
    )


def _wrong_member(path: Path, member: str, got: str, expected: str) -> HearevalError:
    return HearevalError(f"{path}: {member}", got=got, expected=expected, remedy=EVALUATE_AGAIN)
