"""The door of room 3: `python -m heareval.predictions.runner embeddings/my_model/*`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from heareval import doors, files
from heareval.doors import Command
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.protocol import PROBES, GridName, Probe, Protocol
from heareval.predictions.table import score_table
from heareval.workflow.evaluate import Predict
from heareval.workflow.machine import Machine

# Of a full report, unless another number is asked for.
SEEDS_OF_FULL_REPORT = 5

_protocol_words = doors.options(
    click.option(
        "--grid-points", type=click.IntRange(min=1), default=8, show_default=True, help="Settings to try."
    ),
    click.option(
        "--grid",
        type=click.Choice(["default", "fast", "faster"]),
        default="default",
        show_default=True,
        help="Which settings there are; the shortened ones (10 to 50 epochs, and small networks) are named.",
    ),
    click.option("--shuffle", is_flag=True, help="Shuffle the training data; named in the results."),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed of weights and of the grid's draw.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1),
        help="Go through all of it with so many seeds, from --seed on; the results are named by it.  "
        f"[1; with --report full {SEEDS_OF_FULL_REPORT}]",
    ),
    click.option(
        "--report",
        "report_kind",
        type=click.Choice(["none", "full"]),
        default="none",
        show_default=True,
        help="`full`: several seeds (of a --probe one), and what `heareval report` writes for every task.",
    ),
    click.option(
        "--in-memory/--no-in-memory",
        default=None,
        help="Hold embeddings in memory, or read them from disk when they are needed, with the same scores.  "
        "[in memory, if there is room]",
    ),
    click.option(
        "--probe",
        type=click.Choice(PROBES),
        default="mlp",
        show_default=True,
        help="What learns: the protocol's network or, with results of its own, something simpler.",
    ),
    click.option(
        "--deterministic/--no-deterministic",
        default=True,
        show_default=True,
        help="Equal scores on equal machines.",
    ),
)


def protocol_options(command: Command) -> Command:
    """How predictors are trained and told of, and on what machine: one `protocol`, one `machine` and
    `full_report` for the command."""

    @functools.wraps(command)
    def gathered(
        grid_points: int,
        grid: GridName,
        shuffle: bool,
        seed: int,
        seeds: int | None,
        report_kind: str,
        in_memory: bool | None,
        deterministic: bool,
        probe: Probe,
        machine: Machine,
        **others: Any,
    ) -> None:
        full_report = report_kind == "full"
        # A probe has hardly any chance in it, and no seeds.
        usual_seeds = SEEDS_OF_FULL_REPORT if full_report and probe == "mlp" else 1
        try:
            protocol = Protocol(
                grid=grid,
                grid_points=grid_points,
                order="shuffled" if shuffle else "fixed",
                seed=seed,
                seeds=seeds or usual_seeds,
                device=machine.device,
                deterministic=deterministic,
                probe=probe,
            )
        except HearevalError as error:
            raise click.UsageError(str(error)) from error
        machine = replace(machine, in_memory=in_memory)
        command(protocol=protocol, machine=machine, full_report=full_report, **others)

    return _protocol_words(gathered)  # type: ignore[return-value, type-var]


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(file_okay=False), metavar="TASK_DIR...")
@doors.gpu_options
@protocol_options
@doors.options(doors.tmp_dir, doors.tasks_dir)
@doors.run_options
@doors.told_in_one_line
def predict(
    folders: tuple[str, ...],
    protocol: Protocol,
    machine: Machine,
    full_report: bool,
    tmp_dir: str,
    tasks_dir: str,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Train predictors on folders of embeddings and score them.

    TASK_DIR is a folder of embeddings: embeddings/SUBMISSION/TASK.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir)
    paths = [Path(folder).absolute() for folder in folders]
    roots = [
        Predict(places, folder=str(path), embeddings=_fingerprint(path), protocol=protocol, machine=machine)
        for path in paths
    ]
    tell = functools.partial(say_scores, roots, places, full_report=full_report)
    outcome = doors.run_steps(
        roots, places, workers=num_workers, scheduler=scheduler_url, machine=machine, tell=tell
    )
    doors.say_end(outcome, "scores and predictions are beside the embeddings")


def say_scores(scored: Sequence[Predict], places: Places, *, full_report: bool) -> None:
    """The table of the scores that there are, and reports on them if they were asked for."""
    done = [step for step in scored if step.complete()]
    if done:
        doors.say(score_table([step.scores for step in done]))
    if full_report:
        # matplotlib takes a while.
        from heareval.predictions.report import write_reports

        for step in done:
            names = (step.protocol.recorded_name,)
            try:
                for written in write_reports(Path(step.folder), names, places, out=None, clips=()):
                    doors.say(f"report: {doors.shown(written)}")
            except (HearevalError, OSError) as error:
                # The others, and what else is to be told of the run, are not to be lost for it.
                click.echo(f"no report on {step.folder}: {error}", err=True)


@click.command()
@click.argument("a")
@click.argument("b")
@doors.embeddings_dir
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@doors.debug
@doors.told_in_one_line
def compare(a: str, b: str, embeddings_dir: str, as_json: bool) -> None:
    """Tell whether submission A scores higher than B on the tasks that both were evaluated on.

    A and B are names in the embeddings folder, or paths. Nothing is trained: what both predicted for each
    clip is there.
    """
    # torch and scikit-learn are imported for it, which takes seconds.
    from heareval.predictions import compare as comparing

    embeddings = Path(doors.places_of(embeddings=embeddings_dir).embeddings)
    found = comparing.compare(*(comparing.find_submission(name, embeddings) for name in (a, b)))
    if as_json:
        doors.say(files.dump_json(comparing.comparison_to_json(found)))
    else:
        doors.say(comparing.comparison_table(found))


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(file_okay=False), metavar="TASK_DIR...")
@click.option("--protocol", "protocols", multiple=True, help="Only this one's results. Repeatable.  [all]")
@click.option("--clip", "clips", multiple=True, help="A clip of an event task to draw, too. Repeatable.")
@click.option("--out", type=click.Path(file_okay=False), help="Where reports go.  [beside the scores]")
@doors.tasks_dir
@doors.debug
@doors.told_in_one_line
def report(
    folders: tuple[str, ...],
    protocols: tuple[str, ...],
    clips: tuple[str, ...],
    out: str | None,
    tasks_dir: str,
) -> None:
    """Tell what lies behind scores: labels, confusions, the worst clips, events, the grid; JSON and figures.

    TASK_DIR is a folder of embeddings with scores: embeddings/SUBMISSION/TASK. Nothing is trained.
    """
    # matplotlib, too, takes a while.
    from heareval.predictions.report import write_reports

    places = doors.places_of(tasks=tasks_dir)
    for folder in folders:
        path = Path(folder).absolute()
        target = Path(out).absolute() if out else None
        for written in write_reports(path, protocols, places, out=target, clips=clips):
            doors.say(f"{doors.shown(written)}")


def _fingerprint(folder: Path) -> str:
    path = folder / files.MANIFEST
    manifest = files.read_json(path) if path.is_file() else {}
    # A task folder, too, has a manifest.
    if "arrays" not in manifest:
        raise HearevalError(
            f"embeddings folder {folder}",
            got=f"no {files.MANIFEST} of embeddings" if folder.is_dir() else "no such folder",
            expected="a folder embeddings/SUBMISSION/TASK",
            remedy="Make it with `python -m heareval.embeddings.runner`.",
        )
    return str(manifest["fingerprint"])


if __name__ == "__main__":
    predict()
