"""What scripts and notebooks call: `heareval.evaluate(model, tasks=[...])` and its like.

These functions take a model and tasks as Python has them. They also take the requests of `heareval.api`, and
then do exactly what the functions of that module do. The short forms raise the errors of a run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from heareval import api, progress
from heareval.api import (
    DEFAULT_PLACES,
    CorpusRequest,
    EmbeddingFormat,
    EvaluationRequest,
    Overwrite,
    Places,
    Prepared,
    Protocol,
    RunSettings,
    Scored,
    SubmissionArgs,
    Validated,
)
from heareval.embeddings.embedding_format import DEFAULT_FORMAT
from heareval.embeddings.live import LiveSubmission, embed_live, find_word, open_live
from heareval.embeddings.submission_config import DEVICES
from heareval.errors import HearevalError
from heareval.files import dump_json
from heareval.formats.fields import shorten
from heareval.formats.scores import Scores
from heareval.frames import make_frame
from heareval.layout import name_limited
from heareval.leaderboard.overview import (
    Overview,
    OverviewRequest,
    format_overview,
    make_overview,
    name_submission,
)
from heareval.spec import DEFAULT_SAMPLE_RATES
from heareval.workflow.jobs import find_demo_corpora, find_jobs
from heareval.workflow.run import Outcome
from heareval.workflow.run_file import is_run_file, read_run

if TYPE_CHECKING:
    import pandas

    from heareval.predictions.compare import Comparison
    from heareval.predictions.multiple_comparisons import MultipleComparison


@dataclass(frozen=True, repr=False)
class Results(Sequence[Scores]):
    """Scores of submissions on tasks: a sequence of `Scores`, and tables of them.

    In a notebook it shows as a table of submissions by tasks; so does `print`.

    Args:
        scores: the scores, one for each submission, task and protocol.
        failures: a line on each thing that was asked for and has no score.

    Example: `heareval.results("embeddings").to_markdown("scores.md")`
    """

    scores: tuple[Scores, ...]
    failures: tuple[str, ...] = ()

    @overload
    def __getitem__(self, place: int) -> Scores: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Scores, ...]: ...
    def __getitem__(self, place: int | slice) -> Scores | tuple[Scores, ...]:
        """Return the scores at a place."""
        return self.scores[place]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Scores]:
        return iter(self.scores)

    def __add__(self, others: Results) -> Results:
        """Return these results and others in one.

        Example: `(heareval.evaluate("a.py") + heareval.evaluate("b.py")).to_latex()`
        """
        return Results(self.scores + others.scores, self.failures + others.failures)

    def __repr__(self) -> str:
        return "\n".join([self._format("text", None), *(f"failed: {line}" for line in self.failures)])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return self._format("html", None)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a dictionary for each submission, task, protocol and metric; scores are not times 100.

        The keys are submission, task, task_folder, version, mode, protocol, metric, score, low and high (the
        ends of the 95 % interval), chance, std (over folds), seed_std and clips (that were tested). What is
        undefined is None.

        Example: `{each["task"]: each["score"] for each in results.to_dicts()}`
        """
        rows = []
        for each in self.scores:
            folder = each.embedding_path.rpartition("/")[2] or f"{each.task}-{each.version}-{each.mode}"
            named = {"submission": name_submission(each), "task": each.task, "task_folder": folder}
            named |= {"version": each.version, "mode": each.mode, "protocol": each.protocol}
            for metric, entry in each.scores.items():
                low, high = entry.interval_95 or (None, None)
                numbers = {"score": entry.score, "low": low, "high": high, "chance": entry.chance}
                numbers |= {"std": entry.std, "seed_std": entry.seed_std, "clips": each.tested_clips}
                rows.append({**named, "metric": metric, **numbers})
        return rows

    def to_frame(self) -> pandas.DataFrame:
        """Return `to_dicts` as a pandas.DataFrame, with a row for each dictionary; undefined numbers are NaN.

        The columns submission, task, task_folder, protocol and metric are also those of the data frame of
        `heareval.compare`, so that both can be merged.

        Raises:
            HearevalError: pandas is not installed.

        Example: `results.to_frame().pivot_table("score", "submission", "task")`
        """
        numbers = ("score", "low", "high", "chance", "std", "seed_std")
        return make_frame(self.to_dicts(), "Results.to_frame", numbers=numbers)

    def to_csv(self, path: str | Path | None = None, **shown: Any) -> str:
        """Return the table of submissions by tasks as CSV, and write it if a path is given.

        Args:
            path: a file, which is replaced.
            shown: `metric`, `protocol` and `has_intervals` of `OverviewRequest`.

        Raises:
            HearevalError: no result has this metric or protocol.

        Example: `results.to_csv("scores.csv", has_intervals=True)`
        """
        return self._format("csv", path, **shown)

    def to_markdown(self, path: str | Path | None = None, **shown: Any) -> str:
        """Return the table of submissions by tasks as Markdown; the arguments are those of `to_csv`.

        Example: `print(results.to_markdown())`
        """
        return self._format("md", path, **shown)

    def to_latex(self, path: str | Path | None = None, **shown: Any) -> str:
        """Return the table of submissions by tasks as LaTeX (booktabs); the arguments are those of `to_csv`.

        Example: `results.to_latex("scores.tex", metric="top1_acc")`
        """
        return self._format("latex", path, **shown)

    def to_overview(self, request: OverviewRequest | None = None) -> Overview:
        """Return the table of submissions by tasks as data.

        Raises:
            HearevalError: no result has the metric or the protocol that is asked for.

        Example: `results.to_overview(OverviewRequest(metric="top1_acc")).board.tables[0].columns`
        """
        # It imports torch and scipy, which take seconds.
        from heareval.predictions.cards import list_lower_is_better

        return make_overview(self.scores, list_lower_is_better, request or OverviewRequest())

    def _format(self, form: str, path: str | Path | None, **shown: Any) -> str:
        text = format_overview(self.to_overview(OverviewRequest(**shown)), form)
        if path is not None:
            Path(path).write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8", newline="")
        return text


