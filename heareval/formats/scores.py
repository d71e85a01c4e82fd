"""The content of test.predicted-scores.json: its types, and their JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from heareval.formats.digests import FileDigest, parse_digest
from heareval.formats.fields import Fields, is_number, shorten
from heareval.formats.kit2021 import list_kit2021_values

# JSON has no infinity.
INFINITE = ("inf", "-inf")
# Resamples of fewer clips or other units say little: with 5, 95 % intervals are about a third too short, with
# 16 about a tenth.
MIN_UNITS_OF_INTERVAL = 16
# What intervals resample unless a pairwise task names an attribute.
TEST_CLIP = "test clip"
# What they resample in retrieval without such an attribute; clips that are only in the gallery are all kept.
QUERY = "query"
# What they resample if listed pairs or triplets fall into many groups that share no clip.
CLIP_GROUP = "group of clips"
# Why there is no interval if the middle of the resampled scores is infinite.
NO_FINITE_RESAMPLES = "half of the resamples or more have no finite score"


@dataclass(frozen=True)
class ScoreEntry:
    """The score of one metric. Numbers are None where they are undefined.

    Args:
        score: mean over folds and seeds. Results of 0.1.0 have None also where it is infinite.
        std: standard deviation over folds; None with one fold, or where a score is infinite.
        interval_95: ends of the 95 % confidence interval; an end is None where it is infinite. None if there
            is no interval, or one that would mean nothing.
        resamples: number of bootstrap resamples with a score.
        undefined_resamples: number of bootstrap resamples without one.
        folds: score of each tested split, the mean over seeds.
        details: further numbers of each tested split, such as precision and recall.
        seed_std: standard deviation over seeds, if there are several.
        seeds: score of each seed, if there are several.
        chance: score of predictions that know nothing about the clips; None also in results of 0.1.0.
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
    chance: float | None = None

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
class ResampledUnits:
    """What confidence intervals resample.

    Args:
        name: the attribute whose values they resample, such as "speaker", or `TEST_CLIP`, `QUERY` or
            `CLIP_GROUP`.
        count: number of different values, test clips, queries or groups.
    """

    name: str
    count: int

    def __str__(self) -> str:
        """Return the number in words.

        >>> str(ResampledUnits("class", 4)), str(ResampledUnits(TEST_CLIP, 1))
        ('4 values of class', '1 test clip')
        """
        # Attributes have no plural that would be right for each of them.
        several = {TEST_CLIP: "test clips", QUERY: "queries", CLIP_GROUP: "groups of clips"}
        if self.count != 1:
            return f"{self.count} {several.get(self.name, f'values of {self.name}')}"
        return f"1 {self.name if self.name in several else f'value of {self.name}'}"


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
        decided_by: what chose the models: the name of a metric, or "loss"; "" in pairwise tasks.
        score_mode: "max" if a higher value of that is better, else "min"; "" in results of 0.1.0. In pairwise
            tasks it is about the first metric.
        embedding_path: `SUBMISSION/TASK`; "" in results of 0.1.0.
        runs: the models, one run for each seed.
        labels: size of the vocabulary.
        clips: number of clips of each split.
        versions: releases of the packages that computed the scores.
        predictions: digest of the file with the predictions; None in results of 0.1.0.
        resampled_units: what the intervals of a pairwise task resample; None means the test clips.
        threads: number of threads of each network in training, on which its last bits depend; None for
            probes, distances and GPUs, and in results of 0.1.0.
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
    score_mode: str
    embedding_path: str
    runs: tuple[RunEntry, ...]
    labels: int
    clips: Mapping[str, int]
    device: str
    deterministic: bool
    seconds: float
    versions: Mapping[str, Any]
    predictions: FileDigest | None = None
    resampled_units: ResampledUnits | None = None
    threads: int | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Return the names of the metrics, the task's first metric first."""
        return tuple(self.scores)

    @property
    def tested_clips(self) -> int:
        """Return the number of clips in all tested splits."""
        return sum(self.clips[fold.test] for fold in self.runs[0].folds)

    @property
    def units(self) -> ResampledUnits:
        """Return what the confidence intervals resample."""
        return self.resampled_units or ResampledUnits(TEST_CLIP, self.tested_clips)


