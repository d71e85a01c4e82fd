"""Two submissions compared: on the same clips, by the same draws, p against every way to swap."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from heareval.commands import main
from heareval.errors import HearevalError
from heareval.predictions.bootstrap import ScoredSplit, confidence_interval
from heareval.predictions.compare import compare, comparison_table, comparison_to_json, find_submission
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.metrics.resampled import ClipSums
from heareval.predictions.protocol import Protocol
from heareval.predictions.pvalues import bootstrap_p_value, permutation_p_value, permute_differences
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results
from tests.predictions.conftest import write_event_task, write_scene_task

NAME = "hear2021-1points"
FOLDS = ("fold00", "fold01", "fold02")


def _evaluated(folder, seed=0):
    protocol = Protocol(grid_points=1, device="cpu", seed=seed)
    result = evaluate_folder(folder, protocol)
    write_results(folder, result, f"fingerprint of seed {seed}", "0123456789abcdef")


@pytest.fixture
def two(tmp_path, two_once):
    """Submissions A and B with a scene and an event task each, which a test may change."""
    for submission in ("a", "b"):
        shutil.copytree(two_once / submission, tmp_path / submission)
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture(scope="module")
def two_once(tmp_path_factory):
    """The same, evaluated once; B's embeddings are noisier."""
    tmp_path = tmp_path_factory.mktemp("two")
    folds = {"splits": FOLDS, "split_mode": "new_split_kfold"}
    tasks = [write_scene_task(tmp_path, "scene", **folds), write_event_task(tmp_path, "event", clips=16)]
    rng = np.random.default_rng(0)
    for submission in ("a", "b"):
        (tmp_path / submission).mkdir()
        for task in tasks:
            folder = tmp_path / submission / task.name
            shutil.copytree(task, folder)
            for path in sorted(folder.glob("*.npy")) if submission == "b" else ():
                if "timestamps" not in path.name:
                    array = np.load(path)
                    noise = rng.normal(size=array.shape, scale=2)
                    np.save(path, (array + noise).astype(np.float32))
            _evaluated(folder)
    return tmp_path


def test_other_seeds_are_told_of(two):
    assert not compare(*two).notes
    _evaluated(two[1] / "scene", seed=3)
    found = compare(*two)
    assert found.notes == (f"scene, {NAME}: A has seed 0, B has seed 3",)
    assert f"note: {found.notes[0]}" in comparison_table(found)
    assert comparison_to_json(found)["notes"] == list(found.notes)


