"""What the functions of heareval.api take and return."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heareval.embeddings.embedding_format import DEFAULT_FORMAT, EmbeddingFormat
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.embeddings.validate import Finding
from heareval.leaderboard.board import Board
from heareval.leaderboard.changes import CardChanges
from heareval.predictions.protocol import Protocol
from heareval.terminal import prepare_line
from heareval.workflow.cleaning import Leftover
from heareval.workflow.jobs import CorpusRequest
from heareval.workflow.machine import ANY_MACHINE, Machine, check_fields, count_cores, is_whole
from heareval.workflow.run import Outcome
from heareval.workflow.unfinished import Unfinished


def notify_stderr(line: str) -> None:
    """Write a line to standard error, if there is one, folded on a terminal, which it cannot control."""
    if sys.stderr is not None:
        sys.stderr.write(f"{prepare_line(line, sys.stderr)}\n")


@dataclass(frozen=True)
class RunSettings:
    """How a run is carried out; nothing here changes what it produces.

    Args:
        num_workers: worker processes that run side by side.
        scheduler_url: a luigid that several machines share; "" schedules in this process.
        machine: the GPUs to use, how long to wait for a model, and how networks share the cores.
        scratch_dir: a folder of this machine for what a run throws away; "" for that of the system.
        notify: receives lines about what takes long or went wrong, while the run goes on. Those about what
            went wrong begin with `error:`.
        is_quiet: whether to show no progress.

    Raises:
        HearevalError: a value of a wrong type, or out of range.
    """

    num_workers: int = field(default_factory=count_cores)
    scheduler_url: str = ""
    machine: Machine = ANY_MACHINE
    scratch_dir: str = ""
    notify: Callable[[str], None] = notify_stderr
    is_quiet: bool = False

    def __post_init__(self) -> None:
        check_fields(
            self,
            num_workers=(lambda value: is_whole(value, 1), "a whole number of at least 1"),
            scheduler_url=(lambda value: isinstance(value, str), "a text"),
            machine=(lambda value: isinstance(value, Machine), "a Machine"),
            scratch_dir=(lambda value: isinstance(value, str), "a path as text"),
            notify=(callable, "a function"),
            is_quiet=(lambda value: isinstance(value, bool), "True or False"),
        )


@dataclass(frozen=True)
class EvaluationRequest:
    """Submissions to score, and the tasks to score them on.

    Args:
        submissions: the submissions and the options that describe them.
        corpus: the tasks, and the data they are prepared from.
        embedding_format: how embeddings are computed and stored.
        protocol: how predictors are trained and selected.
        any_rate: whether models may have rates that tasks are not prepared at; they get resampled clips.
        sample_rates: rates to prepare beside those that the models ask for, in Hz.
    """

    submissions: SubmissionArgs
    corpus: CorpusRequest
    embedding_format: EmbeddingFormat = DEFAULT_FORMAT
    protocol: Protocol = field(default_factory=Protocol)
    any_rate: bool = False
    sample_rates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`.

    Args:
        outcome: how the run ended.
        task_folders: the published folders that are complete. A folder of an earlier run that differs from
            what was asked for is left out.
        tasks: number of tasks that were asked for.
        unfinished: the tasks whose folder or tarballs are not complete.
        not_packed: task folders without tarballs, because the corpus may not be redistributed.
    """

    outcome: Outcome
    task_folders: tuple[Path, ...]
    tasks: int = 0
    unfinished: tuple[Unfinished, ...] = ()
    not_packed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedded:
    """The result of `embed`.

    Args:
        outcome: how the run ended.
        folders: the folders of embeddings that are complete.
        submission: the submission's name.
        left_out: the submission on tasks that it has no embeddings for.
    """

    outcome: Outcome
    folders: tuple[Path, ...]
    submission: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """The result of `predict`, `evaluate` and `run_demo`.

    Args:
        outcome: how the run ended.
        scores: the scores files that are complete.
        task_folders: the published task folders that are complete.
        submissions: names of the evaluated submissions.
        not_opened: submissions that could not be opened, or not for some tasks.
        unfinished: the submissions on tasks that have no score.
    """

    outcome: Outcome
    scores: tuple[Path, ...]
    task_folders: tuple[Path, ...] = ()
    submissions: tuple[str, ...] = ()
    not_opened: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()


@dataclass(frozen=True)
class Validated:
    """The result of `validate`.

    Args:
        module: the submission's module.
        findings: the result of every check.
        ran_on: versions, framework and device.
        log_folder: what the model wrote.
    """

    module: str
    findings: tuple[Finding, ...]
    ran_on: Mapping[str, str]
    log_folder: Path


@dataclass(frozen=True)
class LeaderboardWritten:
    """What came of writing a leaderboard.

    Args:
        board: what the site shows.
        folder: the site.
        recomputed: number of cards whose scores are right.
        submitted: number of cards that were not checked.
        refused: number of cards that were left out.
    """

    board: Board
    folder: Path
    recomputed: int
    submitted: int
    refused: int


@dataclass(frozen=True)
class ChangesChecked:
    """What came of checking the cards that a branch changes.

    Args:
        changes: which cards these are.
        passed: number of cards of which every number was computed again and is right.
        problems: sentences on why the branch is refused.
        lacking: what the checker lacks: a sentence for each result without references.
        notes: what a reviewer should know, a line each: removed cards, changed facts, the new rows.
    """

    changes: CardChanges
    passed: int
    problems: tuple[str, ...]
    lacking: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """Return all that is to be told, the most important first."""
        changes = self.changes
        counts = [f"{len(changes.added)} cards added", f"{len(changes.changed)} changed"]
        counts += [f"{len(changes.removed)} removed", f"{self.passed} recomputed"]
        word = "refused" if self.problems else "not checked" if self.lacking else "ok"
        problems = [f"refused: {each}" for each in self.problems]
        lacking = [f"not checked: {each}" for each in self.lacking]
        return (f"{word}: {', '.join(counts)}", *problems, *lacking, *self.notes)


@dataclass(frozen=True)
class Cleaned:
    """What came of cleaning.

    Args:
        leftovers: what nothing needs.
        is_deleted: whether it was deleted, or only listed.
        is_in_use: whether a run uses the work folder, so that nothing can be deleted now.
        failures: a line for each path that could not be deleted.
    """

    leftovers: tuple[Leftover, ...]
    is_deleted: bool
    is_in_use: bool
    failures: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes on disk that deleting all of it frees."""
        return sum(each.bytes for each in self.leftovers)