# --------------------------------------------------------------------------- models and tasks

# Argument of the functions below -> the types that it may have, what that is in words, and the remedy.
_ARGUMENTS: Mapping[str, tuple[tuple[type, ...], str, str]] = {
    "tasks": ((CorpusRequest, str, Iterable), "names of tasks", 'Write tasks="esc50" or tasks=["esc50"].'),
    "mode": ((str, type(None)), "the name of a mode", 'Write mode="full", for example.'),
    "mirror": ((str, os.PathLike), "a folder or URL", 'Write mirror="/data/archives", for example.'),
    "weights": ((str, os.PathLike), "a path or URL", 'Write weights="weights.pt", for example.'),
    "options": ((Mapping, type(None)), "a dictionary", 'Write options={"size": 3}, for example.'),
    "name": ((str,), "a text", 'Write name="my_model", for example.'),
    "device": ((str,), f"one of {', '.join(DEVICES)}", 'Write device="cuda" for a GPU.'),
    "sample_rate": ((int,), "a number of Hz", "Write sample_rate=16000, for example."),
    "protocol": ((Protocol, type(None)), "a Protocol", 'Write protocol=heareval.Protocol(probe="linear").'),
    "embedding_format": (
        (EmbeddingFormat,),
        "an EmbeddingFormat",
        'Write embedding_format=heareval.EmbeddingFormat(dtype="float16").',
    ),
    "places": ((Places,), "Places", 'Write heareval.Places(embeddings="my_folder").'),
    "settings": ((RunSettings, type(None)), "RunSettings", "Write settings=heareval.RunSettings()."),
}


def _check_arguments(**given: Any) -> None:
    """Raise HearevalError for an argument of a wrong type, with an example of a right one."""
    for name, value in given.items():
        types, expected, remedy = _ARGUMENTS[name]
        if not isinstance(value, types) or (name == "device" and value not in DEVICES):
            raise HearevalError(name, got=shorten(value), expected=expected, remedy=remedy)


def _describe_submission(
    model: Any,
    *,
    weights: str | os.PathLike[str] = "",
    options: Mapping[str, Any] | None = None,
    name: str = "",
    device: str = "auto",
) -> SubmissionArgs | None:
    """Return how a worker process finds a model; None if it exists in this process only."""
    _check_arguments(weights=weights, options=options, name=name, device=device)
    if isinstance(model, str) and not model.strip():
        expected = "a module, a file, or an object with the HEAR API"
        raise HearevalError("model", got=repr(model), expected=expected)
    described = {
        "weights": os.fspath(weights) or None,
        "options": dump_json(dict(options)) if options else None,
        "name": name or None,
        "device": None if device == "auto" else device,
    }
    if isinstance(model, SubmissionArgs):
        given = {key: value for key, value in described.items() if value is not None}
        return replace(model, **given)  # type: ignore[arg-type]
    word = find_word(model)
    return SubmissionArgs((word,), **described) if word else None  # type: ignore[arg-type]


