"""Cards made of results, checked against the checker's references, and refused when something is wrong."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import json
import re
import shutil
import socket
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heareval import layout
from heareval.errors import HearevalError
from heareval.formats.card import CARD, parse_facts, read_card
from heareval.formats.completeness import list_needed
from heareval.formats.fields import Fields
from heareval.predictions import card_checks, cards
from heareval.predictions.card_checks import CheckedCard, check_card
from heareval.predictions.card_ledger import digest_references
from heareval.predictions.cards import CardRequest, hide_folders, make_card
from heareval.predictions.claimed_protocol import find_contradiction
from heareval.predictions.cpu_features import has_fast_bf16
from heareval.predictions.data import read_references
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.protocol import MAX_SEED, Protocol
from heareval.predictions.references import fingerprint_references
from heareval.predictions.stored import list_differences, read_stored, recompute_scores
from heareval.predictions.writing import write_results
from tests.formats.any_json import damaged
from tests.predictions.conftest import write_event_task, write_scene_task
from tests.predictions.test_pairwise import write_pairwise_task

SCENE, EVENT, PAIRWISE = "esc50-v1-full", "tones-v1-small", "retrieval-v1-full"
LINEAR = "probe-linear"
SUBMISSION = {
    "name": "mine",
    "weights": "ab" * 32,
    "sample_rate": 16000,
    "model": "/home/somebody/secret folder/weights.pt",
    "options": '{"config": "/home/somebody/secret folder/big.yaml", "layer": 3}',
    "described": "/home/somebody/_workdir/submissions/1.json",
    "python": "/home/somebody/_workdir/environments/1/bin/python",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a submission on three tasks, its card, and the task folders."""
    root = tmp_path_factory.mktemp("made")
    write_submission(root)
    make_card(_request(root))
    return root


def write_submission(root: Path) -> None:
    """Write the results of a submission on three tasks, and the task folders."""
    submission = root / "embeddings" / "mine"
    submission.mkdir(parents=True)
    write_scene_task(submission, SCENE, task_name="esc50", mode="full", clips=30)
    write_event_task(submission, EVENT, task_name="tones", clips=18)
    write_pairwise_task(submission, "retrieval").rename(submission / PAIRWISE)
    for task in (SCENE, EVENT, PAIRWISE):
        _evaluate(submission / task)
    for folder in submission.iterdir():
        references = root / "tasks" / folder.name
        references.mkdir(parents=True)
        for path in [*folder.glob("*.json"), *folder.glob("*.csv")]:
            if path.name != "MANIFEST.json" and "scores" not in path.name:
                shutil.copyfile(path, references / path.name)


def _evaluate(folder: Path, protocol: Protocol | None = None) -> None:
    manifest = {
        "fingerprint": "feed",
        "arrays": [],
        "submission": SUBMISSION,
        "seconds": 2.5,
        "memory_bytes": 1 << 30,
        "device": "cpu",
    }
    if protocol and protocol.limit:
        manifest["limit"] = protocol.limit
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    is_pairwise = json.loads((folder / layout.TASK_METADATA).read_text())["prediction_type"] == "pairwise"
    protocol = (protocol or Protocol(probe="linear", device="cpu")).for_task(is_pairwise=is_pairwise)
    write_results(folder, evaluate_folder(folder, protocol), "beef", "feed")


def _request(root: Path, **changes: Any) -> CardRequest:
    request = CardRequest(
        root / "embeddings" / "mine",
        root / "cards",
        missing_others="a test",
        pairwise=("retrieval", "timbre"),
    )
    return dataclasses.replace(request, **changes)


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


def _card(root: Path) -> Path:
    (folder,) = (path.parent for path in root.glob(f"cards/*/*/{CARD}"))
    return folder


def _check(root: Path) -> CheckedCard:
    return check_card(_card(root), root / "tasks", ("retrieval", "timbre"))


def _only_problem(root: Path) -> str:
    (problem,) = _check(root).problems
    assert "\n" not in problem
    return problem


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def list_files_again(card: Path) -> None:
    """Record the files of a card as they are now, as somebody would who cheats with care."""
    for scores in card.glob("*/*scores.json"):
        npz = scores.with_name(scores.name.replace("predicted-scores.json", "predictions.npz"))
        edit_json(scores, lambda values, npz=npz: values.update(predictions=_digest(npz)))
    files = {str(path.relative_to(card)): _digest(path) for path in sorted(card.glob("*/*"))}
    edit_json(card / CARD, lambda values: values.update(files=files))


