"""`heareval prepare`: task folders and tarballs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from heareval import files
from heareval.commands import options
from heareval.commands.changes import say_own_changes
from heareval.commands.console import Lacking, finish_run, one_line_errors, say_sentence
from heareval.commands.grouped import GroupedCommand
from heareval.formats.task_manifest import TaskManifest, find_task_manifest
from heareval.layout import SHA256SUMS, Places, display_path

if TYPE_CHECKING:
    from heareval.api import CorpusRequest, RunSettings


@click.command(
    cls=GroupedCommand,
    example="heareval prepare esc50 speech_commands --sample-rate 16000 --mirror downloads",
)
@one_line_errors
@options.corpus(options.tasks_argument)
@options.sample_rates()
@options.places("work", "tasks", "tars")
@options.force
@options.run_settings(options.quiet)
def prepare(
    corpus: CorpusRequest, sample_rates: tuple[int, ...], places: Places, force: bool, settings: RunSettings
) -> None:
    """Make task folders and tarballs from the published corpora.

    TASK is the name or TOML file of a task, or `open`, `all`, `speech`, `environment`, `music`, `pairwise` or
    `everything`; commas separate them as well. The sample rates are 16000,
    22050, 44100 and 48000 Hz unless --sample-rate names others. What is finished already is not done again.
    """
    from heareval import api

    prepared = api.prepare(corpus, places, sample_rates=sample_rates, force=force, settings=settings)
    if settings.is_quiet:
        _say_changes(prepared.task_folders, places)
    else:
        for folder in prepared.task_folders:
            say_task(folder)
        say_not_packed(prepared.not_packed)
    where = f"tarballs and {SHA256SUMS} are in {display_path(places.tars)}"
    if len(prepared.not_packed) == prepared.tasks:
        where = f"task folders are in {display_path(places.tasks)}"
    done = f"{prepared.tasks - len(prepared.unfinished)} of {prepared.tasks} tasks prepared"
    # The error of a single task says it all.
    lacking = Lacking(prepared.unfinished, "not complete", done) if prepared.tasks > 1 else None
    finish_run(prepared.outcome, where, lacking, is_quiet=settings.is_quiet)


def _say_changes(folders: Sequence[Path], places: Places) -> None:
    """Print what the run has changed, and notes on the task folders among that."""
    changed = say_own_changes(places).task_folders
    for folder in folders:
        if folder.name in changed and (manifest := find_task_manifest(folder)):
            for note in list_notes(manifest):
                say_sentence(f"note on {display_path(folder)}: {note}")


def say_task(folder: Path) -> None:
    """Print what a published task folder holds, if it is there, with notes on what differs from 2021."""
    manifest = find_task_manifest(folder)
    if manifest is None:
        return
    counts = ", ".join(f"{split} {count}" for split, count in manifest.clips.items())
    rates = ", ".join(map(str, manifest.sample_rates))
    origin = f", made from the tarball {manifest.tarball}" if manifest.tarball else ""
    say_sentence(f"{display_path(folder)}: {counts} clips at {rates} Hz{origin}")
    for note in list_notes(manifest):
        say_sentence(f"  note: {note}")


def say_not_packed(folders: Sequence[str]) -> None:
    """Print a line on the task folders that get no tarballs, if there are any."""
    if folders:
        say_sentence(f"no tarballs of {', '.join(folders)}: the corpus may not be redistributed")


def list_skipped(manifest: TaskManifest) -> list[str]:
    """Return a line for each clip that was skipped, with the reason."""
    return [f"skipped {each.split}/{each.clip_id}: {each.why}" for each in manifest.skipped]


def list_notes(manifest: TaskManifest) -> list[str]:
    """Return what a reader of the scores should know about a task's data."""
    notes = list(manifest.warnings)
    if manifest.dropped:
        notes.append(f"{len(manifest.dropped)} listed files are missing from the archives")
    if manifest.rates_of_other_clips:
        rates = ", ".join(map(str, manifest.rates_of_other_clips))
        notes.append(
            f"the folder's earlier clips at {rates} Hz differed and were removed; their tarballs may remain"
        )
    notes += list_skipped(manifest)
    if manifest.skipped and manifest.archives:
        notes.append(f"NOT the published corpus: it lacks {len(manifest.skipped)} of the clips")
    if names := ", ".join(each.name for each in manifest.archives if each.published is False):
        why = "according to" if manifest.tarball else "other checksums were accepted for"
        notes.append(f"NOT the published corpus: {why} {names}")
    notes += [
        f"no checksum was published for {each.name}; used: {files.kind_of(each.checksum)} {each.checksum}"
        for each in manifest.archives
        if each.published is None
    ]
    return notes
