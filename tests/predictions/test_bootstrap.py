"""Resampled scores against a loop that copies the resampled clips and scores them with METRICS."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from heareval.predictions.bootstrap import (
    ScoredSplit,
    confidence_interval,
    draw_counts,
    recenter,
    resample_scores,
)
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.metrics.resampled import average_precision, resample_rankings, roc_auc

CLIP_METRICS = [name for name, metric in METRICS.items() if metric.kind == "scene"]
EVENT_METRICS = [name for name, metric in METRICS.items() if metric.kind == "event"]
LEFT_OUT = {"mAP": lambda targets: targets.any(axis=0)}
LEFT_OUT |= dict.fromkeys(("aucroc", "d_prime"), lambda targets: targets.any(axis=0) & ~targets.all(axis=0))


def _clips(seed, clips=30, labels=5, share=0.3, levels=8):
    """Return targets, and probabilities of few levels, so that there are ties."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((clips, labels)) < share).astype(np.uint8)
    said = np.round((rng.random((clips, labels)) + 0.4 * targets) * levels) / levels
    return ScoredSplit(clips, targets, said.astype(np.float32))


def _events(seed, clips=6, events=40):
    """Return reference events with one silent clip, and estimated events of which about half match."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 8000, events)
    columns = [rng.integers(clips - 1, size=events), rng.integers(3, size=events)]
    reference = EventTable(*columns, onset, onset + rng.uniform(50, 900, events))
    kept = rng.integers(events, size=events + 7)
    shifted = np.sort(np.abs(rng.normal([onset[kept], reference.offset_ms[kept]], 90)), 0)
    strays = rng.random(len(kept)) < 0.2
    clip = np.where(strays, rng.integers(clips, size=len(kept)), reference.clip[kept])
    return ScoredSplit(clips, reference, EventTable(clip, columns[1][kept], *shifted))


def _drawn_clips(name, fold, rows):
    """Score the resampled rows, without labels that only the resample lacks."""
    targets, said = fold.reference[rows], fold.predicted[rows]
    tells = LEFT_OUT.get(name, lambda targets: np.ones(targets.shape[1], dtype=bool))
    kept = tells(targets) | ~tells(fold.reference)
    with np.errstate(invalid="ignore"):
        return METRICS[name].function(targets[:, kept], said[:, kept]) if kept.any() else np.nan


def _drawn_events(name, fold, rows):
    """Score copies of the resampled clips, each as a separate clip."""
    tables = []
    for table in (fold.reference, fold.predicted):
        parts = [(np.flatnonzero(table.clip == clip), number) for number, clip in enumerate(rows)]
        mine = table.select(np.concatenate([found for found, _ in parts]))
        number = np.concatenate([np.full(len(found), number) for found, number in parts])
        tables.append(EventTable(number, mine.label, mine.onset_ms, mine.offset_ms))
    return METRICS[name].function(*tables)


def _plainly(metrics, folds, resamples, seed):
    """What `resample_scores` must return, one draw after the other."""
    scores = np.zeros((len(metrics), resamples))
    for number, fold in enumerate(folds):
        draw = _drawn_events if isinstance(fold.reference, EventTable) else _drawn_clips
        counts = np.concatenate(
            list(draw_counts(fold.clips, resamples, np.random.default_rng([seed, number]))), axis=1
        )
        for column in range(resamples):
            rows = np.repeat(np.arange(fold.clips), counts[:, column])
            scores[:, column] += [draw(name, fold, rows) for name in metrics]
    return dict(zip(metrics, scores / len(folds), strict=True))


def _assert_same(metrics, folds, resamples=40, seed=3):
    found = resample_scores(metrics, folds, resamples=resamples, seed=seed)
    expected = _plainly(metrics, folds, resamples, seed)
    for name in metrics:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-9, err_msg=name)
    return found


@pytest.mark.parametrize("folds", [1, 3])
def test_clip_metrics_are_those_of_really_drawn_clips(folds):
    found = _assert_same(CLIP_METRICS, [_clips(seed) for seed in range(folds)])
    assert all(
        np.isfinite(scores).any() and np.ptp(scores[np.isfinite(scores)]) > 0 for scores in found.values()
    )


@pytest.mark.parametrize("folds", [1, 3])
def test_event_metrics_are_those_of_really_drawn_clips(folds):
    found = _assert_same(EVENT_METRICS, [_events(seed) for seed in range(folds)])
    assert all(np.ptp(scores) > 0 for scores in found.values())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clips=st.integers(1, 12),
    labels=st.integers(1, 4),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    levels=st.sampled_from([1, 2, 50]),
)
def test_any_clips_with_rare_labels_and_ties(seed, clips, labels, share, levels):
    _assert_same(CLIP_METRICS, [_clips(seed, clips, labels, share, levels)], resamples=10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.integers(2, 6), events=st.integers(0, 12))
def test_any_events_with_silent_clips(seed, clips, events):
    _assert_same(EVENT_METRICS, [_events(seed, clips, events)] if events else [_silence(clips)], resamples=10)


def _silence(clips):
    nothing = EventTable(*np.zeros((2, 0), dtype=int), *np.zeros((2, 0)))
    return ScoredSplit(clips, nothing, nothing)


@pytest.mark.parametrize("levels", [3, 8, 10**6])
@pytest.mark.parametrize("clips", [60, 200, 300])
def test_rankings_are_those_of_scikit_learn_with_counts_as_weights(clips, levels):
    fold = _clips(1, clips, labels=3, levels=levels)
    counts = next(draw_counts(clips, 15, np.random.default_rng(2)))
    found = resample_rankings(fold.reference, fold.predicted, [average_precision, roc_auc])(counts)
    for name, rule, scores in zip(
        ("AP", "AUC"), (average_precision_score, roc_auc_score), found, strict=True
    ):
        expected = [
            np.mean(
                [
                    rule(target, said, sample_weight=weights)
                    for target, said in zip(fold.reference.T, fold.predicted.T, strict=True)
                ]
            )
            for weights in counts.T
        ]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("times", [2, 100, 3000, 10**6])
def test_rankings_of_clips_that_are_drawn_ever_more_often_stay_the_same(times):
    """Sums of counts outgrow integers of 8, 16 and 32 bits."""
    fold = _clips(4, clips=60)
    counts = next(draw_counts(60, 9, np.random.default_rng(0)))
    score = resample_rankings(fold.reference, fold.predicted, [average_precision, roc_auc])
    np.testing.assert_allclose(score(counts.astype(np.int64) * times), score(counts), rtol=0, atol=1e-12)


def test_metrics_that_share_rankings_have_the_scores_that_each_has_alone():
    fold = _clips(2, clips=70)
    together = resample_scores(CLIP_METRICS, [fold], resamples=30, seed=1)
    for name in CLIP_METRICS:
        alone = resample_scores([name], [fold], resamples=30, seed=1)[name]
        assert np.array_equal(together[name], alone), name
        counts = next(draw_counts(70, 30, np.random.default_rng([1, 0])))
        scorer = METRICS[name].resample(fold.reference, fold.predicted, fold.clips)
        assert np.array_equal(scorer.scores(counts), alone), name


def test_draws_in_blocks_have_every_clip_about_once():
    blocks = list(draw_counts(3000, 700, np.random.default_rng(1)))
    counts = np.concatenate(blocks, axis=1)
    assert len(blocks) > 1
    assert counts.shape == (3000, 700)
    assert (counts.sum(axis=0) == 3000).all()
    assert counts.mean() == 1.0
    assert counts.var() == pytest.approx(1.0, abs=0.01)


def test_the_same_seed_draws_the_same_clips_for_two_results():
    one, other = _clips(0), _clips(1)
    first = resample_scores(["top1_acc"], [one], seed=5)["top1_acc"]
    assert (first == resample_scores(["top1_acc"], [one], seed=5)["top1_acc"]).all()
    both = resample_scores(["top1_acc"], [one, other], seed=5)["top1_acc"]
    assert (first != resample_scores(["top1_acc"], [one], seed=6)["top1_acc"]).any()
    assert (both != first).any()


def test_interval_of_an_accuracy_is_about_that_of_theory():
    hits = np.arange(1000) < 700
    targets = np.eye(2, dtype=np.uint8)[np.zeros(1000, dtype=int)]
    said = np.where(hits[:, None], [0.9, 0.1], [0.1, 0.9])
    scores = resample_scores(["top1_acc"], [ScoredSplit(1000, targets, said)], seed=0)["top1_acc"]
    found = confidence_interval(scores)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (found.low, found.high) == (
        pytest.approx(0.7 - half, abs=4e-3),
        pytest.approx(0.7 + half, abs=4e-3),
    )


def test_undefined_resamples_are_left_out_and_counted():
    found = confidence_interval(np.array([np.nan] * 10 + [*np.arange(100.0)]))
    assert (found.low, found.high, found.resamples, found.undefined) == (2.0, 97.0, 100, 10)
    nothing = confidence_interval(np.full(4, np.nan))
    assert (nothing.resamples, nothing.undefined) == (0, 4)
    assert np.isnan(nothing.low)
    assert confidence_interval(np.array([*np.arange(95.0), *[np.inf] * 5])).high == np.inf


def test_the_interval_of_a_ranking_with_few_clips_to_a_label_holds_its_score():
    """Six clips to a label: every draw's mAP is above the score, as clips stand beside themselves in it."""
    rng = np.random.default_rng(0)
    targets = np.eye(200, dtype=np.uint8)[rng.integers(200, size=1000)]
    fold = ScoredSplit(1000, targets, rng.normal(size=targets.shape) + 2.0 * targets)
    score = METRICS["mAP"].function(fold.reference, fold.predicted)
    drawn = resample_scores(["mAP"], [fold], seed=0)["mAP"]
    assert confidence_interval(drawn).low > score
    found = confidence_interval(recenter(score, "mAP", drawn))
    assert found.low < score < found.high
    assert found.high - found.low == pytest.approx(
        confidence_interval(drawn).high - confidence_interval(drawn).low
    )