def _digest(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}


def _change_array(path: Path, member: str, change: Callable[[Any], Any]) -> None:
    with np.load(path) as arrays:
        held = dict(arrays)
    held[member] = change(held[member])
    np.savez_compressed(path, **held)


# --------------------------------------------------------------------------- making


def test_a_card_holds_what_was_scored_and_predicted(made: Path) -> None:
    card = read_card(_card(made))
    assert [each.task_folder for each in card.results] == sorted([SCENE, EVENT, PAIRWISE])
    assert [each.protocol for each in card.results] == [LINEAR, "pairwise-l1", LINEAR]
    for result in card.results:
        written = read_stored(made / "embeddings" / "mine" / result.task_folder, result.protocol).scores
        for metric, score in written.scores.items():
            assert result.scores.scores[metric] == score
        assert all(run.grid == () for run in result.scores.runs)
        assert (result.cost.embedding_s, result.cost.memory_bytes) == (2.5, 1 << 30)
        assert result.cost.device == "cpu"
        assert result.cost.prediction_s is not None
    assert card.model.sample_rate == 16000
    assert (card.model.scene_embedding_size, card.model.timestamp_embedding_size) == (8, 8)
    assert card.model.revision == "ab" * 6
    assert card.results[2].lower_is_better == ("segment_1s_er",)
    assert card.missing == {name: "a test" for name in (*list_needed(()), "timbre") if name != "esc50"}


def test_a_card_is_right(made: Path) -> None:
    checked = _check(made)
    assert (checked.problems, checked.lacking, checked.is_recomputed) == ((), (), True)
    by_task = {result.task_folder: result.numbers for result in checked.results}
    told = {number.what for numbers in by_task.values() for number in numbers}
    assert {"score", "lower end of the interval", "chance", "score of test", "precision of test"} <= told
    ends = [each for each in by_task[SCENE] if "end of" in each.what]
    assert len(ends) == 4
    assert all(each.given is not None and each.is_equal for each in ends)


def test_equal_results_make_equal_bytes(made: Path, tmp_path: Path) -> None:
    """They were copied elsewhere, and their files have other times."""
    shutil.copytree(made / "embeddings", tmp_path / "copy" / "embeddings")
    again = make_card(_request(tmp_path / "copy"))
    old = _card(made)
    names = sorted(str(path.relative_to(old)) for path in old.rglob("*") if path.is_file())
    assert len(names) == 7
    assert names == sorted(str(path.relative_to(again)) for path in again.rglob("*") if path.is_file())
    for name in names:
        assert (old / name).read_bytes() == (again / name).read_bytes(), name


def test_a_card_is_replaced_but_no_other_folder(root: Path) -> None:
    before = (_card(root) / CARD).read_bytes()
    assert make_card(_request(root)) == _card(root)
    assert (_card(root) / CARD).read_bytes() == before
    (_card(root) / CARD).rename(_card(root) / "notes.json")
    with pytest.raises(FileExistsError, match=r"no card\.json"):
        make_card(_request(root))
    assert not list((root / "cards").rglob("*.partial"))


def test_nothing_private_is_in_a_card(made: Path) -> None:
    text = " ".join(path.read_text() for path in _card(made).rglob("*.json"))
    for private in ("somebody", "secret folder", str(made), socket.gethostname(), f'"{getpass.getuser()}"'):
        assert private not in text
    assert "big.yaml" in text


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/me/a b/w.pt", "w.pt"),
        ("~/w.pt", "w.pt"),
        ("file:/home/me/w.pt", "w.pt"),
        ("--config=/home/me/w.yaml", "--config=w.yaml"),
        ("https://example.org/a/w.pt", "https://example.org/a/w.pt"),
        ("read/write", "read/write"),
    ],
)
def test_folders_are_hidden(text: str, public: str) -> None:
    assert hide_folders([text, {"k": text}, 3]) == [public, {"k": public}, 3]


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"licence": "MIT"}, "unknown fact in facts.toml: got 'licence', expected one of .*code_licence"),
        ({"sample_rate": 44100}, "facts.toml: sample_rate: got 44100, expected 16000, as measured"),
        ({"scene_embedding_size": 9}, "scene_embedding_size: got 9, expected 8, as measured"),
        ({"name": "../.."}, "name: got .*, expected a name with letters or digits"),
        ({"name": "x" * 101}, "name: got 101 letters, expected 100 at most"),
        ({"name": "evil\u202egnp"}, r"name: got the character '\\u202e', expected text without control"),
        ({"name": "two\nlines"}, r"name: got the character '\\n'"),
        ({"url": "javascript:alert(1)"}, "url: got 'javascript.*expected an address that begins with https"),
        ({"parameters": 10**40}, "parameters: got 1000"),
        ({"parameters": "many"}, "parameters: got 'many', expected a whole number"),
        ({"release_date": "2024-13-01"}, "release_date: got '2024-13-01', expected YYYY-MM-DD"),
        ({"trained_on_evaluation_data": "perhaps"}, "got 'perhaps', expected one of yes, no, unknown"),
        ({"authors": ["x"] * 101}, "authors: got 101 texts, expected 100 at most"),
    ],
)
def test_wrong_facts(made: Path, tmp_path: Path, about: Mapping[str, Any], told: str) -> None:
    with pytest.raises(HearevalError, match=told):
        make_card(_request(made, about=Fields("facts.toml", about), out=tmp_path / "cards"))
    assert not (tmp_path / "cards").exists()


