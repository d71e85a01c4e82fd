"""What models would still take, as `heareval plan` prints it: a table for each model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence

from heareval.archives.sizes import Size, total
from heareval.commands.console import format_tenths
from heareval.tasks.licences import DEMO_MODE
from heareval.workflow.evaluation_plan import EvaluationPlan, PlannedModel, PlannedTask
from heareval.workflow.plan import TaskNeeds

# Lines that are no table are at most this long where there is no terminal.
WIDTH = 80
# The two lines of the header of each column.
HEAD = (
    ("", "task"),
    ("", "clips"),
    ("", "hours"),
    ("GB:", "fetch"),
    ("", "clips"),
    ("", "embed"),
    ("min:", "embed"),
    ("", "train"),
    ("", "state"),
)
# What the columns are called where a terminal is too narrow for them.
NAMES = ("clips", "hours", "GB to fetch", "GB of clips", "GB of embeddings", "min to embed", "min to train")
LEGEND = (
    "GB are those still missing: to fetch, of clips and of embeddings. Minutes to embed follow from the "
    "measurement; minutes to train are those recorded for other models, or a rough range for two cores "
    "without a GPU; h: hours. ? means unknown; + means that part of it is unknown."
)
DEMO_NOTE = "note: the run makes the corpora of mode demo itself; only then are their clips counted"
# Longer times are given in hours, in seconds.
HOURS_FROM_S = 36000


def list_model_lines(planned: EvaluationPlan, columns: int | None) -> Iterator[str]:
    """Yield the lines that show what evaluating models would take.

    Args:
        planned: the plan.
        columns: width of the terminal, for which wider tables are stacked; None if it is none.
    """
    width = columns or WIDTH
    for number, model in enumerate(planned.models):
        for line in _describe_model(model, planned.sample_rates):
            yield from textwrap.wrap(line, width, subsequent_indent="  ")
        yield ""
        # What models share counts for the first one.
        needs = planned.disk.tasks if not number else [None] * len(model.tasks)
        rows = [_make_row(task, need) for task, need in zip(model.tasks, needs, strict=True)]
        yield from _format_table([*rows, _sum_row(model, needs)], columns)
        for task in model.tasks:
            if task.detail:
                line = f"{_name_task(task)}: {task.state} {task.detail}"
                yield from textwrap.wrap(line, width, subsequent_indent="  ")
        yield ""
    if any(
        task.mode == DEMO_MODE and not task.extent.clips for model in planned.models for task in model.tasks
    ):
        yield from textwrap.wrap(DEMO_NOTE, width, subsequent_indent="  ")
    yield from textwrap.wrap(LEGEND, width)


def _describe_model(model: PlannedModel, rates: Sequence[int]) -> Iterator[str]:
    """Yield what is known of a model, and how."""
    rate = (
        f"at {model.sample_rate} Hz" if model.sample_rate else f"sample rate unknown, clips at {rates[0]} Hz"
    )
    yield f"{model.name}, {rate}"
    for each in model.measured:
        kind = "scene" if each.embedding_type == "scene" else "timestamp"
        yield f"{kind} embeddings of {each.size} numbers: {each}"
    yield from (f"note: {note}" for note in model.notes)


def _name_task(task: PlannedTask) -> str:
    """Return the name of a task, with its mode if that is not the usual one."""
    return task.task if task.is_default_mode else f"{task.task} {task.mode}"


def _make_row(task: PlannedTask, need: TaskNeeds | None) -> list[str]:
    fetched, clips = (need.sizes["download"], need.clips) if need else (Size(), Size())
    return [
        _name_task(task),
        str(task.extent.clips or "?"),
        format_tenths(task.extent.hours) if task.extent.hours else "?",
        *map(_format_gb, (fetched, clips, task.embeddings)),
        _format_minutes(task.embed_s),
        _format_range(task.train_s),
        task.state,
    ]


def _sum_row(model: PlannedModel, needs: Sequence[TaskNeeds | None]) -> list[str]:
    tasks, known = model.tasks, [need for need in needs if need]
    sizes = [
        total(need.sizes["download"] for need in known),
        total(need.clips for need in known),
        total(task.embeddings for task in tasks),
    ]
    clips = [task.extent.clips for task in tasks if task.extent.clips]
    hours = [task.extent.hours for task in tasks if task.extent.hours]
    embedded = [task.embed_s for task in tasks if task.embed_s is not None]
    ranges = [task.train_s for task in tasks if task.train_s]
    low_s, high_s = (sum(each[end] for each in ranges) for end in (0, 1))

    def mark(text: str, known: Sequence[object]) -> str:
        """Return a sum, marked if some of it is not known."""
        return text if len(known) == len(tasks) else f"{text}+" if known else "?"

    return [
        "total",
        mark(str(sum(clips)), clips),
        mark(format_tenths(sum(hours)), hours),
        *map(_format_gb, sizes),
        mark(_format_minutes(sum(embedded)), embedded),
        mark(_format_range((low_s, high_s)), ranges),
        "",
    ]


def _format_gb(size: Size) -> str:
    """Return bytes in GB, with one decimal up to 100.

    >>> _format_gb(Size(2_340_000_000)), _format_gb(Size(20)), _format_gb(Size(0, is_whole=False))
    ('2.3', '<0.1', '?')
    """
    text = format_tenths(size.bytes / 1e9)
    return text if size.is_whole else f"{text}+" if size.bytes else "?"


def _format_minutes(seconds: float | None) -> str:
    """Return seconds in whole minutes, and many in hours.

    >>> _format_minutes(90.0), _format_minutes(3.0), _format_minutes(90000.0), _format_minutes(None)
    ('2', '<1', '25h', '?')
    """
    return "?" if seconds is None else _format_range((seconds, seconds))


def _format_range(seconds: tuple[float, float] | None) -> str:
    """Return a range of seconds in whole minutes, or in hours if it ends with many.

    A range that ends with 1 or less is given by its end.

    >>> _format_range((300.0, 600.0)), _format_range((100.0, 110.0)), _format_range((3000.0, 90000.0))
    ('5-10', '2', '1-25h')
    >>> _format_range((0.0, 20.0)), _format_range((20.0, 50.0)), _format_range((20.0, 100.0))
    ('<1', '1', '<1-2')
    """
    if not seconds:
        return "?"
    unit_s, unit = (3600, "h") if seconds[1] >= HOURS_FROM_S else (60, "")
    low, high = (_format_count(each / unit_s) for each in seconds)
    return f"{high}{unit}" if high in (low, "<1", "1") else f"{low}-{high}{unit}"


def _format_count(number: float) -> str:
    """Return a number rounded to a whole one, halves upwards; what would round to 0 is `<1`."""
    return "0" if not number else "<1" if number < 0.5 else f"{math.floor(number + 0.5)}"


def _format_table(rows: Sequence[Sequence[str]], columns: int | None) -> Iterator[str]:
    """Yield a table with a header of two lines; for a narrow terminal, a few lines for each task."""
    table = [*zip(*HEAD, strict=True), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    is_text = [place in (0, len(HEAD) - 1) for place in range(len(HEAD))]
    lines = [
        " ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in table
    ]
    if columns is None or max(map(len, lines)) <= columns:
        yield from lines
        return
    for row in rows:
        yield ": ".join(filter(None, (row[0], row[-1])))
        facts = [f"{name} {cell}" for name, cell in zip(NAMES, row[1:-1], strict=True)]
        yield from textwrap.wrap(", ".join(facts), columns, initial_indent="  ", subsequent_indent="  ")
