"""Cards in the formats of other leaderboards.

* `.eval_results` of Hugging Face: a YAML list with an entry for each task.
* Every Eval Ever, eval.schema.json 0.2.2: a JSON object with every metric of every task.
* The CSV file of the leaderboard of 2021: a row for each model.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.card import Card, CardResult
from heareval.formats.columns2021 import TASKS_2021, find_task_2021
from heareval.formats.scores import ScoreEntry

EVERY_EVAL_EVER_VERSION = "0.2.2"
EVAL_RESULTS, EVERY_EVAL_EVER, HEAR2021_CSV = "eval-results", "every-eval-ever", "hear2021-csv"
EXPORTS = (EVAL_RESULTS, EVERY_EVAL_EVER, HEAR2021_CSV)
HEADER_2021 = (
    *("Model", "URL", "Submission Date"),
    *dict.fromkeys(task.title for task in TASKS_2021),
)
# The lowest and the highest score of metrics that are no shares; None is no bound.
RANGES: Mapping[str, tuple[float | None, float | None]] = {
    "d_prime": (None, None),
    "segment_1s_er": (0.0, None),
    "spearman": (-1.0, 1.0),
    "kendall": (-1.0, 1.0),
    "triplet_agreement": (-1.0, 1.0),
}
SHARE = (0.0, 1.0)
# Spreadsheets take a cell for a formula if it begins with one of these. Some read the wide forms as well.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def export_cards(cards: Sequence[Card], form: str, *, protocol: str = "", now: datetime.datetime) -> str:
    """Return cards in the format of another leaderboard.

    Args:
        form: one of `EXPORTS`.
        protocol: the protocol whose results are exported; "" means all, or that of 2021 in the CSV file.
        now: time of the export, in UTC. The formats ask for one, and cards have none.

    Raises:
        HearevalError: a card has no results with the protocol.
    """
    if form == HEAR2021_CSV:
        return format_csv_2021(cards, protocol or layout.PUBLISHED_PROTOCOL)
    if form == EVERY_EVAL_EVER:
        objects = [describe_every_eval_ever(card, _choose(card, protocol), now) for card in cards]
        return files.dump_json(objects[0] if len(objects) == 1 else objects)
    entries = [each for card in cards for each in list_eval_results(card, _choose(card, protocol), now)]
    # Most commands import this module and export nothing.
    import yaml

    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=False)
    return text


def _choose(card: Card, protocol: str) -> list[CardResult]:
    chosen = [result for result in card.results if protocol in ("", result.protocol)]
    if not chosen:
        known = sorted({result.protocol for result in card.results})
        raise HearevalError(
            f"card {card.folder}",
            got=f"no results with {protocol}",
            expected=f"some; it has results with {', '.join(known)}",
            remedy="Name one with --protocol.",
        )
    return chosen


# --------------------------------------------------------------------------- .eval_results


def list_eval_results(
    card: Card, results: Sequence[CardResult], now: datetime.datetime
) -> list[dict[str, Any]]:
    """Return the entries of a `.eval_results` file, with the first metric of each result.

    Scores that are undefined or infinite are left out.
    """
    model = card.model
    source = {"url": model.url, "name": f"heareval card {model.name} {model.revision}", "user": model.team}
    entries = []
    for result in results:
        scores = result.scores
        metric = scores.metrics[0]
        score = scores.scores[metric]
        if math.isfinite(score.value):
            entries.append(
                {
                    "dataset": {
                        "id": scores.task,
                        "task_id": f"{result.task_folder}/{result.protocol}",
                        "revision": f"{scores.version}-{scores.mode}",
                    },
                    "value": score.value,
                    "date": now.date().isoformat(),
                    "source": {key: text for key, text in source.items() if text},
                    "notes": _describe_score(result, metric, score),
                }
            )
    return entries


def _describe_score(result: CardResult, metric: str, score: ScoreEntry) -> str:
    better = "lower is better" if metric in result.lower_is_better else "higher is better"
    note = f"{metric} ({better}), protocol {result.protocol}"
    if score.interval_95 is not None and None not in score.interval_95:
        low, high = score.interval_95
        note += f", 95 % interval {low:.4f} to {high:.4f}"
    return note


# --------------------------------------------------------------------------- Every Eval Ever


def describe_every_eval_ever(
    card: Card, results: Sequence[CardResult], now: datetime.datetime
) -> dict[str, Any]:
    """Return the JSON object of Every Eval Ever, with every metric of every result.

    Scores that are undefined or infinite are left out, as JSON has neither.
    """
    model = card.model
    versions = sorted({str(result.scores.versions.get("heareval", "unknown")) for result in results})
    facts = {
        "pretraining_data": ", ".join(model.pretraining_data),
        "trained_on_evaluation_data": model.trained_on_evaluation_data,
        "code_licence": model.code_licence,
        "weights_licence": model.weights_licence,
        "parameters": "" if model.parameters is None else str(model.parameters),
        "reference": model.reference,
        "card_fingerprint": card.fingerprint,
    }
    return {
        "schema_version": EVERY_EVAL_EVER_VERSION,
        "evaluation_id": f"heareval/{model.name}/{model.revision}/{card.fingerprint}",
        "retrieved_timestamp": str(int(now.timestamp())),
        "source_metadata": {
            "source_type": "evaluation_run",
            "source_organization_name": model.team or "unknown",
            # A card names who submits it, but not how he relates to the model.
            "evaluator_relationship": "other",
        },
        "model_info": {
            "name": model.name,
            "id": f"{model.name}@{model.revision}",
            "developer": ", ".join(model.authors) or "unknown",
            "additional_details": {key: text for key, text in facts.items() if text},
        },
        "eval_library": {"name": "heareval", "version": ", ".join(versions)},
        "evaluation_results": [
            _describe_metric(result, metric, score)
            for result in results
            for metric, score in result.scores.scores.items()
            if math.isfinite(score.value)
        ],
    }


def _describe_metric(result: CardResult, metric: str, score: ScoreEntry) -> dict[str, Any]:
    scores = result.scores
    low, high = RANGES.get(metric, SHARE)
    bounds = {"min_score": low, "max_score": high}
    details: dict[str, Any] = {"score": score.value}
    if score.interval_95 is not None and None not in score.interval_95:
        lower, upper = score.interval_95
        details["uncertainty"] = {
            "confidence_interval": {"lower": lower, "upper": upper, "confidence_level": 0.95},
            "num_samples": scores.units.count,
        }
    return {
        "evaluation_name": f"{result.task_folder}/{result.protocol}/{metric}",
        "source_data": {
            "dataset_name": scores.task,
            "source_type": "other",
            "additional_details": {"task_folder": result.task_folder, "references": result.references},
        },
        "metric_config": {
            "lower_is_better": metric in result.lower_is_better,
            "metric_id": metric,
            "score_type": "continuous",
            **{key: bound for key, bound in bounds.items() if bound is not None},
        },
        "score_details": details,
    }


# --------------------------------------------------------------------------- the CSV file of 2021


def format_csv_2021(cards: Sequence[Card], protocol: str) -> str:
    """Return the header of the leaderboard of 2021 and a row for each card, with scores from 0 to 1.

    A task without a score has an empty cell, and so has one of another corpus than the published one.
    `Beehive` is the mean of both tasks.

    Raises:
        HearevalError: a card has no result with the protocol on a task of that leaderboard.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER_2021)
    for card in cards:
        model = card.model
        texts = [escape_formula(text) for text in (model.name, model.url, model.release_date)]
        values = _list_values_2021(_choose(card, protocol))
        if not any(values.values()):
            raise HearevalError(
                f"card {card.folder}",
                got=f"no result with {protocol} on a task of the leaderboard of 2021",
                expected="some",
                remedy="Other modes, such as small, and other corpora have no column there.",
            )
        cells = [_format_mean(values[title]) for title in HEADER_2021[3:]]
        writer.writerow([*texts, *cells])
    return stream.getvalue()


def has_row_2021(card: Card) -> bool:
    """Return whether a card has a score for the leaderboard of 2021."""
    results = [result for result in card.results if result.protocol == layout.PUBLISHED_PROTOCOL]
    return any(_list_values_2021(results).values())


def _list_values_2021(results: Sequence[CardResult]) -> dict[str, list[float]]:
    """Return the scores of each column; a column of two tasks has none if one of them is missing."""
    found = {}
    for result in results:
        scores = result.scores
        task = find_task_2021(scores.task, scores.mode)
        if task and scores.is_the_published_corpus is not False:
            found[task] = scores.scores[scores.metrics[0]].value
    columns: dict[str, list[float]] = {title: [] for title in HEADER_2021[3:]}
    for title in columns:
        tasks = [task for task in TASKS_2021 if task.title == title]
        if all(math.isfinite(found.get(task, math.nan)) for task in tasks):
            columns[title] = [found[task] for task in tasks]
    return columns


def _format_mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.9f}" if values else ""


def escape_formula(text: str) -> str:
    """Return a text that spreadsheets take for text, with an apostrophe before what begins like a formula.

    >>> escape_formula("=1+1"), escape_formula("CREPE")
    ("'=1+1", 'CREPE')
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