def test_missing_tasks_need_a_reason(made: Path, tmp_path: Path) -> None:
    nothing = _request(made, missing_others="", out=tmp_path / "cards")
    with pytest.raises(HearevalError, match="got none of timbre, expected all tasks of the benchmark, or a"):
        make_card(dataclasses.replace(nothing, protocols=("pairwise-l1",)))
    with pytest.raises(
        HearevalError, match=r"got none of beehive_states_fold0, .*Give reasons with --missing"
    ):
        make_card(dataclasses.replace(nothing, protocols=(LINEAR,)))
    with pytest.raises(HearevalError, match=r"unknown task of the benchmark: got 'fsd50', .*mean fsd50k"):
        make_card(dataclasses.replace(nothing, missing={"fsd50": "too large"}))
    with pytest.raises(HearevalError, match="--missing esc50: got results of it"):
        make_card(dataclasses.replace(nothing, missing={"esc50": "no time"}))
    assert not (tmp_path / "cards").exists()
    reasons = {name: "no time" for name in (*list_needed(()), "timbre") if name != "esc50"}
    made_card = make_card(dataclasses.replace(nothing, missing=reasons))
    assert read_card(made_card).missing == reasons


def test_two_revisions_are_no_card(root: Path) -> None:
    path = root / "embeddings" / "mine" / EVENT / layout.scores(LINEAR)
    edit_json(path, lambda values: values["submission"].update(weights="cd" * 32))
    with pytest.raises(HearevalError, match=r"weights of the results in .*got ab.* and cd.*, expected one"):
        make_card(_request(root))


def test_a_published_model_says_what_it_is(root: Path) -> None:
    facts = {
        "parameters": 94371712,
        "licence": "apache-2.0",
        "citation": "@misc{w}",
        "revision": "0123abcd" * 5,
    }
    for path in (root / "embeddings" / "mine").glob("*/*scores.json"):
        edit_json(path, lambda values: values["submission"].update(weights="", facts=json.dumps(facts)))
    shutil.rmtree(root / "cards")
    made_card = make_card(_request(root))
    model = read_card(made_card).model
    assert (model.parameters, model.weights_licence, model.citation) == (94371712, "apache-2.0", "@misc{w}")
    assert model.revision == "0123abcd0123"
    assert _check(root).problems == ()
    # What the user says counts more.
    about = Fields("card.toml", {"weights_licence": "MIT"}, "")
    assert read_card(make_card(_request(root, about=about))).model.weights_licence == "MIT"


def test_float16_is_kept_only_where_it_keeps_all_scores(root: Path) -> None:
    """Two probabilities that differ by less than float16 can tell decide a ranking, and a threshold."""
    stored = read_stored(root / "embeddings" / "mine" / SCENE, LINEAR)
    assert {each.task_folder: each.stored_as for each in read_card(_card(root)).results}[
        PAIRWISE
    ] == "distances"
    for form, dtype in (("float16", np.float16), ("float32", np.float32)):
        splits = {"test": [stored.runs[0][0].predictions]}
        cards._write_form(stored.trained_kind, form, stored.scores, splits, _card(root) / SCENE)
        with np.load(_card(root) / SCENE / layout.predictions(LINEAR)) as arrays:
            assert arrays["test/predictions"].dtype == dtype
    fold = stored.runs[0][0].predictions
    close = np.full_like(fold.probabilities, 0.5)
    # All are equal as float16, and right as float32.
    close += 1e-5 * fold.targets
    kept = {}
    for form in ("float16", "float32"):
        changed = {"test": [dataclasses.replace(fold, probabilities=close)]}
        cards._write_form(stored.trained_kind, form, stored.scores, changed, _card(root) / SCENE)
        scores = dataclasses.replace(stored.scores, predictions=None)
        perfect = {
            name: dataclasses.replace(score, score=1.0, folds={"test": 1.0}, interval_95=None)
            for name, score in scores.scores.items()
        }
        kept[form] = cards._keeps_scores(
            stored, dataclasses.replace(scores, scores=perfect), _card(root) / SCENE
        )
    assert kept == {"float16": False, "float32": True}


