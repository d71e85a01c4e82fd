"""Pairwise tasks from embeddings to stored scores, reports and comparisons: every relation, made by hand."""

import json
import shutil

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.formats.relations import write_relation
from heareval.layout import Places
from heareval.predictions import distances
from heareval.predictions.compare import compare
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import pairwise
from heareval.predictions.protocol import Protocol, settings_for_fingerprint
from heareval.predictions.relations import prepare_relation, same_different
from heareval.predictions.report import write_reports
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results
from heareval.spec import (
    Abx,
    RatedPair,
    Ratings,
    Retrieval,
    SameDifferent,
    SamePair,
    SamePairs,
    Triplet,
    Triplets,
)
from tests.commands import command
from tests.predictions.conftest import write_scene_task

PAIRWISE = Protocol(name="pairwise", device="cpu")
SPEAKERS, DIGITS, TAKES = 4, 3, 5
IDS = [f"{d}_s{s}_{t}" for d in range(DIGITS) for s in range(SPEAKERS) for t in range(TAKES)]
CHANCE_OF_RETRIEVAL = ("mrr", "recall_at_1", "recall_at_10", "map_at_r", "precision_at_1")


def _attributes(clip):
    digit, speaker, take = clip.split("_")
    return {"digit": digit, "speaker": speaker, "role": "query" if take == "0" else "gallery"}


def _rated_pairs():
    rng = np.random.default_rng(3)
    return tuple(
        RatedPair(a, b, float(abs(int(a[0]) - int(b[0])) + rng.uniform(0, 0.5)), "x")
        for n, a in enumerate(IDS[::3])
        for b in IDS[::3][:n]
    )


PAIRS = tuple(SamePair(a, b, a[0] == b[0]) for n, a in enumerate(IDS[::2]) for b in IDS[::2][:n])
TRIPLETS = tuple(Triplet(IDS[n], IDS[n + 1], IDS[(n + 25) % 60]) for n in range(0, 55, 2))
RELATIONS = {
    "ratings": (Ratings(_rated_pairs()), ("spearman", "kendall", "triplet_agreement")),
    "triplets": (Triplets(TRIPLETS), ("triplet_acc",)),
    "same_pairs": (SamePairs(PAIRS), ("pair_auc", "pair_eer", "pair_ap")),
    "same_different": (
        SameDifferent("digit", ("speaker",), "speaker"),
        ("pair_auc", "pair_eer", "pair_ap"),
    ),
    "retrieval": (Retrieval("digit", differ=("speaker",)), CHANCE_OF_RETRIEVAL),
    "roles": (Retrieval("digit", role="role", average="digit", unit="speaker"), CHANCE_OF_RETRIEVAL),
    "abx": (Abx("digit", "speaker", 4, 4, 2), ("abx_error",)),
}


def write_pairwise_task(parent, name, *, noise=1.5, order=None):
    """Write the embeddings of spoken digits: near the centre of their digit, and a bit of their speaker's."""
    relation, metrics = RELATIONS[name]
    rng = np.random.default_rng(7)
    digits, speakers = rng.normal(size=(DIGITS, 8)), rng.normal(size=(SPEAKERS, 8))
    x = np.array([digits[int(i[0])] + 0.5 * speakers[int(i[3])] for i in IDS])
    x += noise * rng.normal(size=x.shape)
    order = list(range(len(IDS))) if order is None else order
    folder = parent / name
    folder.mkdir(parents=True)
    metadata = {
        "task_name": name,
        "version": "v1",
        "mode": "full",
        "embedding_type": "scene",
        "prediction_type": "pairwise",
        "split_mode": "test_only",
        "splits": ["test"],
        "evaluation": metrics,
    }
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    (folder / "MANIFEST.json").write_text(json.dumps({"fingerprint": "0123456789abcdef", "arrays": []}))
    (folder / "test.json").write_text(json.dumps({f"{IDS[i]}.wav": _attributes(IDS[i]) for i in order}))
    write_relation(folder, relation)
    np.save(folder / "test.npy", x[order].astype(np.float32))
    return folder


def evaluate(folder, protocol=PAIRWISE):
    result = evaluate_folder(folder, protocol)
    write_results(folder, result, "fingerprint", "0123456789abcdef")
    return read_stored(folder, protocol.recorded_name).scores