def defined_or_none(value: float) -> float | None:
    """Return a number as results hold it: None instead of NaN.

    >>> defined_or_none(0.5), defined_or_none(math.nan)
    (0.5, None)
    """
    return None if math.isnan(value) else float(value)


def number_to_json(value: Any) -> Any:
    """Return a value for JSON, which has no infinity: "inf" and "-inf" stand for it, also inside a value.

    >>> number_to_json({"score": math.inf, "folds": [0.5, None]})
    {'score': 'inf', 'folds': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: number_to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [number_to_json(each) for each in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """Return the content of a scores file as JSON values, in the order of the file.

    The first seed's models stand at the top level, those of the other seeds under `more_seeds`. The keys of
    2021 come last.
    """
    first, *others = scores.runs
    values: dict[str, Any] = {}
    for key, value in vars(scores).items():
        if key == "scores":
            values[key] = {metric: score_to_json(score) for metric, score in value.items()}
        elif key == "runs":
            values |= run_to_json(first)
            values |= {"seeds": len(scores.runs), "more_seeds": [run_to_json(run) for run in others]}
        elif key in ("predictions", "resampled_units"):
            values |= {} if value is None else {key: asdict(value)}
        elif key == "threads":
            values |= {} if value is None else {key: value}
        else:
            values[key] = value
    # Ours win, so a split that is named like one of our keys has no key of 2021.
    return dict(number_to_json({**values, **list_kit2021_values(scores), **values}))


def explain_no_interval(units: ResampledUnits, low: float, high: float, value: float) -> str:
    """Return why an interval of resampled scores means nothing, "" if it means something.

    Args:
        units: what is resampled.
        low: the lower end of the interval.
        high: the upper end.
        value: the score, or the difference of two.

    >>> explain_no_interval(ResampledUnits("test clip", 12), 0.4, 0.6, 0.5)
    '12 test clips are fewer than 16'
    >>> explain_no_interval(ResampledUnits("speaker", 500), 1.0, 1.0, 1.0)
    'all resamples have the same score'
    """
    if units.count < MIN_UNITS_OF_INTERVAL:
        return f"{units} {'is' if units.count == 1 else 'are'} fewer than {MIN_UNITS_OF_INTERVAL}"
    # Sums of resamples round differently.
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-9):
        return "all resamples have the same score"
    # The mean over many folds may be far from those of the resamples if few clips decide each fold.
    return "" if low <= value <= high else "it would not contain the score"


def drop_intervals(scores: Scores) -> Scores:
    """Return scores without the intervals that mean nothing, with a sentence on these under `problems`."""
    kept, reasons, units = dict(scores.scores), dict[str, list[str]](), scores.units
    for metric, score in scores.scores.items():
        if score.interval_95 is not None:
            low, high = interval_bounds(score.interval_95)
            if why := explain_no_interval(units, low, high, score.value):
                kept[metric] = replace(score, interval_95=None)
                reasons.setdefault(why, []).append(metric)
        elif math.isfinite(score.value) and score.resamples == 0 < score.undefined_resamples:
            why = explain_no_interval(units, -math.inf, math.inf, score.value)
            reasons.setdefault(why or NO_FINITE_RESAMPLES, []).append(metric)
    told = [f"no 95 % interval of {', '.join(metrics)}: {why}" for why, metrics in reasons.items()]
    # Sentences of the second kind are in the file already when it is read again.
    return replace(scores, scores=kept, problems=tuple(dict.fromkeys((*scores.problems, *told))))


def interval_bounds(ends: tuple[float | None, float | None]) -> tuple[float, float]:
    """Return the ends of an interval, infinite where they are None.

    >>> interval_bounds((0.5, None))
    (0.5, inf)
    """
    low, high = ends
    return -math.inf if low is None else low, math.inf if high is None else high


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


def parse_scores(fields: Fields) -> Scores:
    """Return the scores that the JSON object of a scores file describes.

    Raises:
        HearevalError: a value is missing or wrong.
    """
    metrics = fields.object("scores")
    if not metrics.values:
        raise fields.error("scores", "no metric", "at least one")
    runs = (_parse_run(fields), *map(_parse_run, fields.objects("more_seeds", ())))
    if (seeds := fields.integer("seeds", len(runs))) != len(runs):
        raise fields.error("seeds", str(seeds), f"{len(runs)}, as there are models of")
    clips = fields.counts("clips")
    for fold in runs[0].folds:
        if fold.test not in clips:
            raise fields.error("clips", f"no {fold.test}", "the number of clips of every tested split")
    tested = [fold.test for fold in runs[0].folds]
    for run in runs[1:]:
        if (others := [fold.test for fold in run.folds]) != tested:
            got, expected = shorten(others), f"the tested splits of the first seed, {shorten(tested)}"
            raise fields.error("more_seeds", got, expected)
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
        score_mode=fields.one_of("score_mode", ("max", "min"), ""),
        embedding_path=fields.text("embedding_path", ""),
        runs=runs,
        labels=fields.integer("labels", 0),
        clips=clips,
        device=fields.text("device", ""),
        deterministic=fields.flag("deterministic", True),
        seconds=fields.number("seconds", 0.0),
        versions=fields.mapping("versions", {}),
        predictions=parse_digest(fields.object("predictions")) if "predictions" in fields else None,
        resampled_units=_parse_units(fields.object("resampled_units"))
        if "resampled_units" in fields
        else None,
        threads=fields.integer("threads", None),
    )


def _parse_units(fields: Fields) -> ResampledUnits:
    return ResampledUnits(fields.text("name"), fields.integer("count"))


def _parse_score(fields: Fields, tested: Sequence[str]) -> ScoreEntry:
    folds = _optional_numbers(fields.object("folds"))
    if sorted(folds) != sorted(tested):
        expected = f"the tested splits {', '.join(tested)}"
        raise fields.error("folds", shorten(list(folds)), expected)
    details = fields.object("details", {})
    return ScoreEntry(
        score=_parse_number(fields, "score"),
        std=fields.number("std", None),
        interval_95=_parse_interval(fields),
        resamples=fields.integer("resamples", 0),
        undefined_resamples=fields.integer("undefined_resamples", 0),
        folds=folds,
        details={split: _optional_numbers(details.object(split)) for split in details},
        seed_std=fields.number("seed_std", None),
        seeds=_optional_numbers(fields.object("seeds")) if "seeds" in fields else None,
        chance=fields.number("chance", None),
    )


def _optional_numbers(fields: Fields) -> dict[str, float | None]:
    return {key: _parse_number(fields, key) for key in fields}


def _parse_number(fields: Fields, key: str) -> float | None:
    value = fields.values.get(key)
    number: float | None = float(value) if value in INFINITE else fields.number(key, None)
    return number


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
    return is_number(value)


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
        validation_score=_parse_number(fields, "validation_score"),
        postprocessing=values or None,
        best_epoch=fields.integer("best_epoch", None),
        epochs=fields.integer("epochs", None),
        seconds=fields.number("seconds", 0.0),
        curve=_parse_curve(fields),
    )


def _parse_curve(fields: Fields) -> tuple[tuple[int, float | None], ...]:
    points = fields.values.get("curve") or []
    is_curve = isinstance(points, list) and all(
        isinstance(point, list)
        and len(point) == 2
        and _is_optional_number(point[0])
        and (_is_optional_number(point[1]) or point[1] in INFINITE)
        for point in points
    )
    if not is_curve:
        raise fields.error("curve", shorten(points), "a list of epochs and scores")
    return tuple((epoch, float(score) if score in INFINITE else score) for epoch, score in points)
