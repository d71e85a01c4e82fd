"""Make a card of a submission's results; `card_checks` checks one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import files, layout
from heareval.errors import HearevalError, unknown_name
from heareval.formats.card import (
    CARD,
    DECISIONS,
    DISTANCES,
    FLOAT16,
    FLOAT32,
    MAX_FILE_BYTES,
    CardResult,
    Cost,
    ModelFacts,
    name_folder,
    parse_facts,
    write_card,
)
from heareval.formats.completeness import ResultName, find_lacking, find_repeated, list_needed
from heareval.formats.digests import digest_file
from heareval.formats.embeddings_folder import open_embeddings
from heareval.formats.fields import Fields
from heareval.formats.results_folder import write_predictions, write_scores
from heareval.formats.scores import ScoreEntry, Scores
from heareval.predictions.events import THRESHOLD
from heareval.predictions.kinds import AnyTrainedKind, PairwiseKind
from heareval.predictions.metrics import find_metric
from heareval.predictions.references import fingerprint_references
from heareval.predictions.stored import (
    StoredResult,
    list_differences,
    match_stored,
    read_stored,
    recompute_scores,
)

# What a card repeats of the description of a submission; the rest may tell about the machine.
PUBLIC_FACTS = (
    "name",
    "module",
    "api_object",
    "device",
    "weights",
    "fingerprint",
    "sample_rate",
    "sources",
    "facts",
)
# Digits of a digest that name a revision.
REVISION_DIGITS = 12
_FOLDERS = re.compile(r"(?<![\w/:.~-])~?/(?:[^/\s\"',;:]+/)*")


@dataclass(frozen=True)
class CardRequest:
    """What to make a card of.

    Args:
        submission: the folder of a submission, with a folder of embeddings for each task.
        out: where the card goes, as NAME/REVISION.
        about: facts about the model, by the names of `ModelFacts`. What is left out is filled in if it can be
            measured.
        protocols: protocols whose results are taken; () means all. Those of a few clips are never taken.
        missing: the reason for each task of the benchmark that has no result.
        missing_others: the reason for all further ones; "" if there is none.
        pairwise: names of the tasks that are scored by distances.
    """

    submission: Path
    out: Path
    about: Fields = field(default_factory=lambda: Fields("--about", {}))
    protocols: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    missing_others: str = ""
    pairwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredFacts:
    """What the results themselves say about a model.

    Args:
        name: name of the submission.
        revision: a digest of the weights, or of the code of a model without weights; "" without any.
        sample_rate: in Hz; None if the results don't say.
        scene_embedding_size: number of dimensions; None if there are no such embeddings.
        timestamp_embedding_size: the same.
        parameters, weights_licence, citation: what a published model says of itself; None and "" if nothing.
    """

    name: str
    revision: str
    sample_rate: int | None
    scene_embedding_size: int | None
    timestamp_embedding_size: int | None
    parameters: int | None = None
    weights_licence: str = ""
    citation: str = ""


def make_card(request: CardRequest) -> Path:
    """Write a card, whole or not at all, and return its folder.

    A card of the same model and revision is replaced.

    Raises:
        HearevalError: there are no results, a result is damaged or too large, a task is missing without a
            reason, or facts contradict what was measured.
        FileExistsError: the folder has files, and is no card.
    """
    folders = _find_results(request)
    results = [read_stored(folder, protocol) for folder, protocol in folders]
    _check_no_task_is_repeated(request.submission, results)
    missing = _give_reasons(request, results)
    facts = find_facts(request, results)
    target = request.out / name_folder(facts.name) / name_folder(facts.revision)
    with files.building_folder(target, replace=True, mark=CARD) as scratch:
        write_card(scratch, facts, [_store_result(result, scratch) for result in results], missing)
    return target


def _find_results(request: CardRequest) -> list[tuple[Path, str]]:
    folder = request.submission
    found = [
        (task, protocol)
        for task in sorted(folder.glob("*"))
        if not task.name.startswith(".") and task.is_dir()
        for protocol in layout.scored_protocols(task)
        if layout.find_limit(protocol) is None
    ]
    if limited := [protocol for protocol in request.protocols if layout.find_limit(protocol)]:
        raise HearevalError(
            f"protocol {limited[0]}",
            got="scores of a few clips, for smoke tests",
            expected="those of all clips",
            remedy="Run `heareval evaluate` without --limit.",
        )
    if not found:
        got = "no scores of all clips" if folder.is_dir() else "no such folder"
        raise HearevalError(
            f"{folder}", got=got, expected="embeddings/SUBMISSION", remedy="Run `heareval evaluate` first."
        )
    known = {protocol for _, protocol in found}
    for protocol in request.protocols:
        if protocol not in known:
            raise unknown_name(f"protocol in {folder}", protocol, known)
    return [each for each in found if each[1] in (request.protocols or known)]


# --------------------------------------------------------------------------- completeness


def name_result(scores: Scores) -> ResultName:
    """Return what a result is about."""
    return ResultName(scores.task, scores.mode, scores.protocol)


def _check_no_task_is_repeated(submission: Path, results: Sequence[StoredResult]) -> None:
    repeated = next(find_repeated([name_result(result.scores) for result in results]), None)
    if repeated:
        raise HearevalError(
            f"results in {submission}",
            got=repeated,
            expected="each task once for each protocol",
            remedy="Move all but one of its folders away.",
        )


def _give_reasons(request: CardRequest, results: Sequence[StoredResult]) -> dict[str, str]:
    """Return the reason for each task that is missing."""
    names = [name_result(result.scores) for result in results]
    lacking = find_lacking(names, request.pairwise)
    for name in request.missing:
        if name not in list_needed(request.pairwise):
            raise unknown_name("task of the benchmark", name, list_needed(request.pairwise))
        if not any(name in each for each in lacking.values()):
            raise HearevalError(
                f"--missing {name}", got="results of it", expected="a task without", remedy="Leave it out."
            )
    reasons = {}
    for protocol, tasks in lacking.items():
        for task in tasks:
            reasons[task] = request.missing.get(task) or request.missing_others
        if without := [task for task in tasks if not reasons[task]]:
            raise HearevalError(
                f"results with {protocol} in {request.submission}",
                got=f"none of {', '.join(without)}",
                expected="all tasks of the benchmark, or a reason for each that is missing",
                remedy="Give reasons with --missing TASK=REASON or --missing-others REASON, or choose the "
                "protocols of the card with --protocol.",
            )
    return reasons


# --------------------------------------------------------------------------- facts


def find_facts(request: CardRequest, results: Sequence[StoredResult]) -> ModelFacts:
    """Return the facts about a model, from what the user says and from what was measured.

    Raises:
        HearevalError: a fact is unknown or wrong, or contradicts what was measured.
    """
    measured = vars(_measure_facts(request.submission, results))
    about = request.about
    for key in ("sample_rate", "scene_embedding_size", "timestamp_embedding_size"):
        told, found = about.integer(key, None), measured[key]
        if told is not None and found is not None and told != found:
            raise about.error(key, str(told), f"{found}, as measured", "Correct it, or leave it out.")
    if not measured["revision"] and "revision" not in about:
        raise about.error("revision", "nothing", "a revision, because the results name no weights")
    return parse_facts(about, {key: value for key, value in measured.items() if value is not None})


def _measure_facts(folder: Path, results: Sequence[StoredResult]) -> MeasuredFacts:
    submissions = [result.scores.submission for result in results]
    sizes = {is_event: _find_size(results, is_event=is_event) for is_event in (False, True)}
    weights = _find_only(folder, "weights", [each.get("weights", "") for each in submissions])
    sources = [str(each.get("sources", "")) for each in submissions]
    rate = _find_only(folder, "sample_rate", [each.get("sample_rate") for each in submissions])
    # Published models know it, and those that `heareval.wrap` made.
    told = [_read_told_facts(each) for each in submissions]
    said = next(filter(None, told), {})
    commit = _find_only(folder, "revision", [each.get("revision") for each in told])
    return MeasuredFacts(
        name=folder.name,
        revision=(weights or commit or (sources[0] if len(set(sources)) == 1 else ""))[:REVISION_DIGITS],
        sample_rate=rate or None,
        scene_embedding_size=sizes[False],
        timestamp_embedding_size=sizes[True],
        parameters=said.get("parameters"),
        weights_licence=said.get("licence", ""),
        citation=said.get("citation", ""),
    )


def _read_told_facts(submission: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model said of itself when it was evaluated; {} if nothing, or nothing readable."""
    try:
        facts = json.loads(submission.get("facts") or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _find_only(folder: Path, key: str, values: Sequence[Any]) -> Any:
    """Return the value that all results have."""
    different = sorted({str(value) for value in values if value is not None})
    if len(different) > 1:
        raise HearevalError(
            f"{key} of the results in {folder}",
            got=" and ".join(different),
            expected="one, because a card is about one revision",
            remedy="Evaluate the tasks again with one revision, or make a card with --protocol.",
        )
    return next((value for value in values if value is not None), None)


def _find_size(results: Sequence[StoredResult], *, is_event: bool) -> int | None:
    """Return the size of the embeddings; None if there are none, or if the arrays have been removed."""
    for result in results:
        task = result.task
        split = task.orders[0]
        if task.metadata.is_event == is_event and (task.folder / layout.split_array(split.name)).exists():
            array = open_embeddings(task.folder, split.name, clips=len(split.clips), is_event=is_event)
            return int(array.shape[-1])
    return None


# --------------------------------------------------------------------------- results


def _store_result(result: StoredResult, card: Path) -> CardResult:
    """Write the scores and predictions of a result into a card."""
    folder = card / result.folder.name
    folder.mkdir(exist_ok=True)
    scores = _make_public(_complete_entries(result))
    stored_as = _store_predictions(result, scores, folder)
    digest = replace(digest_file(folder / layout.predictions(scores.protocol)), mtime_ns=None)
    scores = replace(scores, predictions=digest)
    write_scores(folder, scores)
    manifest = result.task.manifest
    return CardResult(
        task_folder=result.folder.name,
        protocol=scores.protocol,
        references=fingerprint_references(result.task),
        lower_is_better=list_lower_is_better(scores),
        stored_as=stored_as,
        cost=Cost(
            device=(manifest.device if manifest else "") or scores.device,
            embedding_s=manifest.seconds if manifest else None,
            prediction_s=scores.seconds,
            memory_bytes=manifest.memory_bytes if manifest else None,
        ),
        scores=scores,
    )


def list_lower_is_better(scores: Scores) -> tuple[str, ...]:
    """Return the metrics of a result that are better when lower."""
    return tuple(name for name in scores.metrics if not find_metric(name).maximise)


def _complete_entries(result: StoredResult) -> Scores:
    """Return the scores with the numbers that earlier versions did not write; the others stay as they are."""
    entries = {}
    for name, computed in recompute_scores(result).items():
        written = vars(result.scores.scores[name])
        kept = {key: value for key, value in written.items() if value not in (None, {})}
        details = {**computed.details, **{key: value for key, value in written["details"].items() if value}}
        entries[name] = ScoreEntry(**{**vars(computed), **kept, "details": details})
    return replace(result.scores, scores=entries)


def _make_public(scores: Scores) -> Scores:
    """Return scores with the tested models only, and without what tells about the user or the machine."""
    submission = {key: scores.submission[key] for key in PUBLIC_FACTS if key in scores.submission}
    options = scores.submission.get("options", "{}")
    return replace(
        scores,
        submission={**hide_folders(submission), "options": _hide_in_options(options)},
        made_from=hide_folders(scores.made_from),
        unusual_embedding=hide_folders(scores.unusual_embedding),
        problems=tuple(hide_folders(list(scores.problems))),
        runs=tuple(replace(run, grid=()) for run in scores.runs),
    )


def _hide_in_options(options: str) -> str:
    try:
        return json.dumps(hide_folders(json.loads(options)))
    except ValueError:
        return str(hide_folders(options))


def hide_folders(value: Any) -> Any:
    """Return a JSON value in which absolute paths have become the names of their files.

    >>> hide_folders({"config": "/home/me/my model/big.yaml", "url": "https://example.org/a/b"})
    {'config': 'big.yaml', 'url': 'https://example.org/a/b'}
    """
    if isinstance(value, Mapping):
        return {key: hide_folders(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [hide_folders(each) for each in value]
    if not isinstance(value, str):
        return value
    text = re.sub("^file:/*/", "/", value)
    # Folders may have spaces if nothing but the path is there.
    return PurePath(text).name if text.startswith(("/", "~")) else _FOLDERS.sub("", text)


# --------------------------------------------------------------------------- predictions


def _store_predictions(result: StoredResult, scores: Scores, folder: Path) -> str:
    """Write the predictions in the shortest form that keeps all scores, and return the name of the form."""
    path = folder / layout.predictions(scores.protocol)
    splits: dict[str, list[Any]] = {
        fold.split: [run[place].predictions for run in result.runs]
        for place, fold in enumerate(result.runs[0])
    }
    kind = result.kind
    if isinstance(kind, PairwiseKind):
        kind.write_stored(folder, scores.protocol, scores.fingerprint, splits)
        if path.stat().st_size <= MAX_FILE_BYTES:
            return DISTANCES
    else:
        is_small = True
        for form in (FLOAT16, FLOAT32, DECISIONS) if kind.has_frames else (FLOAT16, FLOAT32):
            if form == FLOAT32 and not is_small:
                # It takes twice the room of float16.
                continue
            _write_form(kind, form, scores, splits, folder)
            is_small = path.stat().st_size <= MAX_FILE_BYTES
            if is_small and _keeps_scores(result, scores, folder):
                return form
    raise HearevalError(
        f"predictions of {result.folder.name} with {scores.protocol}",
        got=f"{path.stat().st_size:,} bytes, compressed",
        expected=f"{MAX_FILE_BYTES:,} at most",
        remedy="Evaluate the task with fewer seeds, or leave it out and give the reason with --missing.",
    )


def _write_form(
    kind: AnyTrainedKind, form: str, scores: Scores, splits: Mapping[str, Sequence[Any]], folder: Path
) -> None:
    stored = {}
    for split, of_seeds in splits.items():
        predictions = kind.to_stored(of_seeds)
        stored[split] = replace(predictions, predictions=_convert(predictions.predictions, form))
    write_predictions(folder, scores.protocol, scores.fingerprint, stored)


def _convert(probabilities: NDArray[np.floating[Any]], form: str) -> NDArray[Any]:
    if form == DECISIONS:
        # As float16, so that readers need to know nothing about this form.
        return (probabilities > THRESHOLD).astype(np.float16)
    return probabilities.astype(np.float16 if form == FLOAT16 else np.float32)


def _keeps_scores(result: StoredResult, scores: Scores, folder: Path) -> bool:
    """Return whether the predictions in a folder give all numbers of the scores."""
    try:
        stored = match_stored(folder, replace(scores, predictions=None), result.task)
    except HearevalError:
        return False
    return not list_differences(scores, recompute_scores(stored))
