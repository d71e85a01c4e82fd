"""Help with the options in groups, and an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from heareval.commands.empty_values import check_no_empty_values
from heareval.commands.task_words import check_is_no_task

# Heading -> the parameters below it, in every command that has them; all others are below "Options". Of the
# libraries for this, cloup keeps the options of a group in one object, which commands of one process can't
# share, and rich-click takes longer to import and draws boxes around errors, which are one line here.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "Model": (
        *("name", "source", "weights", "sha256", "python", "requirements", "options", "device", "any_rate"),
        "trust_remote_code",
    ),
    "Tasks": ("tasks", "mode", "limit"),
    "Data": (
        *("mirror", "accept_checksums", "from_published", "on_bad_audio", "engine", "sample_rates"),
        *("tmp_dir", "tasks_dir", "tar_dir", "embeddings_dir"),
    ),
    "Embedding": ("dtype", "precision", "chunk_seconds"),
    "Predictor": (
        *("grid_points", "grid", "shuffle", "seed", "seeds", "report_kind", "probe", "deterministic"),
        *("distance", "train_precision"),
    ),
    "Machine": (
        *("gpus", "num_workers", "timeout", "in_memory", "train_threads", "force", "scheduler_url"),
        "scratch_dir",
    ),
}
OTHERS = "Options"


class GroupedCommand(click.Command):
    """A command whose help lists options in groups, and ends with an example.

    Args:
        example: command lines, without the prompt.
        may_be_empty: names of parameters for which an empty value means none.
        others: the same as for click.Command.
    """

    def __init__(self, *others: Any, example: str, may_be_empty: Sequence[str] = (), **more: Any) -> None:
        super().__init__(*others, **more)
        self.example, self.may_be_empty = example, may_be_empty

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Parse the words of a command line; a task among superfluous words gets its own error."""
        context.allow_extra_args = True
        if not context.resilient_parsing:
            check_no_empty_values(context, args, self.may_be_empty)
        more = super().parse_args(context, args)
        if more and not context.resilient_parsing:
            for word in more:
                check_is_no_task(context, word)
            context.fail(
                f"Got unexpected extra {'argument' if len(more) == 1 else 'arguments'} ({' '.join(more)})"
            )
        return more

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        group_of = {name: heading for heading, names in GROUPS.items() for name in names}
        rows: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS, OTHERS)}
        for parameter in self.get_params(context):
            # The first line of the help shows the arguments.
            row = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if row:
                rows[group_of.get(parameter.name or "", OTHERS)].append(row)
        for heading, of_group in rows.items():
            if of_group:
                with formatter.section(heading):
                    formatter.write_dl(of_group)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