@pytest.mark.parametrize("name", RELATIONS)
def test_scores_are_better_than_chance_and_read_back(name, tmp_path):
    scores = evaluate(write_pairwise_task(tmp_path, name, noise=0.3))
    assert scores.protocol == "pairwise-l1"
    assert scores.decided_by == ""
    assert (scores.runs[0].settings, scores.runs[0].grid) == ({"distance": "l1"}, ())
    fold = scores.runs[0].folds[0]
    assert (fold.test, fold.valid, fold.train) == ("test", "", ())
    for metric, score in scores.scores.items():
        is_error = metric in ("pair_eer", "abx_error")
        assert score.score < score.chance if is_error else score.score > score.chance, metric
    assert scores.score_mode == ("min" if name == "abx" else "max")


@pytest.mark.parametrize("distance", ["l1", "l2", "cosine"])
@pytest.mark.parametrize("name", [*RELATIONS, "same_different, counted"])
def test_a_constant_embedder_scores_chance_and_never_more(name, distance, tmp_path, monkeypatch):
    name, _, is_counted = name.partition(", ")
    if is_counted:
        monkeypatch.setattr(same_different, "LISTED_PAIRS", 100)
    folder = write_pairwise_task(tmp_path, name)
    # Their squares are rounded, so that a cosine would not be exactly 1.
    np.save(folder / "test.npy", np.full((len(IDS), 8), 0.1, np.float32))
    scores = evaluate(folder, Protocol(name="pairwise", distance=distance, device="cpu"))
    assert "all clips of test have the same distances" in scores.problems[0]
    for metric, score in scores.scores.items():
        if metric in ("mrr", "triplet_agreement"):
            assert score.score <= score.chance + 1e-12
        else:
            assert score.score == pytest.approx(score.chance, abs=1e-12)


@pytest.mark.parametrize("name", [*RELATIONS, "same_different, counted"])
def test_the_order_of_clips_does_not_matter(name, tmp_path, monkeypatch):
    name, _, is_counted = name.partition(", ")
    if is_counted:
        monkeypatch.setattr(same_different, "LISTED_PAIRS", 100)
    order = np.random.default_rng(1).permutation(len(IDS)).tolist()
    plain = evaluate(write_pairwise_task(tmp_path / "a", name))
    shuffled = evaluate(write_pairwise_task(tmp_path / "b", name, order=order))
    assert plain.scores == shuffled.scores


