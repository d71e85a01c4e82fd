"""The door of room 2: `python -m heareval.embeddings.runner my_model --model weights.pt`."""

from __future__ import annotations

from pathlib import Path

import click

from heareval import doors, files, layout, submitted
from heareval.embeddings.embed import EmbeddingFormat, content_fingerprint, read_task_metadata
from heareval.embeddings.submission import Submission
from heareval.embeddings.submission_config import SubmissionArgs
from heareval.errors import HearevalError, unknown_name
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
    words: SubmissionArgs,
    tasks_dir: str,
    task: str,
    embeddings_dir: str,
    tmp_dir: str,
    form: EmbeddingFormat,
    machine: Machine,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Compute the embeddings of published task folders with a model that has the HEAR API.

    It is an importable MODULE, or a TOML file that describes it; options go before what the file says.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, embeddings=embeddings_dir)
    folders = _task_folders(Path(places.tasks), task)
    submission = submitted.opened_one(words, places, machine)
    roots = [embed_step(places, folder, submission, form, machine) for folder in folders]
    outcome = doors.run_steps(roots, places, workers=num_workers, scheduler=scheduler_url, machine=machine)
    for root in roots:
        doors.say(doors.shown(root.folder))
    doors.say_end(outcome, f"embeddings are in {doors.shown(Path(places.embeddings) / submission.name)}")


def embed_step(
    places: Places, folder: Path, submission: Submission, form: EmbeddingFormat, machine: Machine
) -> Embed:
    """The step that embeds a task folder which is there already."""
    return Embed(
        places,
        task_folder=folder.name,
        task_fingerprint=content_fingerprint(folder, submission.sample_rate),
        submission=submission,
        form=form.for_task(read_task_metadata(folder)["embedding_type"]),
        machine=machine,
    )


def _task_folders(tasks: Path, name: str) -> list[Path]:
    """The published folders that a name means: one folder, the modes of a task, or all there are."""
    found = sorted(path.parent for path in tasks.glob(f"*/{layout.TASK_METADATA}"))
    if not found:
        raise HearevalError(
            f"tasks folder {tasks}",
            got="no published task",
            expected=f"folders with {layout.TASK_METADATA}",
            remedy="Make them with `python -m heareval.tasks.runner`.",
        )
    names = {
        folder.name: str(files.read_json(folder / layout.TASK_METADATA)["task_name"]) for folder in found
    }
    chosen = [folder for folder in found if name in ("all", folder.name, names[folder.name])]
    if not chosen:
        raise unknown_name("task folder", name, {*names, *names.values()})
    return chosen


if __name__ == "__main__":
    embed()
