"""The door of room 2: `python -m heareval.embeddings.runner my_model --model weights.pt`."""

from __future__ import annotations

from pathlib import Path

import click

from heareval import doors, submitted
from heareval.embeddings.asked import Words
from heareval.embeddings.store import Form
from heareval.embeddings.submission import Submission
from heareval.formats.task_folder import find_task_folders, fingerprint_task_folder, read_task_folder
from heareval.layout import Places
from heareval.workflow.evaluate import Embed
from heareval.workflow.machine import Machine


@click.command()
@submitted.submission
@doors.tasks_dir
@click.option(
    "--task", default="all", show_default=True, help="A folder of --tasks-dir, or the name of a task."
)
@doors.embeddings_dir
@doors.tmp_dir
@doors.form_options
@doors.machine_options
@doors.run_options
@doors.told_in_one_line
def embed(
    words: Words,
    tasks_dir: str,
    task: str,
    embeddings_dir: str,
    tmp_dir: str,
    form: Form,
    machine: Machine,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Compute the embeddings of published task folders with a model that has the HEAR API.

    It is an importable MODULE, or a TOML file that describes it; options go before what the file says.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, embeddings=embeddings_dir)
    folders = find_task_folders(Path(places.tasks), task)
    submission = submitted.opened_one(words, places, machine)
    roots = [embed_step(places, folder, submission, form, machine) for folder in folders]
    outcome = doors.run_steps(roots, places, workers=num_workers, scheduler=scheduler_url, machine=machine)
    for root in roots:
        doors.say(doors.shown(root.folder))
    doors.say_end(outcome, f"embeddings are in {doors.shown(Path(places.embeddings) / submission.name)}")


def embed_step(places: Places, folder: Path, submission: Submission, form: Form, machine: Machine) -> Embed:
    """The step that embeds a task folder which is there already."""
    return Embed(
        places,
        task_folder=folder.name,
        content=fingerprint_task_folder(folder, submission.sample_rate),
        submission=submission,
        form=form.of(read_task_folder(folder).metadata.embedding_type),
        machine=machine,
    )


if __name__ == "__main__":
    embed()