def test_every_distance_has_results_of_its_own(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    found = {}
    for distance in ("l1", "l2", "cosine"):
        protocol = Protocol(name="pairwise", distance=distance, device="cpu")
        found[distance] = evaluate(folder, protocol).runs[0].settings
        assert (folder / f"test.pairwise-{distance}.predictions.npz").exists()
    assert found == {each: {"distance": each} for each in found}


def test_few_units_have_no_interval_and_are_named(tmp_path):
    scores = evaluate(write_pairwise_task(tmp_path, "same_different"))
    assert (scores.resampled_units.name, scores.resampled_units.count) == ("speaker", SPEAKERS)
    assert scores.problems == (
        "no 95 % interval of pair_auc, pair_eer, pair_ap: 4 values of speaker are fewer than 16",
    )
    assert all(score.interval_95 is None for score in scores.scores.values())


def test_units_may_have_any_name(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    clips = json.loads((folder / "test.json").read_text())
    named = {name: attributes | {"class": attributes["digit"]} for name, attributes in clips.items()}
    (folder / "test.json").write_text(json.dumps(named))
    write_relation(folder, Triplets(TRIPLETS, unit="class"))
    (told,) = evaluate(folder).problems
    assert told == "no 95 % interval of triplet_acc: 3 values of class are fewer than 16"


@pytest.mark.parametrize("relation", ["triplets", "same_pairs"])
def test_rows_that_share_no_clips_are_resampled_whole(relation, tmp_path):
    folder = write_pairwise_task(tmp_path, relation)
    if relation == "triplets":
        rows = [(IDS[n], IDS[n + 20], IDS[n + 40]) for n in range(20)]
        write_relation(folder, Triplets(tuple(Triplet(*row) for row in rows)))
    else:
        rows = [(IDS[n], IDS[n + 20]) for n in range(20)] + [(IDS[n], IDS[n + 5]) for n in range(40, 45)]
        write_relation(folder, SamePairs(tuple(SamePair(a, b, a[0] == b[0]) for a, b in rows)))
    scores = evaluate(folder)
    assert str(scores.resampled_units) == f"{len(rows)} groups of clips"
    if relation == "triplets":
        accuracy = scores.scores["triplet_acc"]
        low, high = accuracy.interval_95
        error = (accuracy.score * (1 - accuracy.score) / 20) ** 0.5
        assert high - low == pytest.approx(2 * 1.96 * error, abs=0.06)


def test_rows_of_a_few_large_groups_have_their_clips_resampled(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    # 16 triplets of one anchor, and 14 of clips of their own.
    shared = [Triplet(IDS[0], IDS[n], IDS[n + 1]) for n in range(1, 17)]
    separate = [Triplet(IDS[n], IDS[n + 14], IDS[n + 28]) for n in range(18, 32)]
    write_relation(folder, Triplets((*shared, *separate)))
    assert str(evaluate(folder).resampled_units) == "60 test clips"


def test_too_many_units_for_all_pairs_are_refused(tmp_path, monkeypatch):
    folder = write_pairwise_task(tmp_path, "same_different")
    write_relation(folder, SameDifferent("digit"))
    monkeypatch.setattr(same_different, "LISTED_PAIRS", 100)
    monkeypatch.setattr(same_different, "MOST_COUNTS", 50 * 50 * 100)
    told = "units of the relation between clips: got 60 test clips, expected at most 50, so that all pairs"
    with pytest.raises(HearevalError, match=told):
        evaluate_folder(folder, PAIRWISE)


@pytest.mark.parametrize("name", RELATIONS)
def test_progress_rises_to_its_total(name, tmp_path, monkeypatch):
    monkeypatch.setattr(distances, "TILE_BYTES", 8 * 8 * 10)
    told = []
    evaluate_folder(
        write_pairwise_task(tmp_path, name), PAIRWISE, lambda done, total: told.append((done, total))
    )
    done, totals = zip(*told, strict=True)
    assert len(set(totals)) == 1
    assert len(done) > 2
    assert list(done) == sorted(set(done))
    assert done[-1] == totals[0]


@pytest.mark.parametrize("name", RELATIONS)
def test_an_evaluation_prepares_its_relation_once(name, tmp_path, monkeypatch):
    folder, prepared = write_pairwise_task(tmp_path, name), []

    def prepare(relation, clips):
        prepared.append(relation)
        return prepare_relation(relation, clips)

    monkeypatch.setattr(pairwise, "prepare_relation", prepare)
    write_results(folder, evaluate_folder(folder, PAIRWISE), "fingerprint", "0123456789abcdef")
    assert prepared == [RELATIONS[name][0]]


def test_many_pairs_have_the_scores_of_all_distances(tmp_path, monkeypatch):
    folder = write_pairwise_task(tmp_path, "same_different")
    listed = evaluate(folder)
    monkeypatch.setattr(same_different, "LISTED_PAIRS", 100)
    counted = evaluate(folder)
    with np.load(folder / "test.pairwise-l1.predictions.npz") as members:
        assert members["test/exact"].shape == (3,)
        assert len(members["test/group"]) < members["test/count"].sum()
    for metric, score in listed.scores.items():
        assert counted.scores[metric].score == pytest.approx(score.score, abs=1e-12), metric
        assert counted.scores[metric].chance == score.chance


def test_not_a_number_names_the_clip(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    array = np.load(folder / "test.npy")
    array[3, 1] = np.nan
    np.save(folder / "test.npy", array)
    with pytest.raises(HearevalError, match=rf"embedding of {IDS[3]}\.wav: got NaN or infinity"):
        evaluate_folder(folder, PAIRWISE)


def test_queries_without_an_answer_are_left_out_and_counted(tmp_path):
    folder = write_pairwise_task(tmp_path, "retrieval")
    clips = json.loads((folder / "test.json").read_text())
    clips[f"{IDS[0]}.wav"]["digit"] = "nine"
    (folder / "test.json").write_text(json.dumps(clips))
    scores = evaluate(folder)
    assert "left out: 1 of 60 queries, which search nothing that is relevant to them" in scores.problems
    assert scores.scores["mrr"].details["test"] == {"queries": 59.0, "queries_left_out": 1.0}


@pytest.mark.parametrize(
    ("relation", "told"),
    [
        (SameDifferent("speaker", ("speaker",)), "pairs that are the same in the task: got none"),
        (Retrieval("digit", differ=("digit",)), "queries with something to find in the task: got none"),
        (Abx("digit", "digit"), "ABX triples in the task: got none"),
    ],
)
def test_nothing_to_score_is_told(relation, told, tmp_path):
    folder = write_pairwise_task(tmp_path, "abx")
    write_relation(folder, relation)
    metric = {SameDifferent: "pair_auc", Retrieval: "mrr", Abx: "abx_error"}[type(relation)]
    metadata = json.loads((folder / "task_metadata.json").read_text()) | {"evaluation": [metric]}
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(HearevalError, match=told):
        evaluate_folder(folder, PAIRWISE)


def test_metrics_of_another_relation_are_refused(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    metadata = json.loads((folder / "task_metadata.json").read_text()) | {"evaluation": ["spearman"]}
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(HearevalError, match=r"metric spearman of task .*: expected one of triplet_acc"):
        evaluate_folder(folder, PAIRWISE)


def test_huge_limits_of_cells_change_nothing(tmp_path):
    limited, huge = (write_pairwise_task(tmp_path / name, "abx") for name in ("limited", "huge"))
    write_relation(limited, Abx("digit", "speaker", most_a=1000, most_b=1000, most_x=1000))
    write_relation(huge, Abx("digit", "speaker", most_a=10**9, most_b=10**9, most_x=10**9))
    assert evaluate(limited).scores == evaluate(huge).scores


@pytest.mark.parametrize("name", RELATIONS)
def test_changed_measurements_are_refused(name, tmp_path):
    folder = write_pairwise_task(tmp_path, name)
    evaluate(folder)
    path = folder / "test.pairwise-l1.predictions.npz"
    with np.load(path) as members:
        arrays = dict(members)
    key = next(key for key in arrays if key.startswith("test/") and key != "test/clips")
    np.savez(path, **{**arrays, key: arrays[key][::-1]})
    with pytest.raises(HearevalError, match="files that another program has changed"):
        read_stored(folder, "pairwise-l1")
    scores = json.loads((folder / "test.pairwise-l1.predicted-scores.json").read_text())
    del scores["predictions"]
    (folder / "test.pairwise-l1.predicted-scores.json").write_text(json.dumps(scores))
    np.savez(path, **{**arrays, key: arrays[key][:-1]})
    with pytest.raises(HearevalError, match=f"{key}: got"):
        read_stored(folder, "pairwise-l1")


def test_two_models_are_compared_on_the_same_draws(tmp_path):
    for submission, noise in (("a", 0.3), ("b", 3.0)):
        evaluate(write_pairwise_task(tmp_path / submission, "retrieval", noise=noise))
        evaluate(write_pairwise_task(tmp_path / submission, "triplets", noise=noise))
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.not_compared == ()
    by_metric = {each.metric: each for each in found.differences}
    assert by_metric["mrr"].value > 0
    assert by_metric["mrr"].p_from == "permutation"
    assert by_metric["mrr"].interval.low <= by_metric["mrr"].value <= by_metric["mrr"].interval.high
    assert [each.protocol for each in found.overall] == ["pairwise-l1"]


def test_distances_are_never_averaged_with_trained_tasks(tmp_path):
    write_scene_task(tmp_path, "scene")
    for submission in ("a", "b"):
        evaluate(write_pairwise_task(tmp_path / submission, "triplets"))
        evaluate(write_pairwise_task(tmp_path / submission, "retrieval"))
        for name in ("scene", "scene2"):
            shutil.copytree(tmp_path / "scene", tmp_path / submission / name)
            evaluate(tmp_path / submission / name, Protocol(probe="knn-l1", device="cpu"))
    overall = compare(tmp_path / "a", tmp_path / "b").overall
    assert [(each.protocol, each.task) for each in overall] == [
        ("pairwise-l1", "mean of 2 tasks"),
        ("probe-knn-l1", "mean of 2 tasks"),
    ]


def test_a_report_holds_the_scores(tmp_path):
    folder = write_pairwise_task(tmp_path, "abx")
    evaluate(folder)
    (written,) = write_reports(folder, (), Places(), out=None, clips=())
    report = json.loads((written / "report.json").read_text())
    assert "abx_error" in report["scores"]


def test_the_command_scores_a_task_in_a_worker_process(tmp_path):
    folder = write_pairwise_task(tmp_path / "mine", "triplets")
    done = command(tmp_path, "heareval", "predict", str(folder), "--distance", "l2", "--probe", "linear")
    assert done.returncode == 0, done.stderr
    assert "triplet_acc" in done.stdout
    assert "pairwise-l2" in done.stdout
    scores = read_stored(folder, "pairwise-l2").scores
    again = command(tmp_path, "heareval", "predict", str(folder), "--distance", "l2")
    assert "triplet_acc" in again.stdout
    assert read_stored(folder, "pairwise-l2").scores == scores


def test_other_tasks_keep_their_protocol():
    plain = Protocol(probe="linear")
    assert Protocol(probe="linear", distance="l2").for_task(is_pairwise=False) == plain
    assert "distance" not in settings_for_fingerprint(plain)
    with pytest.raises(HearevalError, match="unknown distance"):
        Protocol(distance="l3")
