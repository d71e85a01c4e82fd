"""Networks that train side by side on a CPU, each with a fixed number of threads.

A small network does not fill many cores, and the last bits of its weights depend on the number of its
threads. With a fixed number, it becomes the same network alone and beside others, and on any number of cores.
Python's threads are enough: a training step holds the interpreter for half a millisecond, and multiplies for
ten to a hundred times as long.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

import torch

from heareval.spec import Progress

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class SideBySide:
    """How networks share the cores of a CPU. Of these numbers, only `threads` decides their last bits.

    Args:
        threads: number of threads of each network.
        most: how many networks train at the same time at most.
    """

    threads: int
    most: int


class _StoppedError(Exception):
    """Ends the work on an item because another one has failed."""


@contextlib.contextmanager
def use_threads(count: int | None) -> Iterator[None]:
    """Let PyTorch compute on so many threads while the block lasts; None leaves the number as it is.

    Example: `with use_threads(1): logits = predict_logits(network, x)`
    """
    if count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_side_by_side(
    run: Callable[[Item, Progress], Made],
    items: Sequence[Item],
    how: SideBySide,
    *,
    units: int,
    progress: Progress,
) -> Iterator[tuple[int, Made]]:
    """Yield the number of each item with what is made of it, as soon as it is made.

    If one fails, its error is raised and the others end when they report progress next. The
    same happens if the caller takes no more of them.

    Args:
        run: makes something of an item in a thread of its own; gets what it reports its progress to.
        units: units of progress of an item.
        progress: receives the units done, and those of all items, from one thread at a time.
    """
    lock, is_stopping = threading.Lock(), threading.Event()
    done, total = [0] * len(items), units * len(items)

    def run_one(number: int) -> Made:
        def report(step: int, steps: int) -> None:
            if is_stopping.is_set():
                raise _StoppedError
            with lock:
                done[number] = units * step // steps
                progress(sum(done), total)

        made = run(items[number], report)
        # A training that stops early reports less than it planned.
        done[number] = units
        return made

    # OpenMP and MKL have a number for each thread of Python.
    with ThreadPoolExecutor(how.most, "training", torch.set_num_threads, (how.threads,)) as executor:
        try:
            # Ctrl-C may come from here on.
            numbers = {executor.submit(run_one, number): number for number in range(len(items))}
            for future in as_completed(list(numbers)):
                # Keep no reference to what was made, so that the caller decides how long it stays in memory.
                number, made = numbers.pop(future), future.result()
                del future
                yield number, made
                del made
        finally:
            is_stopping.set()
            executor.shutdown(wait=False, cancel_futures=True)