def test_a_submission_without_scores_is_named(two, tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(HearevalError, match="c: got no scores"):
        compare(two[0], tmp_path / "c")
    with pytest.raises(HearevalError, match=r"no submissions in it.*--embeddings-dir"):
        find_submission("a", tmp_path / "nowhere")


def test_differences_are_those_of_the_scores_and_draws(two):
    found = compare(*two)
    assert [(each.task, each.metric) for each in found.differences] == [
        ("event", "event_onset_200ms_fms"),
        ("event", "segment_1s_er"),
        ("scene", "top1_acc"),
        ("scene", "mAP"),
    ]
    event, error, scene, ranked = found.differences
    stored = [read_stored(each / "scene", NAME) for each in two]
    assert (scene.a, scene.b) == tuple(one.scores.scores["top1_acc"].score for one in stored)
    assert scene.value == scene.a - scene.b > 0
    assert scene.interval.low <= scene.value <= scene.interval.high
    assert (event.p_from, error.p_from, scene.p_from, ranked.p_from) == (*["permutation"] * 3, "bootstrap")
    (mean,) = found.overall
    assert mean.value == pytest.approx((event.value + scene.value) / 2)
    assert mean.interval.low < mean.value < mean.interval.high


def test_nothing_differs_from_itself(two):
    found = compare(two[0], two[0])
    for each in found.differences:
        assert (each.value, each.interval.resamples) == (0.0, 0)
        assert each.p == 1.0 or (each.p_from, each.metric) == ("", "mAP")
    tasks = "event (event_onset_200ms_fms, segment_1s_er), scene (top1_acc, mAP)"
    assert found.notes == (
        f"no 95 % interval, as all resamples have the same score: {tasks}",
        "no 95 % interval, as none of the tasks has one: mean of 2 tasks (the first of each)",
    )
    assert "0.0000 to 0.0000" not in comparison_table(found)


def test_tiny_test_sets_have_no_interval(two, event_folder):
    """Of 5 clips, the permutation test still says what it can, and resamples nothing."""
    for submission in two:
        shutil.rmtree(submission / "event")
    tiny = event_folder("tiny", clips=5)
    _evaluated(tiny)
    for submission in two:
        shutil.copytree(tiny, submission / "tiny")
    found = compare(*two)
    tested = [each for each in found.differences if each.task == "tiny"]
    assert [(each.interval.resamples, each.p, each.p_from) for each in tested] == [
        (0, 1.0, "permutation")
    ] * 2
    assert found.notes == (
        "no 95 % interval, as 5 test clips are fewer than 16: tiny (event_onset_200ms_fms, segment_1s_er)",
        f"the interval of the mean of {NAME} rests on tasks without one: tiny",
    )
    written = comparison_to_json(found)["differences"][-1]
    assert (written["interval_95"], written["no_interval"]) == (None, "5 test clips are fewer than 16")
    assert all(note in comparison_table(found) for note in found.notes)
    assert max(map(len, comparison_table(found, 80).splitlines())) <= 80
    for submission in two:
        shutil.rmtree(submission / "scene")
        shutil.copytree(tiny, submission / "tiny again")
    for path in (two[1] / "tiny").glob("test.npy"):
        np.save(path, np.random.default_rng(0).normal(size=np.load(path).shape).astype(np.float32))
    _evaluated(two[1] / "tiny")
    found = compare(*two)
    (mean,) = found.overall
    assert mean.value != 0
    assert (mean.interval.resamples, mean.no_interval) == (0, "none of the tasks has one")
    assert math.isnan(mean.p)


def test_infinite_resamples_are_told(tmp_path, scene_folder):
    """d' is finite on all clips, and infinite on most resamples of them."""
    for submission, noise in (("a", 0.0), ("b", 1.0)):
        folder = scene_folder(f"of_{submission}", clips=30, evaluation=["top1_acc", "d_prime"])
        rng = np.random.default_rng(1)
        for path in sorted(folder.glob("*.npy")):
            x = np.load(path)
            np.save(path, (x + rng.normal(size=x.shape, scale=noise)).astype(np.float32))
        result = evaluate_folder(folder, Protocol(probe="linear", device="cpu"))
        write_results(folder, result, "feed", "0123456789abcdef")
        (tmp_path / submission).mkdir()
        folder.rename(tmp_path / submission / "task")
    d_prime = compare(tmp_path / "a", tmp_path / "b").differences[1]
    assert math.isfinite(d_prime.value)
    assert (d_prime.p_from, d_prime.no_interval) == ("", "half of the resamples or more have no finite score")


def test_the_folder_of_a_task_is_no_submission(two):
    with pytest.raises(HearevalError, match=r"a/scene: got the scores of one task, expected the folder of a"):
        compare(two[0] / "scene", two[1] / "scene")


def test_a_comparison_turned_round_is_its_negative(two):
    for one, other in zip(compare(*two).differences, compare(*two[::-1]).differences, strict=True):
        assert one.value == -other.value
        assert one.p == pytest.approx(other.p, abs=0.01)


def test_other_clips_are_refused_in_a_line(two):
    folder = two[1] / "scene"
    labels = json.loads((folder / "fold01.json").read_text())
    first, second = list(labels)[:2]
    labels[first], labels[second] = labels[second], labels[first]
    (folder / "fold01.json").write_text(json.dumps(labels))
    _evaluated(folder)
    found = compare(*two)
    assert found.not_compared == ("scene, hear2021-1points: not compared: other labels in fold01",)
    assert {each.task for each in found.differences} == {"event"}
    assert found.overall == ()
    shutil.rmtree(two[0] / "event")
    with pytest.raises(HearevalError, match="other labels in fold01, expected scores of both"):
        compare(*two)


def test_what_only_one_has_is_told(two):
    _evaluated(two[0] / "event", seed=1)
    shutil.rmtree(two[1] / "event")
    assert compare(*two).not_compared == ("only a has scores of hear2021-1points: event",)


def _sums(rng, clips):
    return ClipSums(rng.integers(5, size=clips) * 1.0, rng.integers(5, 9, size=clips) * 1.0, np.ones(clips))


def _all_swaps(a, b):
    """The difference for every way to swap clips of two folds."""
    folds = []
    for one, other in zip(a, b, strict=True):
        found = []
        for swaps in itertools.product([False, True], repeat=len(one.support)):
            pairs = [
                (mine, theirs)[:: -1 if swap else 1]
                for mine, theirs, swap in zip(
                    zip(one.numerator, one.denominator, strict=True),
                    zip(other.numerator, other.denominator, strict=True),
                    swaps,
                    strict=True,
                )
            ]
            scores = [
                sum(clip[side][0] for clip in pairs) / sum(clip[side][1] for clip in pairs) for side in (0, 1)
            ]
            found.append(scores[0] - scores[1])
        folds.append(found)
    return [np.mean(each) for each in itertools.product(*folds)]


@pytest.mark.parametrize("seed", range(3))
def test_p_is_that_of_all_permutations(seed):
    rng = np.random.default_rng(seed)
    a, b = ([_sums(rng, 5), _sums(rng, 4)] for _ in range(2))
    every = np.array(_all_swaps(a, b))
    drawn = permute_differences([a], [b], seed=1, permutations=40_000)
    assert set(np.round(drawn, 9)) <= set(np.round(every, 9))
    exact = np.mean(np.abs(every) >= abs(every[0]) - 1e-12)
    assert permutation_p_value(every[0], drawn) == pytest.approx(exact, abs=0.01)


def _swap_clips(fold_a, fold_b, swaps):
    """A's predictions with those of B in the swapped clips, and B's with A's."""
    if not isinstance(fold_a.predicted, EventTable):
        mask = np.array(swaps)[:, None]
        return np.where(mask, fold_b.predicted, fold_a.predicted), np.where(
            mask, fold_a.predicted, fold_b.predicted
        )
    tables = []
    for one, other in ((fold_a.predicted, fold_b.predicted), (fold_b.predicted, fold_a.predicted)):
        stay, come = (
            table.select(np.isin(table.clip, np.flatnonzero(where)))
            for table, where in ((one, ~np.array(swaps)), (other, np.array(swaps)))
        )
        columns = zip(vars(stay).values(), vars(come).values(), strict=True)
        tables.append(EventTable(*(np.concatenate(pair) for pair in columns)))
    return tables


def _take_clips(fold, clips):
    """The first clips of a fold: all ways to swap 16 would be too many."""
    if isinstance(fold.predicted, EventTable):
        tables = [table.select(table.clip < clips) for table in (fold.reference, fold.predicted)]
    else:
        tables = [table[:clips] for table in (fold.reference, fold.predicted)]
    return ScoredSplit(clips, *tables)


@pytest.mark.parametrize("metric", ["top1_acc", "chroma_acc", "event_onset_200ms_fms", "segment_1s_er"])
def test_swapped_sums_are_scores_of_really_swapped_predictions(metric, two):
    task = "event" if METRICS[metric].kind == "event" else "scene"
    a, b = (read_stored(each / task, NAME).runs[0][0].scored for each in two)
    a, b = (_take_clips(fold, 6) for fold in (a, b))
    every = []
    for swaps in itertools.product([False, True], repeat=a.clips):
        ours, theirs = _swap_clips(a, b, swaps)
        every.append(
            METRICS[metric].function(a.reference, ours) - METRICS[metric].function(a.reference, theirs)
        )
    sums = [[[METRICS[metric].resample(fold.reference, fold.predicted, fold.clips).sums]] for fold in (a, b)]
    drawn = permute_differences(*sums, seed=0, permutations=500)
    assert set(np.round(drawn, 9) + 0.0) == set(np.round(every, 9) + 0.0)


def test_all_seeds_of_a_clip_are_swapped_together():
    rng = np.random.default_rng(0)
    a, b = ([_sums(rng, 6)] for _ in range(2))
    one, twice = (permute_differences([a] * n, [b] * n, seed=1, permutations=100) for n in (1, 2))
    assert (one == twice).all()


def test_p_of_alike_submissions_is_uniform():
    """Under the null p is below 0.2 in a fifth of cases."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(300):
        hits = rng.random((2, 40)) < 0.6
        a, b = (ClipSums(row.astype(float), np.ones(40), np.ones(40)) for row in hits)
        drawn = permute_differences([[a]], [[b]], seed=int(rng.integers(10**6)), permutations=200)
        found.append(permutation_p_value(hits[0].mean() - hits[1].mean(), drawn))
    assert np.mean(np.array(found) <= 0.2) < 0.26
    assert np.mean(np.array(found) <= 0.2) > 0.08


def test_p_of_the_bootstrap_agrees_with_its_interval():
    rng = np.random.default_rng(0)
    for shift in (0.5, 1.5, 1.9, 2.05, 3):
        drawn = rng.normal(shift, 1, 4000)
        is_beyond = confidence_interval(drawn).low > 0
        assert (bootstrap_p_value(drawn) < 0.05) == is_beyond
    assert np.isnan(bootstrap_p_value(np.full(3, np.nan)))


def test_command_prints_a_table_and_json(two):
    run = CliRunner().invoke
    table = run(main, ["compare", "a", "b", "--embeddings-dir", str(two[0].parent)])
    assert table.exit_code == 0
    *who, head, event, error, scene, ranked, mean, note = table.stdout.splitlines()
    assert who == ["A: a", "B: b"]
    assert head.split()[:5] == ["task", "metric", "A", "B", "A"]
    assert [row.split()[0] for row in (event, error, scene, ranked)] == ["event", "event", "scene", "scene"]
    assert mean.startswith("mean of 2 tasks")
    assert note == "note: segment_1s_er: lower is better"
    printed = json.loads(run(main, ["compare", str(two[0]), str(two[1]), "--json"]).stdout)
    assert printed == comparison_to_json(compare(*two))
    assert comparison_table(compare(*two)) == table.stdout.rstrip("\n")


def test_unknown_submission(two):
    with pytest.raises(HearevalError, match="unknown submission: got 'c', expected one of a, b"):
        find_submission("c", two[0].parent)