def _describe_corpus(
    tasks: CorpusRequest | str | Sequence[str], mode: str | None, mirror: str | os.PathLike[str]
) -> CorpusRequest:
    """Return the request for some tasks, whether it is one already, or names with or without commas."""
    _check_arguments(tasks=tasks)
    if isinstance(tasks, CorpusRequest):
        if mode is not None or os.fspath(mirror):
            raise HearevalError(
                "mode or mirror",
                got="one beside a CorpusRequest",
                expected="each in one place",
                remedy="Write them into the CorpusRequest.",
            )
        return tasks
    _check_arguments(mode=mode, mirror=mirror)
    several = [tasks] if isinstance(tasks, str) else list(tasks)
    for each in several:
        if not isinstance(each, str):
            raise HearevalError(
                "tasks", got=shorten(each), expected="names of tasks", remedy='Write tasks=["esc50"].'
            )
    names = tuple(filter(None, (name.strip() for each in several for name in each.split(","))))
    return CorpusRequest(names, mode=mode, mirrors=tuple(filter(None, [os.fspath(mirror)])))


# --------------------------------------------------------------------------- functions


@overload
def prepare(
    tasks: CorpusRequest,
    places: Places = ...,
    *,
    sample_rates: Sequence[int] = ...,
    force: bool = ...,
    makes_tarballs: bool = ...,
    settings: RunSettings | None = ...,
) -> Prepared: ...
@overload
def prepare(
    tasks: str | Sequence[str],
    places: Places = ...,
    *,
    mode: str | None = ...,
    mirror: str | os.PathLike[str] = ...,
    sample_rates: Sequence[int] = ...,
    force: bool = ...,
    makes_tarballs: bool = ...,
    settings: RunSettings | None = ...,
) -> Prepared: ...
def prepare(
    tasks: CorpusRequest | str | Sequence[str],
    places: Places = DEFAULT_PLACES,
    *,
    mode: str | None = None,
    mirror: str | os.PathLike[str] = "",
    sample_rates: Sequence[int] = DEFAULT_SAMPLE_RATES,
    force: bool = False,
    makes_tarballs: bool = True,
    settings: RunSettings | None = None,
) -> Prepared:
    """Make the folders and tarballs of tasks.

    Args:
        tasks: names of tasks, or of groups such as `open`. A CorpusRequest is prepared as by
            `heareval.api.prepare`, which returns failures instead of raising them.
        places: the folders to write to.
        mode: the edition, such as `5h`, `full` or `demo`; None means each task's default mode.
        mirror: folder or URL to search for archives first.
        sample_rates: rates to write, in Hz.
        force: start although a disk seems to have too little room.
        makes_tarballs: whether tarballs are made besides the folders.
        settings: how the run is carried out.

    Raises:
        HearevalError: an unknown task or mode, damaged data, or too little room on a disk.
        RunError: a step failed.

    Example: `heareval.prepare("esc50", sample_rates=[16000]).task_folders`
    """
    _check_arguments(places=places, settings=settings)
    done = api.prepare(
        _describe_corpus(tasks, mode, mirror),
        places,
        sample_rates=sample_rates,
        force=force,
        makes_tarballs=makes_tarballs,
        settings=settings,
    )
    if not isinstance(tasks, CorpusRequest):
        done.outcome.raise_if_failed()
    return done


