"""`heareval new-model`: a submission to fill in."""

from __future__ import annotations

from pathlib import Path

import click

from heareval.commands.console import one_line_errors, say
from heareval.commands.grouped import GroupedCommand
from heareval.embeddings.new_model import write_model


@click.command("new-model", cls=GroupedCommand, example="heareval new-model my_model")
@one_line_errors
@click.argument("name")
def new_model(name: str) -> None:
    """Write NAME.py, a model with the HEAR API to put your network into.

    It runs as it is, with random weights, and passes `heareval validate`.
    """
    name = name.removesuffix(".py")
    file = write_model(name, Path())
    say(f"{file} is written; next:")
    say(f"  heareval validate {name}")
    say(f"  heareval evaluate {name} --mode demo --probe linear")
