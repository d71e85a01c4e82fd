"""The search for the best settings, and the rounds of a task's splits, for every learner."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from heareval.errors import HearevalError
from heareval.predictions.data import Split, SplitRoles, Task
from heareval.predictions.learners import EvaluationContext, Learner
from heareval.predictions.learners.learner import UNITS_PER_TRAINING, Candidate, Criterion, TrainedModel
from heareval.predictions.protocol import PUBLISHED_GRID_POINTS, Protocol, Settings
from heareval.predictions.results import FoldResult, ModelResult, Run
from heareval.spec import Progress

MIN_TRAINING_ROWS = 2


@dataclass(frozen=True)
class _Trained:
    """A candidate with its model; `number` is its place among the candidates of its search."""

    number: int
    candidate: Candidate
    model: TrainedModel


@dataclass(frozen=True)
class _Search:
    """The search of one seed.

    Args:
        grid: every model of the search, in the order of the candidates.
        best: the candidate with the best validation score.
        fold: the result of its model on the test split of the first round.
    """

    grid: tuple[ModelResult, ...]
    best: Candidate
    fold: FoldResult


@dataclass
class _Meter:
    """Progress of trainings and of tests, in units; a model is tested while others train side by side."""

    total: int
    progress: Progress
    planned: int = 0
    trained: int = 0
    tested: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def train(self, units: int) -> Progress:
        """Return the progress of the next trainings, which take these units together."""
        # Trainings that stop early report less than they planned.
        start = self.trained = self.planned
        self.planned += units

        def report(done: int, total: int) -> None:
            with self.lock:
                self.trained = start + units * done // max(total, 1)
                self.progress(self.trained + self.tested, self.total)

        return report

    def test(self, units: int) -> Progress:
        """Return the progress of the next test, which takes these units."""
        start = self.tested

        def report(done: int, total: int) -> None:
            with self.lock:
                self.tested = start + units * done // max(total, 1)
                self.progress(self.trained + self.tested, self.total)

        return report


def run_protocol(
    context: EvaluationContext, learner: Learner, rounds: Sequence[SplitRoles], progress: Progress
) -> tuple[Run, ...]:
    """Search settings in the first round, train the best ones in the others, and test every round.

    Returns:
        the results of each seed.

    Raises:
        HearevalError: no model of a round has a defined validation score.
    """
    seeds = context.protocol.all_seeds
    candidates = [
        Candidate(seed, rounds[0], settings)
        for seed in seeds
        for settings in learner.candidates(seed, rounds[0])
    ]
    trainings = len(candidates) + len(seeds) * (len(rounds) - 1)
    if context.checkpoints:
        context.checkpoints.begin(trainings)
    tests = len(seeds) * len(rounds)
    meter = _Meter(UNITS_PER_TRAINING * trainings + learner.units_per_test * tests, progress)
    searches = _search_grid(context, learner, candidates, meter)
    folds = {seed: [search.fold] for seed, search in searches.items()}
    others = [
        Candidate(seed, roles, learner.adapt(search.best.settings, roles))
        for seed, search in searches.items()
        for roles in rounds[1:]
    ]
    for trained in _train(learner, others, meter.train(UNITS_PER_TRAINING * len(others))):
        folds[trained.candidate.seed].append(_test(context, learner, trained, meter))
    places = {roles: place for place, roles in enumerate(rounds)}
    progress(meter.total, meter.total)
    return tuple(
        Run(seed, search.grid, tuple(sorted(folds[seed], key=lambda fold: places[fold.roles])))
        for seed, search in searches.items()
    )


def _search_grid(
    context: EvaluationContext, learner: Learner, candidates: Sequence[Candidate], meter: _Meter
) -> Mapping[int, _Search]:
    """Return the search of each seed. The best validation score wins; ties go to the earlier candidate."""
    criterion = learner.criterion
    results: dict[int, dict[int, ModelResult]] = {candidate.seed: {} for candidate in candidates}
    best: dict[int, _Trained] = {}
    # Only the best models are kept, because all of them may fill the memory.
    for trained in _train(learner, candidates, meter.train(UNITS_PER_TRAINING * len(candidates))):
        seed = trained.candidate.seed
        results[seed][trained.number] = trained.model.result
        if seed not in best or _is_better(criterion, trained, best[seed]):
            best[seed] = trained
    searches = {}
    for seed, of_seed in results.items():
        winner = best.pop(seed)
        grid = tuple(of_seed[number] for number in sorted(of_seed))
        searches[seed] = _Search(grid, winner.candidate, _test(context, learner, winner, meter))
    return searches


def _is_better(criterion: Criterion, new: _Trained, best: _Trained) -> bool:
    """Return whether a model replaces the best one so far; models arrive in any order."""
    a, b = new.model.validation.score, best.model.validation.score
    return criterion.is_better(a, b) or (not criterion.is_better(b, a) and new.number < best.number)


def _train(learner: Learner, candidates: Sequence[Candidate], progress: Progress) -> Iterator[_Trained]:
    """Yield trained candidates in the order in which the learner finishes them."""
    if candidates:
        for number, model in learner.fit(candidates, progress):
            yield _Trained(number, candidates[number], model)


def _test(context: EvaluationContext, learner: Learner, trained: _Trained, meter: _Meter) -> FoldResult:
    """Return the scores of a model on the test split of its round."""
    roles, model, kind = trained.candidate.roles, trained.model, context.kind
    if math.isnan(model.validation.score):
        # Its weights are those before training.
        raise _no_defined_score(context, learner.criterion.name, context.splits[roles.valid])
    split = context.splits[roles.test]
    progress = meter.test(learner.units_per_test)
    probabilities = kind.shape_rows(split, model.predict(split.x, progress))
    progress(1, 1)
    predictions = kind.predict(split, probabilities, model.validation.postprocessing)
    return FoldResult(roles, model.result, kind.score(split.name, predictions), predictions)


def _no_defined_score(context: EvaluationContext, criterion: str, valid: Split) -> HearevalError:
    missing = "" if criterion == "loss" else context.kind.describe_missing(valid, criterion)
    return HearevalError(
        f"no model of {context.task.name} can be selected on split {valid.name}",
        got=f"{criterion} undefined in every validation",
        expected=missing or "a training that converges",
    )


def describe_short_trainings(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a sentence if trainings were still improving when they ended, in the words of the scores file.

    A network whose best validation is the last one that its settings allow would probably have become better.
    With too few epochs the score says how fast a predictor learns from an embedding, and may rank models
    wrongly. Only tested networks matter, unless half of all trainings are affected.
    """
    tested = [fold.model for run in runs for fold in run.folds]
    # The model of the first fold is one of the grid.
    trained = [model for run in runs for model in (*run.grid, *(fold.model for fold in run.folds[1:]))]
    short, short_tested = sum(map(_is_cut_short, trained)), sum(map(_is_cut_short, tested))
    # Pairwise tasks train nothing.
    if not trained or (not short_tested and 2 * short < len(trained)):
        return ()
    chosen = "the chosen one" if len(tested) == 1 else f"{short_tested} of the {len(tested)} tested ones"
    among = f", {chosen} among them" if short_tested else ""
    return (
        f"{short} of {len(trained)} trainings were still improving at their last epoch{among}: with more "
        "epochs the ranking of models may differ. For a quick look use --probe linear, which has no epochs",
    )