@overload
def evaluate(
    model: EvaluationRequest,
    places: Places = ...,
    *,
    overwrite: Overwrite = ...,
    force: bool = ...,
    settings: RunSettings | None = ...,
) -> Scored: ...
@overload
def evaluate(
    model: Any,
    places: Places = ...,
    *,
    tasks: CorpusRequest | str | Sequence[str] = ...,
    mode: str | None = ...,
    mirror: str | os.PathLike[str] = ...,
    weights: str | os.PathLike[str] = ...,
    options: Mapping[str, Any] | None = ...,
    name: str = ...,
    device: str = ...,
    sample_rate: int = ...,
    limit: int | None = ...,
    protocol: Protocol | None = ...,
    embedding_format: EmbeddingFormat = ...,
    any_rate: bool = ...,
    raise_error: bool = ...,
    overwrite: Overwrite = ...,
    force: bool = ...,
    settings: RunSettings | None = ...,
) -> Results: ...
def evaluate(
    model: Any,
    places: Places = DEFAULT_PLACES,
    *,
    tasks: CorpusRequest | str | Sequence[str] = "open",
    mode: str | None = None,
    mirror: str | os.PathLike[str] = "",
    weights: str | os.PathLike[str] = "",
    options: Mapping[str, Any] | None = None,
    name: str = "",
    device: str = "auto",
    sample_rate: int = 0,
    limit: int | None = None,
    protocol: Protocol | None = None,
    embedding_format: EmbeddingFormat = DEFAULT_FORMAT,
    any_rate: bool = False,
    raise_error: bool = True,
    overwrite: Overwrite = "only-missing",
    force: bool = False,
    settings: RunSettings | None = None,
) -> Scored | Results:
    """Score a model: prepare the tasks, compute embeddings, train predictors.

    A model that has a name (a module, a path, a TOML file, a class in a module) is loaded by a separate
    process, as it lies on disk, and what is complete is never computed again. Any other object is embedded in
    this process: its name in the results ends in `-unfingerprinted`, and its scores are kept in the returned
    object only, because nothing would tell when they are out of date.

    Args:
        model: name of a module, path of a Python or TOML file, module, class or object with the HEAR API, or
            a function or torch.nn.Module that returns scene embeddings `(clips, size)` for waves
            `(clips, samples)`. A SubmissionArgs says more about a model. The file of a run, such as
            `run.toml`, says everything: beside it only raise_error, overwrite, force and settings may be
            given. An EvaluationRequest is evaluated as by `heareval.api.evaluate`: of the arguments after
            `places`, only overwrite, force and settings apply.
        places: the folders to write to.
        tasks: names of tasks, or of groups such as `open`; a CorpusRequest says more about their data.
        mode: the edition, such as `5h`, `full` or `demo`; None means each task's default mode.
        mirror: folder or URL to search for archives first.
        weights: first argument of load_model; "" leaves it out.
        options: further arguments of load_model.
        name: what results call the model; "" makes a name.
        device: where the model runs: `auto`, `cpu` or `cuda`.
        sample_rate: of the waves that a function takes, in Hz; 0 takes its attribute `sample_rate`.
        limit: how many clips of each split are embedded and scored at most, for smoke tests; the names of the
            results say so. None means all, or what the protocol says.
        protocol: how predictors are trained; None means the published protocol.
        embedding_format: how embeddings are computed and stored.
        any_rate: resample clips for a model at a rate that tasks are not prepared at.
        raise_error: raise an error if anything that was asked for has no score; it does not stop the other
            tasks. False lists it in `failures`.
        overwrite: `only-missing` computes what is missing or out of date, `scores` also complete scores, and
            `all` also complete embeddings. What is there is replaced when the new one is complete. New
            embeddings take the place of all scores of the old ones, too.
        force: start although a disk seems to have too little room.
        settings: how the run is carried out.

    Raises:
        HearevalError: an unknown task or mode, a model that cannot be opened, or a disk without room.
        RunError: a step failed.

    Example: `heareval.evaluate(my_model, tasks="esc50", protocol=heareval.Protocol(probe="linear"))`
    """
    _check_arguments(places=places, settings=settings)
    if isinstance(model, EvaluationRequest):
        return api.evaluate(model, places, force=force, overwrite=overwrite, settings=settings)
    if isinstance(model, (str, os.PathLike)) and is_run_file(os.fspath(model)):
        said = {
            "places": places != DEFAULT_PLACES,
            "tasks": tasks != "open",
            "mode or mirror": mode is not None or bool(os.fspath(mirror)),
            "weights, options, name or device": bool(os.fspath(weights) or options or name)
            or device != "auto",
            "sample_rate": bool(sample_rate),
            "protocol": protocol is not None,
            "limit": limit is not None,
            "embedding_format or any_rate": embedding_format != DEFAULT_FORMAT or any_rate,
        }
        return _evaluate_run_file(
            Path(model),
            [key for key, is_said in said.items() if is_said],
            raise_error=raise_error,
            force=force,
            overwrite=overwrite,
            settings=settings,
        )
    _check_arguments(protocol=protocol, embedding_format=embedding_format, sample_rate=sample_rate)
    settings, protocol = settings or RunSettings(), protocol or Protocol()
    if limit is not None:
        protocol = replace(protocol, limit=limit)
    corpus = _describe_corpus(tasks, mode, mirror)
    described = _describe_submission(model, weights=weights, options=options, name=name, device=device)
    protocol = api.place_on_machine(protocol, settings.machine)
    if described:
        request = EvaluationRequest(described, corpus, embedding_format, protocol, any_rate)
        scored = api.evaluate(request, places, force=force, overwrite=overwrite, settings=settings)
        return _collect(scored.outcome, scored.scores, scored.not_opened, raise_error=raise_error)
    jobs = find_jobs(find_demo_corpora(corpus, places))
    with open_live(
        model,
        frozenset(job.spec.embedding_type for job in jobs),
        name=name,
        weights=os.fspath(weights),
        options=options,
        device=device,
        sample_rate=sample_rate,
    ) as submission:
        prepared = api.prepare(
            corpus,
            places,
            sample_rates=(submission.sample_rate,),
            force=force,
            makes_tarballs=False,
            settings=settings,
        )
        if raise_error:
            # The scores of the other tasks would be lost.
            prepared.outcome.raise_if_failed()
        with tempfile.TemporaryDirectory(
            prefix="heareval-live-", dir=settings.scratch_dir or None
        ) as temporary:
            folder, failures = Path(temporary) / submission.name, []
            try:
                _embed_here(
                    submission,
                    prepared.task_folders,
                    folder,
                    embedding_format,
                    limit=protocol.limit,
                    settings=settings,
                )
            except HearevalError as error:
                if raise_error:
                    raise
                failures.append(str(error))
            embedded = [each for each in sorted(folder.glob("[!.]*")) if each.is_dir()]
            if not embedded:
                return _collect(prepared.outcome, (), failures, raise_error=raise_error)
            scored = api.predict(embedded, protocol, places, settings=settings)
            outcome = prepared.outcome.followed_by(scored.outcome)
            return _collect(outcome, scored.scores, failures, raise_error=raise_error)


