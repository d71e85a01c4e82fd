"""`heareval report`: what lies behind scores."""

from __future__ import annotations

from pathlib import Path

import click

from heareval import files
from heareval.commands import options
from heareval.commands.console import one_line_errors, say_sentence, warn
from heareval.commands.grouped import GroupedCommand
from heareval.errors import HearevalError
from heareval.layout import Places, display_path


@click.command(cls=GroupedCommand, example="heareval report embeddings/my_model/esc50-v2.0.0-full")
@one_line_errors
@options.task_folders
@click.option(
    "--protocol", "protocols", multiple=True, help="Report on this protocol only. Repeatable.  [all]"
)
@click.option("--clip", "clips", multiple=True, help="Also plot this clip of an event task. Repeatable.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the reports.  [beside the scores]")
@options.places("tasks")
def report(
    folders: tuple[str, ...],
    protocols: tuple[str, ...],
    clips: tuple[str, ...],
    out: str | None,
    places: Places,
) -> None:
    """Write what lies behind scores as JSON and figures: labels, confusions, worst clips, events, the grid.

    Reports on tasks that are scored by distance have the scores of classes, sets or speakers, and the hardest
    cases.

    TASK_DIR is a folder of embeddings with scores: embeddings/SUBMISSION/TASK. Nothing is trained. For each
    report, the command prints its folder, the worst label, the most frequent confusion and the worst clip.
    """
    # torch and matplotlib are imported for it.
    from heareval import api
    from heareval.predictions.report import REPORT

    target = Path(out) if out else None
    if target:
        _check_distinct([Path(folder) for folder in folders])
    for folder in folders:
        reports = api.report(Path(folder), places, protocols=protocols, clips=clips, out=target, notify=warn)
        for written in reports:
            say_sentence(display_path(written))
            for finding in files.read_json(written / REPORT)["findings"]:
                say_sentence(f"  {finding}")


def _check_distinct(folders: list[Path]) -> None:
    """Raise HearevalError if the reports on two folders would get the same place below --out."""
    seen: dict[str, Path] = {}
    for folder in map(Path.absolute, folders):
        name = f"{folder.parent.name}/{folder.name}"
        other = seen.setdefault(name, folder)
        if other.resolve() != folder.resolve():
            raise HearevalError(
                f"reports below --out on {other} and {folder}",
                got=f"the same name {name}",
                expected="different names",
                remedy="Run the command for each with another --out.",
            )
