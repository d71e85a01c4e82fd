"""The door of room 1: `python -m heareval.tasks.runner speech_commands`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from heareval import doors, files, layout, progress
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.tasks import demo
from heareval.tasks.registry import select
from heareval.workflow import pins
from heareval.workflow.corpus import TaskJob
from heareval.workflow.prepare import publish_and_pack


@click.command()
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@doors.options(doors.mode, doors.sample_rate, doors.tmp_dir, doors.tasks_dir, doors.tar_dir)
@doors.corpus_options
@doors.from_published
@doors.force
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
    on_bad_audio: str,
    from_published: str,
    force: bool,
    num_workers: int,
    scheduler_url: str,
) -> None:
    """Make task folders and tarballs from the published corpora.

    TASK is the name of a task, `open` for the open ones or `all`. The sample rates are 16000, 22050, 44100
    and 48000 Hz unless --sample-rate names others. What is done already is not done again.
    """
    places = doors.places_of(work=tmp_dir, tasks=tasks_dir, tars=tar_dir)
    mirrors = doors.mirrors_of(mirror)
    if mode == "demo" and not mirrors and not from_published:
        mirrors, accept_checksums = demo_corpora(places, tasks)
    jobs = doors.task_jobs(
        tasks,
        mode,
        engine_name=engine,
        accepted_file=accept_checksums,
        published=from_published,
        on_bad=on_bad_audio,
    )
    rates = doors.rates_of(sample_rates)
    check_sources_stay(places, jobs, rates)
    if not force:
        # What is fetched to be pinned takes room, too.
        planned = pins.resolve_checksums(jobs, places)
        doors.check_room({job: publish_and_pack(places, [job], rates, mirrors) for job in planned}, places)
    jobs = doors.pinned_jobs(jobs, places, mirrors, workers=num_workers, scheduler=scheduler_url)
    steps = publish_and_pack(places, jobs, rates, mirrors)
    outcome = doors.run_steps(
        steps,
        places,
        workers=num_workers,
        scheduler=scheduler_url,
        tell=lambda: summarise(places, jobs),
    )
    doors.say_end(outcome, f"tarballs and {layout.SHA256SUMS} are in {doors.shown(places.tars)}")


def demo_corpora(places: Places, tasks: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Build the synthetic corpora of the mode `demo` if they are not there: their mirror and checksums."""
    select(doors.words_of(tasks), "demo")  # a mistake in the names is told before the work
    folder = Path(places.work) / "demo-corpora"
    if not folder.exists():
        with progress.show_steps(1), progress.report_step("demo corpora") as report:
            demo.build_demo_corpora(folder, report)
    return (str(folder),), str(folder / demo.MD5SUMS)


def check_sources_stay(places: Places, jobs: list[TaskJob], rates: tuple[int, ...]) -> None:
    """Raise HearevalError if this run would write its own tarball over the one that it reads."""
    for job in jobs:
        editions = (layout.TAR_EDITION, layout.TAR_LATEST)
        own = [places.tar(job.folder, rate, edition) for rate in rates for edition in editions]
        if job.published and Path(job.published).resolve() in [path.resolve() for path in own]:
            raise HearevalError(
                f"tarball {job.published}",
                got="the place of this run's own",
                expected="one elsewhere",
                remedy="Move it to another folder, or name another --tar-dir.",
            )


def summarise(places: Places, jobs: list[TaskJob]) -> None:
    """Tell for each task what there is and where."""
    for job in jobs:
        folder = places.task(job.folder)
        if not (folder / files.MANIFEST).exists():
            continue
        manifest = files.read_json(folder / files.MANIFEST)
        counts = ", ".join(f"{split} {count}" for split, count in manifest["clips"].items())
        rates = ", ".join(map(str, manifest["sample_rates"]))
        tarball = manifest.get("tarball")
        origin = f", made from the tarball {tarball}" if tarball else ""
        doors.say(f"{doors.shown(folder)}: {counts} clips at {rates} Hz{origin}")
        for note in _notes(manifest):
            doors.say(f"  note: {note}")


def skipped_notes(manifest: dict[str, Any]) -> list[str]:
    """The clips that were not made, and why."""
    return [
        f"skipped {each['split']}/{each['clip_id']}: {each['why']}" for each in manifest.get("skipped", ())
    ]


def _notes(manifest: dict[str, Any]) -> list[str]:
    """What a reader of the scores should know."""
    notes = list(manifest["warnings"])
    if manifest["dropped"]:
        notes.append(f"{len(manifest['dropped'])} listed files are not in the archives")
    if gone := manifest.get("rates_of_other_clips"):
        rates = ", ".join(map(str, gone))
        notes.append(
            f"the clips at {rates} Hz were other ones, and are gone; tarballs of them may still be there"
        )
    skipped = skipped_notes(manifest)
    notes += skipped
    if skipped and manifest["archives"]:
        notes.append(f"NOT the published corpus: it lacks clips, {len(skipped)} in all")
    if names := ", ".join(a["name"] for a in manifest["archives"] if a["published"] is False):
        why = "so says" if manifest.get("tarball") else "other checksums were accepted for"
        notes.append(f"NOT the published corpus: {why} {names}")
    notes += [
        f"no checksum was ever published of {a['name']}; used: {files.kind_of(a['checksum'])} {a['checksum']}"
        for a in manifest["archives"]
        if a["published"] is None
    ]
    return notes


if __name__ == "__main__":
    prepare()
