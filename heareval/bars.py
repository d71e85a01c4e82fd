"""The bars that a terminal shows for steps: a spinner, a title, a bar, what is counted, and a time."""

from __future__ import annotations

from typing import Any, TextIO

from rich import progress
from rich.console import Console
from rich.table import Column
from rich.text import Text

# Widths of the columns. What is said is at most "testing and resampling" or "12345.6 of 12345.6 MB". The last
# one has the spinner, the time and the spaces between columns.
BAR_COLUMNS, SAID_COLUMNS, TIME_COLUMNS = 10, 22, 16
MIN_TITLE_COLUMNS = 20


def shorten_title(title: str, columns: int) -> str:
    """Return a title that is cut in the middle where it is too long, because its end says most.

    >>> shorten_title("a.long.name.of.a.model on esc50: predictor", 30) == "a.lon...el on esc50: predictor"
    True
    """
    if len(title) <= columns:
        return title
    start = columns // 5
    return f"{title[: start - 1]}...{title[start + 2 - columns :]}"


def describe_time(seconds: float) -> str:
    """Return a time in one unit.

    >>> describe_time(8.2), describe_time(754), describe_time(9000)
    ('8 s', '12 min', '2.5 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class _Spinner(progress.SpinnerColumn):
    """It turns while a step says nothing, also after the last of what is counted."""

    def render(self, task: progress.Task) -> Any:
        return self.spinner.render(task.get_time())


class _Time(progress.ProgressColumn):
    """The time that a step will still take, or has taken where that is not known."""

    max_refresh = 0.5

    def render(self, task: progress.Task) -> Text:
        # Rich estimates it when a step says something, which may be a minute ago.
        silent_s = task.get_time() - task.fields["heard"]
        left_s = 0.0 if task.finished else (task.time_remaining or 0.0) - silent_s
        return Text(
            f"{describe_time(left_s)} left" if left_s > 0 else f"for {describe_time(task.elapsed or 0)}"
        )


def open_bars(stream: TextIO) -> progress.Progress:
    """Return bars on a terminal, to which tasks can be added; their fields are `said` and `heard`.

    `said` is shown beside a bar, and `heard` is the time at which the task last said something.
    """
    columns = (
        _Spinner("line", style="default"),
        progress.TextColumn("{task.description}"),
        progress.BarColumn(BAR_COLUMNS),
        # What is counted is never cut, so it takes its room first.
        progress.TextColumn("{task.fields[said]}", table_column=Column(min_width=SAID_COLUMNS, no_wrap=True)),
        _Time(),
    )
    return progress.Progress(*columns, console=Console(file=stream), transient=True)


def count_title_columns(columns: int) -> int:
    """Return how long the title of a bar may be on a terminal of this width."""
    return max(MIN_TITLE_COLUMNS, columns - BAR_COLUMNS - SAID_COLUMNS - TIME_COLUMNS)