def _is_cut_short(model: ModelResult) -> bool:
    """Return whether the best validation of a network is the last one that its settings allow."""
    return isinstance(model.settings, Settings) and model.best_epoch == model.settings.last_validation


def describe_small_grid(protocol: Protocol, runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a sentence if the task's grid has fewer points than the name of the protocol says."""
    asked, tried = protocol.grid_points, len(runs[0].grid)
    if protocol.probe != "mlp" or asked == PUBLISHED_GRID_POINTS or tried >= asked:
        return ()
    return (f"{tried} grid points were tried, all that this task has, not {asked} as in the protocol's name",)


def check_rows(rounds: Sequence[SplitRoles], splits: Mapping[str, Split]) -> None:
    """Raise HearevalError if a round has too few training rows, or its splits differ in embedding size."""
    for roles in rounds:
        rows = sum(len(splits[name].x) for name in roles.train)
        if rows < MIN_TRAINING_ROWS:
            raise HearevalError(
                f"training data for {roles.test}: splits {', '.join(roles.train)}",
                got=f"{rows} embedding",
                expected=f"at least {MIN_TRAINING_ROWS}",
            )
        dims = {name: splits[name].x.shape[1] for name in (*roles.train, roles.valid, roles.test)}
        if len(set(dims.values())) > 1:
            raise HearevalError(
                "embedding sizes of the splits", got=str(dims), expected="the same size in every split"
            )


def assign_roles(task: Task) -> tuple[SplitRoles, ...]:
    """Return the roles of the splits in each round; with folds, round i tests fold i and validates the next.

    Raises:
        HearevalError: the task lacks splits.
    """
    splits = task.metadata.splits
    if not task.metadata.is_kfold:
        if missing := {"train", "valid", "test"} - set(splits):
            raise HearevalError(
                f"splits of {task.name}",
                got=f"{', '.join(splits)} without {', '.join(sorted(missing))}",
                expected="train, valid, test",
            )
        return (SplitRoles("test", "valid", ("train",)),)
    folds = sorted(splits)
    k = len(folds)
    if k < 3:
        raise HearevalError(
            f"folds of {task.name}", got=str(k), expected="at least 3: to train, validate and test"
        )
    return tuple(
        SplitRoles(
            test=folds[i],
            valid=folds[(i + 1) % k],
            train=tuple(folds[j] for j in range(k) if j not in (i, (i + 1) % k)),
        )
        for i in range(k)
    )
