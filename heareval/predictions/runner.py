"""The door of room 3: `python -m heareval.predictions.runner embeddings/my_model/*`."""

from __future__ import annotations

from pathlib import Path

import click

from heareval import doors, files
from heareval.errors import HearevalError
from heareval.predictions.protocol import Protocol
from heareval.predictions.table import score_table
from heareval.workflow.evaluate import Predict
from heareval.workflow.machine import Machine

protocol_options = doors.options(
    click.option(
        "--grid-points", type=click.IntRange(min=1), default=8, show_default=True, help="Settings to try."
    ),
    click.option(
        "--grid", type=click.Choice(["default", "fast", "faster"]), default="default", show_default=True
    ),
    click.option("--shuffle", is_flag=True, help="Shuffle the training data; named in the results."),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of weights and of the grid's draw."
    ),
    click.option(
        "--in-memory/--no-in-memory", default=True, help="Kept for old scripts; data is always resident."
    ),
    click.option("--deterministic/--no-deterministic", default=True, help="Equal scores on equal machines."),
)


def protocol_of(
    *, grid_points: int, grid: str, shuffle: bool, seed: int, deterministic: bool, machine: Machine
) -> Protocol:
    """The protocol that the options describe."""
    return Protocol(
        grid=grid,  # type: ignore[arg-type]
        grid_points=grid_points,
        order="shuffled" if shuffle else "fixed",
        seed=seed,
        device=machine.device,  # type: ignore[arg-type]
        deterministic=deterministic,
    )


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(file_okay=False), metavar="TASK_DIR...")
@protocol_options
@doors.gpu_options
@doors.tmp_dir
@doors.run_options
@doors.told_in_one_line
def predict(
    folders: tuple[str, ...],
    grid_points: int,
    grid: str,
    shuffle: bool,
    seed: int,
    in_memory: bool,
    deterministic: bool,
    machine: Machine,
    tmp_dir: str,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Train predictors on folders of embeddings and score them.

    TASK_DIR is a folder of embeddings: embeddings/SUBMISSION/TASK.
    """
    places = doors.places_of(work=tmp_dir)
    protocol = protocol_of(
        grid_points=grid_points,
        grid=grid,
        shuffle=shuffle,
        seed=seed,
        deterministic=deterministic,
        machine=machine,
    )
    paths = [Path(folder).absolute() for folder in folders]
    roots = [
        Predict(places, folder=str(path), embeddings=_fingerprint(path), protocol=protocol, machine=machine)
        for path in paths
    ]
    outcome = doors.run_steps(roots, places, workers=num_workers, scheduler=scheduler_url, machine=machine)
    doors.say(score_table([root.scores for root in roots]))
    doors.say_end(outcome, "scores and predictions are beside the embeddings")


def _fingerprint(folder: Path) -> str:
    manifest = folder / files.MANIFEST
    if not manifest.is_file():
        raise HearevalError(
            f"embeddings folder {folder}",
            got=f"no {files.MANIFEST}",
            expected="a folder embeddings/SUBMISSION/TASK",
            remedy="Make it with `python -m heareval.embeddings.runner`.",
        )
    return str(files.read_json(manifest)["fingerprint"])


if __name__ == "__main__":
    predict()
