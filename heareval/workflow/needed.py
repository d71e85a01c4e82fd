"""What in a work folder a run may read again: `heareval clean` keeps it.

A task is current if its folder is published or a run asked for it lately. The steps that make it, as this
version of heareval would make it now, tell the archives, corpora and stages that it needs. A submission is
current if it has embeddings or a run asked for it lately.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import luigi

from heareval import files, layout
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import find_embeddings_manifest
from heareval.formats.fields import read_fields
from heareval.formats.task_manifest import TaskManifest, find_task_manifest
from heareval.layout import Places
from heareval.spec import SAMPLE_RATES
from heareval.tasks.registry import find_mode, find_task
from heareval.workflow.corpus import FetchArchive, TaskJob
from heareval.workflow.evaluate import Resample
from heareval.workflow.pins import resolve_checksums
from heareval.workflow.prepare import PublishTask
from heareval.workflow.run_requests import read_submission_requests, read_task_requests
from heareval.workflow.step import Step, read_manifest

# A request for something that is not published counts for this long.
REQUEST_S = 30 * 86400.0


@dataclass(frozen=True)
class Needed:
    """What the current tasks and submissions need of a work folder.

    Args:
        folders: folders of archives, corpora and stages; shards and resampled clips are judged on their own.
        tasks: the steps that publish the current tasks, by the names of their folders.
        unknown: names of current task folders of which nobody knows how they were made, such as those of
            tasks whose TOML file is gone: their stages are kept.
        environments: names of the environments of current submissions.
        has_unknown_tarball: whether a published task was taken from a tarball, nobody knows which.
    """

    folders: frozenset[Path]
    tasks: Mapping[str, PublishTask]
    unknown: frozenset[str]
    environments: frozenset[str]
    has_unknown_tarball: bool

    def has_resampled(self, task_folder: str, resampled: Path, places: Places) -> bool:
        """Return whether clips at another rate are those of a task as it is published, or will be."""
        published = find_task_manifest(places.task(task_folder))
        if published:
            fingerprint = published.fingerprint
        elif task_folder in self.tasks:
            fingerprint = self.tasks[task_folder].task_fingerprint
        else:
            # The fingerprint of a task that was unpacked from a tarball is a digest of all its clips.
            return places.task(task_folder).exists()
        manifest = read_fields(resampled / files.MANIFEST, remedy="Remove its folder.")
        source_rate = manifest.integer("resampled_from_hz", 0)
        rates = [path.name for path in resampled.iterdir() if path.name.isdecimal()]
        return any(
            resampled
            == Resample(
                places,
                task_folder=task_folder,
                task_fingerprint=fingerprint,
                source_rate=source_rate,
                sample_rate=int(rate),
            ).folder
            for rate in rates
        )

    def has_environment(self, environment: Path) -> bool:
        """Return whether a current submission needs an environment, perhaps on another machine.

        Machines that share a work folder may have the same Python in different places. Then each has an
        environment of its own for the same submission.
        """
        wanted = [environment.with_name(name) for name in self.environments]
        return environment in wanted or _read_contents(environment) in map(_read_contents, wanted)


def find_needed(places: Places, now_s: float) -> Needed:
    """Return what the current tasks and submissions need of a work folder.

    Args:
        places: the folders of the runs.
        now_s: the time by the clock of the work folder.

    Raises:
        HearevalError: no run has noted what it was asked for, or a manifest is damaged, so that nobody can
            know what is needed.

    Example: `find_needed(places, time.time()).folders`
    """
    requests, used = read_task_requests(places), read_submission_requests(places)
    if not requests and not used:
        raise HearevalError(
            f"work folder {layout.display_path(places.work)}",
            got="no note of what its runs were asked for, as this version of heareval writes it",
            expected="that of at least one run",
            remedy="Run your usual `heareval prepare` or `evaluate` once: it does nothing that is done.",
        )
    published = dict(_read_published(places))
    jobs: dict[str, TaskJob | None] = {
        name: _find_job(manifest) for name, manifest in published.items() if name not in requests
    }
    oldest = now_s - REQUEST_S
    for name, request in requests.items():
        if request.changed_s >= oldest or places.task(name).exists():
            jobs[name] = request.job
    tasks: dict[str, PublishTask] = {}
    unknown, folders = set(), set()
    for name, job in jobs.items():
        if job is None or not _is_known(job):
            unknown.add(name)
            continue
        # As asked for, an archive without a published checksum is known by its address.
        for each in (job, *resolve_checksums([job], places)):
            tasks[each.folder] = PublishTask(places, job=each, sample_rates=SAMPLE_RATES)
            folders |= set(_list_folders(tasks[each.folder]))
    for manifest in published.values():
        folders |= {places.archive(archive.checksum, "").parent for archive in manifest.archives}
    work = Path(places.work)
    folders |= {work / each.folder for each in used if each.folder and each.changed_s >= oldest}
    folders |= set(_list_folders_of_submissions(places))
    return Needed(
        frozenset(folders),
        tasks,
        frozenset(unknown),
        frozenset(folder.name for folder in folders if folder.parent == places.environments()),
        any(manifest.tarball and jobs.get(name) is None for name, manifest in published.items()),
    )


def _read_published(places: Places) -> Iterator[tuple[str, TaskManifest]]:
    for folder in sorted(Path(places.tasks).glob("*")):
        if not folder.name.startswith(".") and (manifest := find_task_manifest(folder)):
            yield folder.name, manifest


def _find_job(manifest: TaskManifest) -> TaskJob | None:
    """Return the job that published a task folder; None if the manifest does not tell it."""
    if manifest.tarball:
        return None
    accepted = tuple((each.name, each.checksum) for each in manifest.archives if each.published is not True)
    on_bad_audio = "skip" if manifest.skipped else "fail"
    return TaskJob(
        manifest.task, manifest.mode, manifest.engine, tuple(sorted(accepted)), on_bad_audio=on_bad_audio
    )


def _is_known(job: TaskJob) -> bool:
    """Return whether heareval still has a task and mode, and the TOML file of an own task is still there."""
    try:
        find_mode(find_task(job.task), job.mode)
    except (HearevalError, OSError):
        return False
    return True


def _list_folders(task: PublishTask) -> Iterator[Path]:
    """Yield the folders of the archives, the corpora, the clips and the sounds that a task is made from."""
    waiting: list[Step] = [task.selection, *([task.sounds] if task.sounds else [])]
    seen: set[str] = set()
    while waiting:
        step = waiting.pop()
        if step.task_id not in seen:
            seen.add(step.task_id)
            waiting += luigi.task.flatten(step.requires())
            if isinstance(step, FetchArchive):
                yield step.path.parent
            else:
                yield step.folder


def _list_folders_of_submissions(places: Places) -> Iterator[Path]:
    """Yield the environments and the downloads of the submissions that have embeddings."""
    for folder in sorted(files.find_in_subfolders(Path(places.embeddings), "*")):
        manifest = None if folder.name.startswith(".") else find_embeddings_manifest(folder)
        if manifest is None:
            continue
        python, weights = (Path(str(manifest.submission.get(key, ""))) for key in ("python", "model"))
        # The work folder may have another path on the machine that made them.
        if python.parent.parent.parent.name == places.environments().name:
            yield places.environments() / python.parent.parent.name
        if weights.parent.parent.name == "downloads":
            yield places.archive(weights.parent.name, "").parent


def _read_contents(environment: Path) -> object:
    """Return what an environment was made from, wherever its Python is; a unique object if nobody knows."""
    try:
        manifest = read_manifest(environment)
        minor = manifest["interpreter"]["version"].split(".")[:2]
        return minor, (manifest["source"] or {}).get("identity"), sorted(manifest["requirements"])
    except (OSError, KeyError, TypeError, AttributeError):
        return object()