def _evaluate_run_file(
    file: Path,
    said: Sequence[str],
    *,
    raise_error: bool,
    force: bool,
    overwrite: Overwrite,
    settings: RunSettings | None,
) -> Results:
    """Carry out the run of a file.

    Args:
        said: the arguments that say what the file is to say.
    """
    if said:
        raise HearevalError(
            f"run {file}",
            got=f"{', '.join(said)} as well",
            expected="the file alone",
            remedy="Write it into the file.",
        )
    run = read_run(file)
    settings = settings or run.settings
    if overwrite == "only-missing":
        overwrite = run.overwrite
    scored = api.evaluate(
        run.request, run.places, force=force or run.force, overwrite=overwrite, settings=settings
    )
    results = _collect(scored.outcome, scored.scores, scored.not_opened, raise_error=raise_error)
    if run.has_reports:
        for path, scores in zip(scored.scores, results, strict=True):
            api.report(path.parent, run.places, protocols=(scores.protocol,), notify=settings.notify)
    return results


def _embed_here(
    submission: LiveSubmission,
    tasks: Sequence[Path],
    folder: Path,
    embedding_format: EmbeddingFormat,
    *,
    limit: int | None,
    settings: RunSettings,
) -> None:
    """Embed tasks in this process, into a folder for each task."""
    folder.mkdir()
    hiding = progress.hide_steps() if settings.is_quiet else contextlib.nullcontext()
    with hiding, progress.show_steps(len(tasks)):
        for task in tasks:
            target = folder / name_limited(task.name, limit)
            title = f"{submission.name} on {target.name}: embeddings"
            with progress.report_step(title, "clips") as report:
                embed_live(submission, task, target, embedding_format, report, limit=limit)


def _collect(
    outcome: Outcome, paths: Sequence[Path], lacking: Sequence[str], *, raise_error: bool
) -> Results:
    """Return the scores of a run, unless something is missing and that is an error.

    Args:
        lacking: what else has no score, a line each.
    """
    if raise_error:
        outcome.raise_if_failed()
        if lacking:
            raise HearevalError("not evaluated", got=", ".join(lacking), remedy="Choose other tasks for it.")
    # torch and scipy take seconds to import.
    from heareval.predictions.stored import read_checked_scores

    failures = list(map(str, outcome.told_failures))
    failures += [outcome.reason] if outcome.reason else []
    return Results(tuple(map(read_checked_scores, paths)), (*failures, *lacking))


