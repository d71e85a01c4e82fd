"""Cards in the formats of other leaderboards."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from heareval.errors import HearevalError
from heareval.formats.card import Card, CardResult, Cost, ModelFacts
from heareval.formats.columns2021 import TASKS_2021
from heareval.formats.exchange import EXPORTS, HEADER_2021, export_cards, has_row_2021
from heareval.formats.scores import FoldEntry, GridEntry, RunEntry, ScoreEntry, Scores

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.timezone.utc)
HEADER = (
    "Model,URL,Submission Date,Beehive,Beijing Opera,CREMA-D,DCASE 2016,ESC-50,FSD50K,GTZAN Genre,"
    "GTZAN Music/Speech,Gunshot,Libricount,Maestro 5h,Mridangam Stroke,Mridangam Tonic,NSynth Pitch 50h,"
    "NSynth Pitch 5h,Speech commands 5h,Speech commands full,Vocal Imitation,VoxLingua107 top 10"
)


def _result(task: str, mode: str, score: float | None, protocol: str = "hear2021", **more: Any) -> CardResult:
    fold = FoldEntry("test", "valid", ("train",), GridEntry({}, 0.5, None, 1, 1, 1.0))
    entries = {
        "top1_acc": ScoreEntry(score, interval_95=(0.25, 0.75), folds={"test": score}),
        "d_prime": ScoreEntry(math.inf, folds={"test": math.inf}),
        "segment_1s_er": ScoreEntry(1.5, folds={"test": 1.5}, interval_95=(1.0, None)),
    }
    scores = Scores(
        protocol, task, "v1", mode, "beef", "feed", {}, True, {}, {}, entries, (), "top1_acc", "max", "m/t",
        (RunEntry(0, {}, (fold,), ()),), 3, {"test": 40}, "cpu", True, 1.0, {"heareval": "0.1.0"},
    )  # fmt: skip
    return CardResult(
        f"{task}-v1-{mode}", protocol, "cafe", ("segment_1s_er",), "float16", Cost(), replace(scores, **more)
    )


def _card(*results: CardResult, **facts: Any) -> Card:
    model = ModelFacts("my model", "v1", url="https://example.org/m", team="us", authors=("A", "B"))
    return Card(Path("cards/my_model/v1"), replace(model, **facts), results, {}, "f00d")


CARD = _card(_result("esc50", "full", 0.5), _result("esc50", "full", 0.4, "probe-linear"))


# --------------------------------------------------------------------------- Every Eval Ever

TEXT, NUMBER, FLAG = {"type": "string"}, {"type": "number"}, {"type": "boolean"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


# eval.schema.json 0.2.2, as far as cards use it.
SCHEMA = _object(
    {
        "schema_version": {"type": "string", "enum": ["0.2.2"]},
        "evaluation_id": TEXT,
        "retrieved_timestamp": TEXT,
        "source_metadata": _object(
            {
                "source_type": {"type": "string", "enum": ["documentation", "evaluation_run"]},
                "source_organization_name": TEXT,
                "evaluator_relationship": {
                    "type": "string",
                    "enum": ["first_party", "third_party", "collaborative", "other"],
                },
            }
        ),
        "model_info": _object(
            {"name": TEXT, "id": TEXT}, {"developer": TEXT, "additional_details": _object({})}
        ),
        "eval_library": _object({"name": TEXT, "version": TEXT}),
        "evaluation_results": {
            "type": "array",
            "items": _object(
                {
                    "evaluation_name": TEXT,
                    "source_data": _object({"dataset_name": TEXT, "source_type": TEXT}),
                    "metric_config": _object(
                        {
                            "lower_is_better": FLAG,
                            "metric_id": TEXT,
                            "score_type": {"type": "string", "enum": ["binary", "continuous", "levels"]},
                        },
                        {"min_score": NUMBER, "max_score": NUMBER},
                    ),
                    "score_details": _object(
                        {"score": NUMBER},
                        {
                            "uncertainty": _object(
                                {},
                                {
                                    "confidence_interval": _object(
                                        {"lower": NUMBER, "upper": NUMBER, "confidence_level": NUMBER}
                                    ),
                                    "num_samples": NUMBER,
                                },
                            )
                        },
                    ),
                }
            ),
        },
    }
)
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "boolean": bool,
}


def _faults(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Say what a JSON schema forbids, as far as the schema above goes; unknown keys are faults as well."""
    kind = schema["type"]
    if not isinstance(value, TYPES[kind]) or (kind == "number" and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {kind}"]
    faults = [f"{where}: {value!r}"] if value not in schema.get("enum", [value]) else []
    if kind == "array":
        for number, each in enumerate(value):
            faults += _faults(each, schema["items"], f"{where}[{number}]")
    if kind == "object" and schema["properties"]:
        faults += [f"{where}: no {key}" for key in schema["required"] if key not in value]
        for key, each in value.items():
            known = schema["properties"].get(key)
            # Every object of the schema may have further details.
            if known:
                faults += _faults(each, known, f"{where}.{key}")
            elif key != "additional_details":
                faults.append(f"{where}: unknown {key}")
    return faults


def test_every_eval_ever_follows_the_schema() -> None:
    exported = json.loads(export_cards([CARD], "every-eval-ever", now=NOW), parse_constant=pytest.fail)
    assert _faults(exported, SCHEMA) == []
    assert exported["retrieved_timestamp"] == "1772366400"
    results = {each["evaluation_name"]: each for each in exported["evaluation_results"]}
    # JSON has no infinity, so d' is left out.
    assert sorted(results) == [
        "esc50-v1-full/hear2021/segment_1s_er",
        "esc50-v1-full/hear2021/top1_acc",
        "esc50-v1-full/probe-linear/segment_1s_er",
        "esc50-v1-full/probe-linear/top1_acc",
    ]
    accuracy = results["esc50-v1-full/hear2021/top1_acc"]
    assert accuracy["metric_config"] == {
        "lower_is_better": False,
        "metric_id": "top1_acc",
        "score_type": "continuous",
        "min_score": 0.0,
        "max_score": 1.0,
    }
    assert accuracy["score_details"]["uncertainty"]["confidence_interval"]["lower"] == 0.25
    error = results["esc50-v1-full/hear2021/segment_1s_er"]
    assert error["metric_config"]["lower_is_better"] is True
    # An error rate has no upper bound, and its interval no end.
    assert "max_score" not in error["metric_config"]
    assert error["score_details"] == {"score": 1.5}


def test_the_schema_can_fail() -> None:
    exported = json.loads(export_cards([CARD], "every-eval-ever", now=NOW))
    exported["evaluation_results"][0]["metric_config"]["lower_is_better"] = "no"
    del exported["eval_library"]["version"]
    exported["source_metadata"]["evaluator_relationship"] = "friend"
    assert len(_faults(exported, SCHEMA)) == 3


# --------------------------------------------------------------------------- .eval_results


def test_eval_results_hold_the_first_metric() -> None:
    entries = yaml.safe_load(export_cards([CARD], "eval-results", protocol="hear2021", now=NOW))
    assert entries == [
        {
            "dataset": {"id": "esc50", "task_id": "esc50-v1-full/hear2021", "revision": "v1-full"},
            "value": 0.5,
            "date": "2026-03-01",
            "source": {"url": "https://example.org/m", "name": "heareval card my model v1", "user": "us"},
            "notes": "top1_acc (higher is better), protocol hear2021, 95 % interval 0.2500 to 0.7500",
        }
    ]


def test_hostile_texts_stay_texts() -> None:
    """YAML must not run or rebuild anything, nor may a spreadsheet."""
    name = "!!python/object/apply:os.system ['x']\u2028- a: *b"
    card = _card(_result("esc50", "full", 0.5), name=name, team="&a [*a]")
    (entry,) = yaml.safe_load(export_cards([card], "eval-results", now=NOW))
    assert entry["source"]["name"] == f"heareval card {name} v1"
    assert entry["source"]["user"] == "&a [*a]"
    formula = _card(_result("esc50", "full", 0.5), name="=HYPERLINK(1)", release_date="2024-01-01")
    _, row = csv.reader(io.StringIO(export_cards([formula], "hear2021-csv", now=NOW)))
    assert row[:3] == ["'=HYPERLINK(1)", "https://example.org/m", "2024-01-01"]


# --------------------------------------------------------------------------- 2021


def test_the_row_of_2021() -> None:
    other = _card(
        *(
            _result(task.name, task.modes[0], 0.125 * (1 + number % 2))
            for number, task in enumerate(TASKS_2021)
        ),
        name="all, of them",
    )
    text = export_cards([CARD, other], "hear2021-csv", now=NOW)
    assert text.splitlines()[0] == HEADER
    assert tuple(HEADER.split(",")) == HEADER_2021
    first, second = csv.DictReader(io.StringIO(text))
    assert first["ESC-50"] == "0.500000000"
    assert {value for title, value in first.items() if title not in ("Model", "URL", "ESC-50")} == {""}
    assert second["Model"] == "all, of them"
    # The mean of both tasks.
    assert second["Beehive"] == "0.187500000"
    scores = {task.title: f"{0.125 * (1 + number % 2):.9f}" for number, task in enumerate(TASKS_2021)}
    assert {title: second[title] for title in HEADER_2021[4:]} == {t: scores[t] for t in HEADER_2021[4:]}


def test_half_a_column_and_undefined_scores_are_blank() -> None:
    card = _card(
        _result("beehive_states_fold0", "5h", 0.5),
        _result("esc50", "full", None),
        _result("fsd50k", "full", 0.5),
    )
    (row,) = csv.DictReader(io.StringIO(export_cards([card], "hear2021-csv", now=NOW)))
    assert (row["Beehive"], row["ESC-50"], row["FSD50K"]) == ("", "", "0.500000000")


def test_results_of_other_protocols_and_modes_are_not_rows_of_2021() -> None:
    probe = _card(_result("esc50", "full", 0.5, "probe-linear"))
    with pytest.raises(
        HearevalError, match="got no results with hear2021, expected some; it has results with"
    ):
        export_cards([probe], "hear2021-csv", now=NOW)
    small = _card(_result("esc50", "small", 0.5))
    assert [has_row_2021(card) for card in (CARD, probe, small)] == [True, False, False]
    with pytest.raises(HearevalError, match="no result with hear2021 on a task of the leaderboard of 2021"):
        export_cards([small], "hear2021-csv", now=NOW)


def test_scores_on_another_corpus_are_not_in_the_row_of_2021() -> None:
    """They would look like scores on the published one."""
    stand_in = _result("esc50", "full", 0.5)
    scores = replace(stand_in.scores, is_the_published_corpus=False)
    stand_in = replace(stand_in, scores=scores)
    card = _card(stand_in, _result("fsd50k", "full", 0.5))
    (row,) = csv.DictReader(io.StringIO(export_cards([card], "hear2021-csv", now=NOW)))
    assert (row["ESC-50"], row["FSD50K"]) == ("", "0.500000000")
    assert has_row_2021(card)
    assert not has_row_2021(_card(stand_in))
    with pytest.raises(HearevalError, match="and other corpora have no column"):
        export_cards([_card(stand_in)], "hear2021-csv", now=NOW)


@pytest.mark.parametrize("form", EXPORTS)
def test_a_protocol_that_a_card_lacks(form: str) -> None:
    with pytest.raises(HearevalError, match="it has results with hear2021, probe-linear"):
        export_cards([CARD], form, protocol="pairwise-l1", now=NOW)
