"""The door of room 1: `python -m heareval.tasks.runner speech_commands`."""

from __future__ import annotations

from pathlib import Path

import click

from heareval import doors, files, layout, progress
from heareval.layout import Places
from heareval.tasks import demo
from heareval.workflow.corpus import TaskJob
from heareval.workflow.prepare import publish_and_pack


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@doors.options(doors.mode, doors.sample_rate, doors.tmp_dir, doors.tasks_dir, doors.tar_dir)
@doors.corpus_options
@doors.run_options
@doors.told_in_one_line
def prepare(
    tasks: tuple[str, ...],
    mode: str | None,
    sample_rates: tuple[str, ...],
    tmp_dir: str,
    tasks_dir: str,
    tar_dir: str,
    mirror: tuple[str, ...],
    accept_checksums: str | None,
    engine: str,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Make task folders and tarballs from the published corpora.

    TASK is the name of a task, `open` for the open ones or `all`. The sample rates are 16000, 22050, 44100
    and 48000 Hz unless --sample-rate names others. What is done already is not done again.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, tars=tar_dir)
    mirrors = doors.mirrors_of(mirror)
    if mode == "demo" and not mirrors:
        mirrors, accept_checksums = demo_corpora(places)
    jobs = doors.task_jobs(tasks, mode, engine_name=engine, accepted_file=accept_checksums)
    roots = publish_and_pack(places, jobs, doors.rates_of(sample_rates), mirrors)
    outcome = doors.run_steps(roots, places, workers=num_workers, scheduler=scheduler_url)
    summarise(places, jobs)
    doors.say_end(outcome, f"tarballs and {layout.SHA256SUMS} are in {doors.shown(places.tars)}")


def demo_corpora(places: Places) -> tuple[tuple[str, ...], str]:
    """Build the synthetic corpora of the mode `demo` if they are not there: their mirror and checksums."""
    folder = Path(places.work) / "demo-corpora"
    if not folder.exists():
        with progress.showing(1), progress.step("demo corpora") as report:
            demo.build_demo_corpora(folder, report)
    return (str(folder),), str(folder / demo.MD5SUMS)


def summarise(places: Places, jobs: list[TaskJob]) -> None:
    """Tell for each task what there is and where."""
    for job in jobs:
        folder = places.task(job.folder)
        manifest = files.read_json(folder / files.MANIFEST)
        counts = ", ".join(f"{split} {count}" for split, count in manifest["clips"].items())
        doors.say(
            f"{doors.shown(folder)}: {counts} clips at {', '.join(map(str, manifest['sample_rates']))} Hz"
        )
        notes = list(manifest["warnings"])
        if manifest["dropped"]:
            notes.append(f"{len(manifest['dropped'])} listed files are not in the archives")
        if not manifest["is_the_published_corpus"]:
            names = ", ".join(a["name"] for a in manifest["archives"] if a["published"] is False)
            notes.append(f"NOT the published corpus: other checksums were accepted for {names}")
        notes += [
            f"no checksum was ever published of {a['name']}; used: {files.kind_of(a['checksum'])} {a['checksum']}"
            for a in manifest["archives"]
            if a["published"] is None
        ]
        for note in notes:
            doors.say(f"  note: {note}")


if __name__ == "__main__":
    prepare()