def test_intervals_of_rankings_hold_what_test_sets_of_this_size_score_on_average():
    rng = np.random.default_rng(1)
    found, scores = [], []
    for seed in range(150):
        targets = (rng.random((60, 3)) < 0.15).astype(np.uint8)
        fold = ScoredSplit(60, targets, rng.normal(size=targets.shape) + targets)
        scores.append(METRICS["mAP"].function(fold.reference, fold.predicted))
        drawn = resample_scores(["mAP"], [fold], resamples=200, seed=seed)["mAP"]
        found.append(confidence_interval(recenter(scores[-1], "mAP", drawn)))
    assert np.mean([one.low <= np.mean(scores) <= one.high for one in found]) > 0.88


def test_draws_are_moved_only_where_clips_are_ranked():
    drawn = np.array([0.1, 0.3, 0.5, np.nan])
    assert recenter(0.2, "top1_acc", drawn) is drawn
    assert recenter(0.2, "mAP", drawn)[:3] == pytest.approx([0.0, 0.2, 0.4])
    assert np.isnan(recenter(0.2, "d_prime", np.array([1.0, np.inf, np.inf]))).all()
    assert np.isnan(recenter(0.2, "d_prime", np.full(2, np.nan))).all()
    with np.errstate(all="raise"):
        assert np.isnan(recenter(-np.inf, "d_prime", np.array([1.0, 2.0, np.inf]))).all()