def validate(
    model: Any,
    places: Places = DEFAULT_PLACES,
    *,
    weights: str | os.PathLike[str] = "",
    options: Mapping[str, Any] | None = None,
    device: str = "auto",
    **settings: Any,
) -> Validated:
    """Check a model for every fault that would make a run fail or lower its scores.

    Args:
        model: as `evaluate` takes it; it must have a name, because the checks run in a separate process.
        places: the folders to write to.
        weights: first argument of load_model; "" leaves it out.
        options: further arguments of load_model.
        device: where the model runs: `auto`, `cpu` or `cuda`.
        settings: `limits`, `on_finding` and `settings` of `heareval.api.validate`.

    Raises:
        HearevalError: the model exists in this process only.

    Example: `[each for each in heareval.validate("my_model.py").findings if each.result != "ok"]`
    """
    described = _describe_submission(model, weights=weights, options=options, device=device)
    if described is None:
        raise HearevalError(
            "model to validate",
            got=f"an object of type {type(model).__name__} that exists in this process only",
            expected="what a separate process can load: a module, a class in one, or a path",
            remedy="Write it into a Python file, and give the path.",
        )
    return api.validate(described, places, **settings)


@overload
def compare(a: str | os.PathLike[str], b: str | os.PathLike[str], places: Places = ...) -> Comparison: ...
@overload
def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    c: str | os.PathLike[str],
    /,
    *others: str | os.PathLike[str],
    places: Places = ...,
) -> MultipleComparison: ...
def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *others: str | os.PathLike[str] | Places,
    places: Places = DEFAULT_PLACES,
) -> Comparison | MultipleComparison:
    """Compare submissions on every task and protocol that two or more have scores for.

    Of three or more, each is compared with each, and p is corrected for the number of comparisons by Holm's
    method. The result has `to_dicts()`, `to_frame()` and `to_markdown()`, however many submissions there are.

    Args:
        a: name of a submission in `places.embeddings`, or the path of its folder.
        b: the same for the second one.
        others: the same for any others.
        places: where their embeddings and scores are.

    Raises:
        HearevalError: no such submission, one that is named twice, or nothing to compare.

    Example: `heareval.compare("my_model", "heareval.embeddings.baseline").differences[0].p`
    """
    names = [os.fspath(a), os.fspath(b)]
    for each in others:
        # Of two submissions, the third argument may be the places.
        if isinstance(each, Places):
            places = each
        else:
            names.append(os.fspath(each))
    if len(names) == 2:
        return api.compare(names[0], names[1], places)
    return api.compare_each(names, places)


def report(folder: str | os.PathLike[str], places: Places = DEFAULT_PLACES, **asked: Any) -> list[Path]:
    """Write a report on each result in a folder of embeddings, and return the folders of the reports.

    Args:
        folder: `embeddings/SUBMISSION/TASK`, or `embeddings/SUBMISSION` for all of its tasks; or the name of
            a submission in `places.embeddings`.
        places: where the task folders and the embeddings are.
        asked: `protocols`, `clips`, `out` and `notify` of `heareval.api.report`.

    Raises:
        HearevalError: there are no scores, or not those of a protocol that is named.

    Example: `heareval.report("my_model")[0] / "report.json"`
    """
    path = _find_embeddings(folder, places)
    tasks = [each for each in sorted(path.glob("[!.]*")) if any(each.glob("test.*predicted-scores.json"))]
    return [written for task in tasks or [path] for written in api.report(task, places, **asked)]


def results(*folders: str | os.PathLike[str], places: Places = DEFAULT_PLACES) -> Results:
    """Return the scores of submissions, or in folders of embeddings.

    They are checked against the predictions and labels in the folders, if these are there.

    Args:
        folders: names of submissions in `places.embeddings`, or the paths of `embeddings`,
            `embeddings/SUBMISSION` or `embeddings/SUBMISSION/TASK`. Without any, all submissions.
        places: where the embeddings and scores are.

    Raises:
        HearevalError: a folder has no scores, or a file is damaged.

    Example: `heareval.results("my_model", "heareval.embeddings.baseline").to_frame()`
    """
    _check_arguments(places=places)
    found = [_find_embeddings(each, places) for each in folders] or [Path(places.embeddings)]
    return Results(tuple(each for folder in found for each in api.results(folder)))


def _find_embeddings(name: str | os.PathLike[str], places: Places) -> Path:
    """Return the folder that a path or the name of a submission stands for; a path comes first.

    Raises:
        HearevalError: the name is empty.
    """
    if not os.fspath(name):
        raise HearevalError("folder", got="''", expected="a path, or the name of a submission")
    path = Path(places.embeddings, name)
    return path if path.is_dir() and not Path(name).is_dir() else Path(name)
