"""What a run was asked for and did not make, and which failures are the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from heareval.workflow.run import Outcome
from heareval.workflow.step import Step, incomplete_steps


@dataclass(frozen=True)
class Unfinished:
    """Something that was asked for and is not there.

    Args:
        name: a task folder, or a submission on a task folder.
        failed: titles of the steps whose failure is the reason; () if the run ended before.
    """

    name: str
    failed: tuple[str, ...]


def list_unfinished(needed: Mapping[str, Sequence[Step]], outcome: Outcome) -> tuple[Unfinished, ...]:
    """Return what is not there after a run.

    Args:
        needed: by name of each output, the steps that make it.
        outcome: how the run ended.
    """
    unfinished = []
    for name, steps in needed.items():
        if missing := [step for step in steps if not step.complete()]:
            failed = dict.fromkeys(title for step in missing for title in _find_failures(step, outcome))
            unfinished.append(Unfinished(name, tuple(failed)))
    return tuple(unfinished)


def _find_failures(root: Step, outcome: Outcome) -> tuple[str, ...]:
    """Return the titles of the steps whose failure left a step incomplete; () if it is complete.

    Args:
        root: a step of the run.
        outcome: how the run ended.
    """
    failed = {title for title, _ in outcome.failures}
    return tuple(step.title for step in incomplete_steps([root]) if step.title in failed)
