"""Which tasks of the benchmark a card lacks, and which it has twice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from heareval.formats.columns2021 import TASKS_2021, find_task_2021

PAIRWISE = "pairwise"


@dataclass(frozen=True)
class ResultName:
    """What a result is about.

    Args:
        task: name of the task.
        mode: mode of the task.
        protocol: recorded name of the protocol.
    """

    task: str
    mode: str
    protocol: str

    @property
    def is_pairwise(self) -> bool:
        """Return whether the protocol scores distances."""
        return self.protocol.startswith(f"{PAIRWISE}-")


def list_needed(pairwise: Collection[str]) -> tuple[str, ...]:
    """Return the names of all tasks that may be missing with a reason.

    Args:
        pairwise: names of the tasks that are scored by distances.

    >>> list_needed(["esc50_retrieval"])[-2:]
    ('vox_lingua_top10', 'esc50_retrieval')
    """
    return (*(task.key for task in TASKS_2021), *pairwise)


def find_lacking(results: Sequence[ResultName], pairwise: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the tasks that each protocol lacks, by protocol.

    Protocols that train predictors need all tasks of the leaderboard of 2021. Pairwise tasks may all be left
    out; a protocol that scores one of them needs all.

    Args:
        results: all results of a card.
        pairwise: names of the tasks that are scored by distances.

    >>> find_lacking([ResultName("esc50_retrieval", "full", "pairwise-l1")], ["esc50_retrieval", "timbre"])
    {'pairwise-l1': ('timbre',)}
    """
    lacking = {}
    for protocol in sorted({result.protocol for result in results}):
        mine = [result for result in results if result.protocol == protocol]
        if mine[0].is_pairwise:
            needed, found = tuple(pairwise), {result.task for result in mine}
        else:
            known = [find_task_2021(result.task, result.mode) for result in mine]
            needed, found = tuple(task.key for task in TASKS_2021), {task.key for task in known if task}
        lacking[protocol] = tuple(name for name in needed if name not in found)
    return lacking


def find_repeated(results: Sequence[ResultName]) -> Iterator[str]:
    """Yield a phrase for each task that one protocol has twice.

    Two modes of a task are two tasks only if the leaderboard of 2021 has a column for each.

    >>> list(find_repeated([ResultName("esc50", mode, "hear2021") for mode in ("full", "small")]))
    ['esc50 twice with hear2021: in the modes full and small']
    """
    for task, protocol in dict.fromkeys((each.task, each.protocol) for each in results):
        modes = [each.mode for each in results if (each.task, each.protocol) == (task, protocol)]
        columns = [find_task_2021(task, mode) for mode in modes]
        if len(modes) > 1 and (None in columns or len(set(columns)) < len(modes)):
            yield f"{task} twice with {protocol}: in the modes {' and '.join(modes)}"
