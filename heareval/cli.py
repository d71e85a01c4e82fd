"""The console script `heareval`: the three doors, and all of them in one graph."""

from __future__ import annotations

from pathlib import Path

import click

import heareval
from heareval import doors
from heareval.embeddings.runner import embed
from heareval.embeddings.submission import open_submission
from heareval.predictions.protocol import Protocol
from heareval.predictions.runner import predict, protocol_of, protocol_options
from heareval.predictions.table import score_table
from heareval.spec import DEFAULT_SAMPLE_RATES
from heareval.tasks.runner import demo_corpora, prepare, summarise
from heareval.workflow.evaluate import score_task
from heareval.workflow.prepare import PublishTask, publish_and_pack

BASELINE = "heareval.embeddings.baseline"
# The published protocol tries 8 grid points and trains for up to 500 epochs; the demo shows the way in
# minutes, and the protocol's name in its table says so.
DEMO = {
    "speech_commands": Protocol(grid_points=2),
    "nsynth_pitch": Protocol(grid_points=2),
    "dcase2016_task2": Protocol(grid="fast", grid_points=2),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(heareval.__version__)
def main() -> None:
    """HEAR: how good is an audio embedding, without fine-tuning, on speech, environmental sound and music?"""


@main.command()
@click.argument("module")
@doors.model
@doors.model_options
@click.option(
    "--tasks", default="all", show_default=True, help="Names with commas between them, `open` or `all`."
)
@doors.options(doors.mode, doors.sample_rate)
@doors.options(doors.tmp_dir, doors.tasks_dir, doors.embeddings_dir)
@doors.corpus_options
@protocol_options
@doors.run_options
@doors.told_in_one_line
def evaluate(
    module: str,
    model: str,
    model_options: str,
    tasks: str,
    mode: str | None,
    sample_rates: tuple[str, ...],
    tmp_dir: str,
    tasks_dir: str,
    embeddings_dir: str,
    mirror: tuple[str, ...],
    accept_checksums: str | None,
    engine: str,
    grid_points: int,
    grid: str,
    shuffle: bool,
    seed: int,
    gpus: str | None,
    in_memory: bool,
    deterministic: bool,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Score MODULE, a model with the HEAR API: prepare the tasks, embed them, train predictors.

    Only the sample rate that the model asks for is prepared, unless --sample-rate names more.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, embeddings=embeddings_dir)
    protocol = protocol_of(
        grid_points=grid_points, grid=grid, shuffle=shuffle, seed=seed, gpus=gpus, deterministic=deterministic
    )
    mirrors = doors.mirrors_of(mirror)
    if mode == "demo" and not mirrors:
        mirrors, accept_checksums = demo_corpora(places)
    names = tuple(filter(None, (name.strip() for name in tasks.split(","))))
    jobs = doors.task_jobs(names, mode, engine_name=engine, accepted_file=accept_checksums)
    submission = open_submission(module, model, model_options, Path(places.work) / "submissions")
    rates = tuple(sorted({submission.sample_rate, *map(int, sample_rates)}))
    published = [PublishTask(places, job=job, sample_rates=rates, mirrors=mirrors) for job in jobs]
    roots = [score_task(step, submission, protocol) for step in published]
    outcome = doors.run_steps(roots, places, workers=num_workers, scheduler=scheduler_url)
    doors.say(score_table([root.scores for root in roots]))
    doors.say_end(
        outcome, f"scores and predictions are in {doors.shown(Path(places.embeddings) / submission.name)}"
    )


@main.command()
@click.option(
    "--folder", type=click.Path(file_okay=False), default="demo", show_default=True, help="Where it works."
)
@doors.run_options
@doors.told_in_one_line
def demo(folder: str, num_workers: int, scheduler_url: str) -> None:
    """Run everything, from archives to scores, on small synthetic corpora with the built-in baseline."""
    names = ("work", "_workdir"), ("tasks", "tasks"), ("tars", "tars"), ("embeddings", "embeddings")
    places = doors.places_of(**{place: f"{folder}/{name}" for place, name in names})
    mirrors, accepted = demo_corpora(places)
    jobs = doors.task_jobs(tuple(DEMO), "demo", engine_name="soxr", accepted_file=accepted)
    submission = open_submission(BASELINE, "", "{}", Path(places.work) / "submissions")
    packed = publish_and_pack(places, jobs, DEFAULT_SAMPLE_RATES, mirrors)
    published = [step for step in packed if isinstance(step, PublishTask)]
    scored = [score_task(step, submission, DEMO[step.job.task]) for step in published]
    outcome = doors.run_steps([*packed, *scored], places, workers=num_workers, scheduler=scheduler_url)
    summarise(places, jobs)
    doors.say(score_table([step.scores for step in scored]))
    doors.say_end(outcome, f"embeddings and scores are in {doors.shown(places.embeddings)}")


main.add_command(prepare)
main.add_command(embed)
main.add_command(predict)

if __name__ == "__main__":
    main()
