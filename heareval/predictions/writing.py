"""Results of an evaluation, written into the embeddings folder."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import heareval
from heareval import layout
from heareval.errors import replaced_error
from heareval.formats.digests import digest_file
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.formats.results_folder import write_scores
from heareval.formats.scores import FoldEntry, GridEntry, RunEntry, Scores, defined_or_none, drop_intervals
from heareval.predictions.chance import describe_missing_labels, find_split_labels
from heareval.predictions.metrics import find_metric
from heareval.predictions.results import LabelPredictions, ModelResult, Run, TaskResult
from heareval.predictions.search import describe_short_trainings, describe_small_grid
from heareval.predictions.statistics import summarize_scores

_PACKAGES = ("numpy", "torch", "scikit-learn", "scipy", "sed_eval")


def write_results(folder: Path, result: TaskResult, fingerprint: str, embeddings_fingerprint: str) -> Path:
    """Write the predictions, then the scores, each whole or not at all, and return the path of the scores.

    Args:
        folder: the embeddings folder.
        fingerprint: fingerprint of the results.
        embeddings_fingerprint: fingerprint of the embeddings that the run was planned with.

    Raises:
        HearevalError: the folder held, or holds now, other embeddings.
    """
    manifest = find_embeddings_manifest(folder)
    for found in (result.task.embeddings_fingerprint, manifest.fingerprint if manifest else ""):
        if found != embeddings_fingerprint:
            raise replaced_error(f"embeddings folder {folder}", found, embeddings_fingerprint)
    protocol = result.protocol.recorded_name
    # Remove the old scores first, so that no run takes the new predictions for theirs.
    (folder / layout.scores(protocol)).unlink(missing_ok=True)
    # A report on the old scores would be taken for one on the new scores.
    shutil.rmtree(folder / layout.report(protocol), ignore_errors=True)
    splits = {
        folds[0].roles.test: [fold.predictions for fold in folds]
        for folds in zip(*(run.folds for run in result.runs), strict=True)
    }
    result.kind.write_stored(folder, protocol, fingerprint, splits)
    # Without a time, so that equal runs write equal files.
    digest = dataclasses.replace(digest_file(folder / layout.predictions(protocol)), mtime_ns=None)
    return write_scores(folder, dataclasses.replace(collect_scores(result, fingerprint), predictions=digest))


def collect_scores(result: TaskResult, fingerprint: str) -> Scores:
    """Return the content of the scores file."""
    task, manifest = result.task, result.task.manifest
    scores = Scores(
        protocol=result.protocol.recorded_name,
        task=task.name,
        version=task.metadata.version,
        mode=task.metadata.mode,
        fingerprint=fingerprint,
        embeddings_fingerprint=task.embeddings_fingerprint,
        submission=manifest.submission if manifest else {},
        is_the_published_corpus=task.is_published,
        made_from=manifest.made_from if manifest else {},
        unusual_embedding=manifest.unusual_embedding if manifest else {},
        scores=summarize_scores(result),
        problems=_collect_problems(result),
        decided_by=result.decided_by,
        score_mode=_find_mode(result.decided_by or task.metrics[0]),
        embedding_path=f"{task.folder.parent.name}/{task.folder.name}",
        runs=tuple(map(_describe_run, result.runs)),
        labels=len(task.labels),
        clips=dict(result.clips),
        device=result.device,
        deterministic=result.protocol.deterministic,
        seconds=round(result.seconds, 3),
        versions=list_versions(),
        resampled_units=result.kind.resampled_units,
        threads=result.threads,
    )
    return drop_intervals(scores)


def _find_mode(decided_by: str) -> str:
    is_higher_better = decided_by != "loss" and find_metric(decided_by).maximise
    return "max" if is_higher_better else "min"


def list_versions() -> dict[str, str]:
    """Return the versions of everything that computes the scores."""
    found = {name: metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found, "heareval": heareval.__version__}


def _collect_problems(result: TaskResult) -> tuple[str, ...]:
    """Return the problems of all scores, each once, then those of the labels and of the trainings."""
    runs = result.runs
    scores = [score for run in runs for fold in run.folds for score in fold.scores]
    found = dict.fromkeys(problem for score in scores for problem in score.problems)
    labels = find_split_labels(result.kind)
    return (
        *_describe_equal_predictions(runs),
        *found,
        *describe_missing_labels(labels, [fold.roles for fold in runs[0].folds]),
        *describe_short_trainings(runs),
        *describe_small_grid(result.protocol, runs),
    )


def _describe_equal_predictions(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a sentence if a predictor says the same of every clip: it then knows nothing about the clips."""
    splits = dict.fromkeys(
        fold.roles.test
        for run in runs
        for fold in run.folds
        if isinstance(fold.predictions, LabelPredictions)
        and len(said := fold.predictions.probabilities) > 1
        and (said == said[0]).all()
    )
    if not splits:
        return ()
    return (
        f"all clips of {', '.join(splits)} have the same predictions: the embeddings may be the same for "
        "every clip; check the model with `heareval validate`",
    )


def _describe_run(run: Run) -> RunEntry:
    folds = tuple(
        FoldEntry(fold.roles.test, fold.roles.valid, fold.roles.train, _describe_model(fold.model))
        for fold in run.folds
    )
    return RunEntry(run.seed, folds[0].model.settings, folds, tuple(map(_describe_model, run.grid)))


def _describe_model(model: ModelResult) -> GridEntry:
    postprocessing = model.validation.postprocessing
    return GridEntry(
        settings=dataclasses.asdict(model.settings),
        validation_score=defined_or_none(model.validation.score),
        postprocessing=dataclasses.asdict(postprocessing) if postprocessing else None,
        best_epoch=model.best_epoch,
        epochs=model.epochs,
        seconds=round(model.seconds, 3),
        curve=tuple((epoch, defined_or_none(score)) for epoch, score in model.curve),
    )