def test_events_are_stored_as_decisions_where_probabilities_are_too_large(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores of events depend only on which frames are above the threshold."""
    stored = read_stored(root / "embeddings" / "mine" / EVENT, LINEAR)
    shutil.rmtree(root / "embeddings" / "mine" / SCENE)
    monkeypatch.setattr(cards, "MAX_FILE_BYTES", 3500)
    made = make_card(_request(root))
    result = next(each for each in read_card(made).results if each.task_folder == EVENT)
    assert result.stored_as == "decisions"
    with np.load(made / EVENT / layout.predictions(LINEAR)) as arrays:
        assert set(np.unique(arrays["test/predictions"])) == {0.0, 1.0}
    assert list_differences(result.scores, recompute_scores(stored)) == []
    assert _check(root).is_recomputed
    monkeypatch.setattr(cards, "MAX_FILE_BYTES", 100)
    before = (made / CARD).read_bytes()
    with pytest.raises(
        HearevalError, match=r"bytes, compressed, expected 100 at most\. Evaluate the task with"
    ):
        make_card(_request(root))
    assert (made / CARD).read_bytes() == before


def test_several_seeds(root: Path) -> None:
    folder = root / "embeddings" / "mine" / SCENE
    _evaluate(folder, Protocol(grid_points=1, seeds=2, device="cpu"))
    protocol = "hear2021-1points-2seeds"
    make_card(_request(root, protocols=(protocol,)))
    checked = _check(root)
    assert checked.is_recomputed, checked.problems
    assert {"score of seed 0", "score of seed 1", "seed_std"} <= {
        number.what for number in checked.results[0].numbers
    }


def test_results_of_an_earlier_version_get_the_numbers_that_it_did_not_write(root: Path) -> None:
    path = root / "embeddings" / "mine" / SCENE / layout.scores(LINEAR)
    edit_json(path, lambda values: [score.pop("chance") for score in values["scores"].values()])
    make_card(_request(root))
    result = next(each for each in read_card(_card(root)).results if each.task_folder == SCENE)
    assert result.scores.scores["top1_acc"].chance == pytest.approx(1 / 3)
    assert _check(root).is_recomputed


# --------------------------------------------------------------------------- refusals


def test_one_changed_probability(root: Path) -> None:
    npz = _card(root) / SCENE / layout.predictions(LINEAR)

    def swap(said: Any) -> Any:
        said = said.copy()
        # The first clip now has another label.
        said[0] = np.roll(said[0], 1)
        return said

    _change_array(npz, "test/predictions", swap)
    assert "another program has changed" in _only_problem(root) or "other size" in _only_problem(root)
    list_files_again(_card(root))
    assert "as computed from the stored predictions" in _only_problem(root)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("score", 0.99, "score: got "),
        ("std", 0.1, "std: got 0.1, expected null, the standard deviation of its folds"),
        ("interval_95", [0.2, 1.0], "lower end of the interval of top1_acc in .*: got 0.200000, expected 0."),
        ("interval_95", None, "lower end of the interval of top1_acc in .*: got none, expected 0."),
        ("chance", 0.01, "chance level of top1_acc in .*: got 0.01, expected 0.333333"),
        ("chance", None, "chance of top1_acc in .*: got none, expected 0.333333"),
        ("resamples", 5000, "resamples of top1_acc in .*: got 5000"),
    ],
)
def test_one_changed_number(root: Path, key: str, value: Any, told: str) -> None:
    def change(values: Any) -> None:
        values["scores"]["top1_acc"][key] = value
        if key == "score":
            # With all the numbers that follow from it.
            values["scores"]["top1_acc"]["folds"]["test"] = value
            values["scores"]["top1_acc"]["interval_95"] = [0.9, 1.0]
            for name in ("test_score", "test_top1_acc"):
                values["test"][name] = value

    edit_json(_card(root) / SCENE / layout.scores(LINEAR), change)
    list_files_again(_card(root))
    if key == "score":
        told = "top1_acc of test in .*: got 0.99, expected 0"
    assert re.search(told, _only_problem(root)), _only_problem(root)


def test_another_split(root: Path) -> None:
    """The card is not asked what the labels are."""

    def relabel(values: Any) -> None:
        first, second = list(values)[:2]
        values[first], values[second] = values[second], values[first]

    edit_json(root / "tasks" / SCENE / "test.json", relabel)
    problem = _only_problem(root)
    assert "got a card about other clips or labels" in problem
    # A site shows it to everybody.
    assert str(root / "tasks") not in problem
    references = fingerprint_references(read_references(root / "tasks" / SCENE))

    def claim(values: Any) -> None:
        next(each for each in values["results"] if each["task_folder"] == SCENE)["references"] = references

    edit_json(_card(root) / CARD, claim)
    assert "targets of test in " in _only_problem(root)
    assert "got other labels" in _only_problem(root)


def test_a_task_twice(root: Path) -> None:
    """Two modes of one task must not both count."""
    small = "esc50-v1-small"
    submission = root / "embeddings" / "mine"
    write_scene_task(submission, small, task_name="esc50", clips=20)
    _evaluate(submission / small)
    with pytest.raises(HearevalError, match="esc50 twice with probe-linear: in the modes full and small"):
        make_card(_request(root))
    (submission / SCENE).rename(root / SCENE)
    (submission / EVENT).rename(root / EVENT)
    (submission / PAIRWISE).rename(root / PAIRWISE)
    other = make_card(_request(root, out=root / "others"))
    card = _card(root)
    shutil.copytree(other / small, card / small)
    (added,) = json.loads((other / CARD).read_text())["results"]

    def add(values: Any) -> None:
        values["results"] = sorted([*values["results"], added], key=lambda each: each["task_folder"])

    edit_json(card / CARD, add)
    list_files_again(card)
    shutil.copytree(submission / small, root / "tasks" / small)
    (root / "tasks" / small / "MANIFEST.json").unlink()
    assert "got esc50 twice with probe-linear" in _only_problem(root)
    edit_json(card / CARD, lambda values: values["results"].append(values["results"][-1]))
    assert "twice, expected each once" in _only_problem(root)


def _npz(values: Any) -> Any:
    return next(digest for name, digest in values["files"].items() if name.endswith(".npz"))


def _drop_result(values: Any) -> None:
    values["results"] = [each for each in values["results"] if each["task_folder"] != EVENT]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v["missing"].pop("fsd50k"), "got no fsd50k with probe-linear, expected all tasks of the"),
        (lambda v: v["missing"].pop("timbre"), "got no timbre with pairwise-l1, expected all tasks of the"),
        (lambda v: v["missing"].update(esc50="x"), "missing: got esc50, which has results"),
        (lambda v: v["missing"].update(other="x"), "missing: got other, expected tasks of the benchmark"),
        (lambda v: v["missing"].update(fsd50k=" "), "fsd50k: got '', expected a reason"),
        (lambda v: v.update(schema_version=2), "schema_version: got 2, expected 1. Update heareval"),
        (lambda v: v.update(schema_version=0), "schema_version: got 0, expected 1. Make the card again"),
        (lambda v: v["model"].update(name="other"), r"got folders named mine/abab.*, expected other/abab"),
        (lambda v: v["model"].update(revision="2"), r"got folders named mine/abab.*, expected mine/2"),
        (lambda v: v["model"].update(sample_rate=48000), "sample_rate: got 48000, expected 16000, as the"),
        (lambda v: v["model"].update(rank=1), "unknown fact in .*card.json: model: got 'rank'"),
        (_drop_result, "files: got 'tones-v1-small.*expected only the files of the results"),
        (lambda v: v["results"].clear(), "results: got none, expected at least one"),
        (lambda v: v["results"].reverse(), "results: got another order"),
        (lambda v: v.update(results=v["results"] * 200), "results: got 600 results, expected 500 at most"),
        (lambda v: v["results"][0].update(task_folder="../x"), "task_folder: got '../x', expected a name of"),
        (
            lambda v: v["results"][0].update(task_folder="tâche-1-full"),
            "task_folder: got 't.*, expected a name",
        ),
        (
            lambda v: v["results"][0].update(protocol="hear2021"),
            "task_folder: got 'esc50-v1-full', expected a",
        ),
        (lambda v: v["results"][0].update(lower_is_better=["mAP"]), r"lower_is_better of .*: got \['mAP'\]"),
        (lambda v: v["results"][0].update(references="x" * 9999), "references: got 'xxx.*, expected 16 hex"),
        (lambda v: v["results"][0].update(stored_as="pickle"), "stored_as in .*: got 'pickle'"),
        (lambda v: v["results"][0]["cost"].update(joules=-1), "joules: got -1, expected a number from 0"),
        (lambda v: v["results"][0]["cost"].update(joules=float("nan")), "joules: got nan, expected a number"),
        (lambda v: v["results"][0]["cost"].update(memory_bytes=10**400), "memory_bytes: got 1000"),
        (
            lambda v: _npz(v).update(sha256="0" * 64),
            "files: got a digest of .*npz, expected the one that the",
        ),
        (lambda v: v["files"].update({"../x": {"sha256": "", "bytes": 1}}), "a path that leaves the card"),
    ],
)
def test_a_wrong_card(root: Path, change: Callable[[Any], None], told: str) -> None:
    edit_json(_card(root) / CARD, change)
    problem = _only_problem(root)
    assert re.search(told, problem), problem


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.update(unusual_embedding={"x" * 10_000: "1"}), "got 10000 letters, expected 5000"),
        (lambda v: v.update(unusual_embedding={"dtype": "a\u202eb"}), r"got the character '\\u202e'"),
        (lambda v: v.update(versions={"x" * 10_000: "1"}), "got 10000 letters, expected 5000"),
        (lambda v: v.update(versions={str(each): "1" for each in range(1001)}), "got 1001 notes or versions"),
        (
            lambda v: v.update(problems=[str(each) for each in range(1001)]),
            "got 1001 notes or versions, expected 1000 at most",
        ),
    ],
)
def test_texts_of_scores_that_no_page_could_show(
    root: Path, change: Callable[[Any], None], told: str
) -> None:
    edit_json(_card(root) / SCENE / layout.scores(LINEAR), change)
    list_files_again(_card(root))
    assert re.search(told, _only_problem(root)), _only_problem(root)


def test_names_that_look_the_same_are_the_same() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert parse_facts(Fields("card", {"name": decomposed, "revision": "1"})).name == composed
    for invisible in "\u200b\u200d\u2060\u00ad\u2066\ufeff":
        with pytest.raises(HearevalError, match="got the character"):
            parse_facts(Fields("card", {"name": f"CREPE{invisible}", "revision": "1"}))


def test_unlisted_files_links_and_large_files(root: Path) -> None:
    card = _card(root)
    (card / SCENE / "extra.txt").write_text("x")
    assert "got a file that the card does not list" in _only_problem(root)
    (card / SCENE / "extra.txt").unlink()
    (card / "link").symlink_to("/etc/passwd")
    assert "link in card" in _only_problem(root)
    assert "got a link, expected a file" in _only_problem(root)
    (card / "link").unlink()
    (card / SCENE / "deep").mkdir()
    assert "got a folder, expected a file" in _only_problem(root)
    (card / SCENE / "deep").rmdir()
    npz = card / SCENE / layout.predictions(LINEAR)
    whole = npz.read_bytes()
    with open(npz, "ab") as stream:
        stream.truncate(10_000_001)
    assert "got 10,000,001 bytes, expected 10,000,000 at most" in _only_problem(root)
    npz.unlink()
    assert "predictions.npz: no such file" in _only_problem(root)
    npz.write_bytes(whole)
    assert _check(root).is_recomputed
    outside = root / "outside"
    (card / SCENE).rename(outside)
    (card / SCENE).symlink_to(outside)
    assert "got a link, expected a file" in _only_problem(root)


def test_a_split_cannot_be_left_out(root: Path) -> None:
    """Folds with low scores must not vanish, and no other split may be trained on."""

    def change(values: Any) -> None:
        values["folds"][0]["train"] = ["valid"]

    edit_json(_card(root) / SCENE / layout.scores(LINEAR), change)
    list_files_again(_card(root))
    assert "rounds of seed 0 of " in _only_problem(root)


def claim_protocol(card: Path, protocol: str) -> None:
    """Give all results of trained predictors the name of another protocol."""
    for task in (SCENE, EVENT):
        edit_json(card / task / layout.scores(LINEAR), lambda values: values.update(protocol=protocol))
        for name in (layout.scores, layout.predictions):
            (card / task / name(LINEAR)).rename(card / task / name(protocol))

    def change(values: Any) -> None:
        for each in values["results"]:
            each["protocol"] = protocol if each["protocol"] == LINEAR else each["protocol"]

    edit_json(card / CARD, change)
    list_files_again(card)


@pytest.mark.parametrize(
    ("protocol", "told"),
    [
        ("hear2021", "got the settings .*linear.* with hear2021, expected seeds and settings that it has"),
        ("hear2021-5seeds", "got the seeds 0 with hear2021-5seeds"),
        ("probe-knn-l1", "got the settings .* with probe-knn-l1"),
        ("hear2021-better", "got 'hear2021-better', which no protocol is called"),
        ("hear2021-float32", "got 'hear2021-float32', which no protocol is called"),
        ("hear2021-1seeds", "got 'hear2021-1seeds', which no protocol is called"),
        ("hear2021-99points", "got 'hear2021-99points', which no protocol is called"),
    ],
)
def test_another_protocol_is_claimed(root: Path, protocol: str, told: str) -> None:
    """The scores of a stronger or a cheaper predictor must not stand in the table of the published ones."""
    claim_protocol(_card(root), protocol)
    problems = _check(root).problems
    assert len(problems) == 2
    assert all(re.search(told, each) for each in problems), problems


def test_scores_of_a_few_clips_are_no_card(root: Path) -> None:
    folder = root / "embeddings" / "mine"
    before = _card(root).joinpath(CARD).read_bytes()
    # Beside whole results they are left out.
    few = folder / f"{SCENE}-limit30"
    shutil.copytree(folder / SCENE, few)
    _evaluate(few, Protocol(probe="linear", device="cpu", limit=30))
    assert layout.scored_protocols(few) == (LINEAR, f"{LINEAR}-limit30")
    (few / layout.scores(LINEAR)).unlink()
    make_card(_request(root))
    assert _card(root).joinpath(CARD).read_bytes() == before
    with pytest.raises(HearevalError, match=f"protocol {LINEAR}-limit30: got scores of a few clips"):
        make_card(_request(root, protocols=(f"{LINEAR}-limit30",)))
    # Nor does a card that was made by hand count.
    claim_protocol(_card(root), f"{LINEAR}-limit30")
    assert re.search(
        f"protocol: got {LINEAR}-limit30, scores of a few clips, expected .* all", _only_problem(root)
    )


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 10**300])
def test_no_run_has_such_a_seed(root: Path, seed: int) -> None:
    change = {"seed": seed}
    edit_json(_card(root) / SCENE / layout.scores(LINEAR), lambda values: values.update(change))
    list_files_again(_card(root))
    assert "got the seeds" in _only_problem(root)


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(grid="faster", grid_points=2, seeds=2, seed=7, order="shuffled", device="cpu"),
        pytest.param(
            Protocol(grid="faster", grid_points=1, seeds=2, train_precision="bf16", device="cpu"),
            marks=pytest.mark.skipif(not has_fast_bf16(), reason="needs a CPU with AVX512-BF16 or AMX"),
        ),
        Protocol(probe="knn-cosine", device="cpu"),
        Protocol(probe="knn-l1", device="cpu", seed=3),
        Protocol(probe="linear", device="cpu", seed=MAX_SEED),
    ],
    ids=lambda protocol: protocol.recorded_name,
)
def test_results_agree_with_their_own_protocol(root: Path, protocol: Protocol) -> None:
    folder = root / "embeddings" / "mine" / SCENE
    _evaluate(folder, protocol)
    scores, task = read_stored(folder, protocol.recorded_name).scores, read_references(root / "tasks" / SCENE)
    assert find_contradiction(scores, task) == ""


def test_a_metric_cannot_be_left_out(root: Path) -> None:
    def change(values: Any) -> None:
        del values["scores"]["mAP"]
        del values["test"]["test_mAP"]

    edit_json(_card(root) / SCENE / layout.scores(LINEAR), change)
    list_files_again(_card(root))
    assert "got ['top1_acc'], expected ['top1_acc', 'mAP'], as in the task" in _only_problem(root)


def test_predictions_that_expand_beyond_any_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are counted before anything is read."""
    monkeypatch.setattr(card_checks, "MAX_EXPANDED_BYTES", 20_000_000)
    npz = _card(root) / SCENE / layout.predictions(LINEAR)
    with zipfile.ZipFile(npz, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.npy", "w") as stream:
        for _ in range(21):
            stream.write(bytes(1_000_000))
    assert npz.stat().st_size < 10_000_000
    list_files_again(_card(root))
    assert "expected 20,000,000 at most" in _only_problem(root)


def test_an_array_whose_header_lies(root: Path) -> None:
    """The header says more than the file has."""
    npz = _card(root) / SCENE / layout.predictions(LINEAR)
    with zipfile.ZipFile(npz) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000000000, 3), }"
    text = text.ljust(117) + b"\n"
    members["test/predictions.npy"] = header + len(text).to_bytes(2, "little") + text + bytes(100)
    with zipfile.ZipFile(npz, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    list_files_again(_card(root))
    assert "can't be read" in _only_problem(root)


def _flag(npz: Path, local: int, central: int, value: int) -> None:
    """Set a byte of every header, at its place in the local and in the central one."""
    content = bytearray(npz.read_bytes())
    for start, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        for found in re.finditer(re.escape(start), bytes(content)):
            content[found.start() + place] = value
    npz.write_bytes(content)


def _repack(npz: Path, change: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(npz) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(npz, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        change(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda npz: _flag(npz, 6, 8, 1), "encrypted or unusually compressed"),
        (lambda npz: _flag(npz, 8, 10, 99), "encrypted or unusually compressed"),
        (lambda npz: _repack(npz, lambda _: None, zipfile.ZIP_LZMA), "encrypted or unusually compressed"),
        (lambda npz: _repack(npz, lambda _: None, zipfile.ZIP_BZIP2), "encrypted or unusually compressed"),
        (
            lambda npz: _repack(npz, lambda out: out.writestr("test/predictions.npy", b"")),
            "'test/predictions.npy' in .*: got several members of this name",
        ),
        (
            lambda npz: _repack(npz, lambda out: [out.writestr(f"{i}.npy", b"") for i in range(1000)]),
            "got 1,00[0-9] members, expected 1,000 at most",
        ),
    ],
)
def test_members_that_numpy_does_not_write(root: Path, change: Callable[[Path], None], told: str) -> None:
    """None of them may end the check of other cards."""
    change(_card(root) / SCENE / layout.predictions(LINEAR))
    list_files_again(_card(root))
    assert re.search(told, _only_problem(root))


def test_pickles_are_not_read(root: Path) -> None:
    npz = _card(root) / SCENE / layout.predictions(LINEAR)
    _change_array(npz, "test/predictions", lambda said: np.array([{"a": said}], dtype=object))
    list_files_again(_card(root))
    assert "Object arrays cannot be loaded when allow_pickle=False" in _only_problem(root)


def test_references_that_the_checker_lacks(root: Path) -> None:
    shutil.rmtree(root / "tasks" / SCENE)
    checked = _check(root)
    assert checked.problems == ()
    (lacking,) = checked.lacking
    assert "references of esc50-v1-full: got no such folder" in lacking
    assert "heareval prepare esc50 --mode full" in lacking
    assert not checked.is_recomputed


def test_references_that_are_damaged_are_no_fault_of_the_card(root: Path) -> None:
    (root / "tasks" / SCENE / "test.json").write_text("{")
    checked = _check(root)
    assert checked.problems == ()
    assert "test.json" in checked.lacking[0]
    assert not checked.is_recomputed


def test_a_card_is_compared_again_if_the_task_is_known_to_be_of_another_corpus(root: Path) -> None:
    card, tasks = read_card(_card(root)), root / "tasks"
    before = digest_references(card, tasks, {})
    assert before == digest_references(card, tasks, {})
    edit_json(tasks / SCENE / layout.TASK_METADATA, lambda values: values.update(not_the_published_corpus={}))
    assert digest_references(card, tasks, {}) not in (before, "")
    shutil.rmtree(tasks / SCENE)
    assert digest_references(card, tasks, {}) == ""


@pytest.mark.parametrize("name", [CARD, SCENE, EVENT, PAIRWISE])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_file_holds_it_is_checked_or_refused(
    made: Path, tmp_path: Path, name: str, data: Any
) -> None:
    """A card never stops the check of others."""
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(made / "cards", root / "cards")
    (path,) = [_card(root) / CARD] if name == CARD else (_card(root) / name).glob("*scores.json")
    path.write_text(json.dumps(data.draw(damaged(json.loads(path.read_text())))))
    if name != CARD:
        files = {str(each.relative_to(_card(root))): _digest(each) for each in _card(root).glob("*/*")}
        edit_json(_card(root) / CARD, lambda values: values.update(files=files))
    checked = check_card(_card(root), made / "tasks", ("retrieval", "timbre"))
    assert all("\n" not in problem for problem in checked.problems)
