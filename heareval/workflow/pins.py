"""Checksums for archives that were published without one.

Fingerprints name the inputs of a step by checksum, so an archive needs one before anything is made from it.
The first one known is used: that in the manifest of the published folder, whose further sample rates must
come from the same archive, otherwise the checksum of the fetched archive into the work folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from heareval import layout
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places
from heareval.spec import Download
from heareval.tasks import adopt
from heareval.workflow.corpus import FetchArchive, TaskJob


def resolve_checksums(jobs: Sequence[TaskJob], places: Places) -> list[TaskJob]:
    """Return the jobs with all checksums that are known; the others stay empty.

    Before the steps of `missing_archives` are done, the result is good enough to plan with. Afterwards every
    archive has a checksum.
    """
    return [_with_checksums(job, places) for job in jobs]


def missing_archives(jobs: Sequence[TaskJob], places: Places, mirrors: tuple[str, ...]) -> list[FetchArchive]:
    """Return the steps that fetch the archives whose checksum is not known; each archive once."""
    steps = [
        FetchArchive(places, download=download, mirrors=mirrors)
        for job in jobs
        for download in _without_checksum(job)
        if not _find_checksum(job, download, places)
    ]
    return [step for step in dict.fromkeys(steps) if not step.complete()]


def _with_checksums(job: TaskJob, places: Places) -> TaskJob:
    found = {
        download.file_name: checksum
        for download in _without_checksum(job)
        if (checksum := _find_checksum(job, download, places))
    }
    if job.published:
        return replace(job, published_mark=next(iter(found.values()), job.published_mark))
    return replace(job, accepted=tuple(sorted({**dict(job.accepted), **found}.items())))


def _without_checksum(job: TaskJob) -> Iterator[Download]:
    """Yield the archives of a job that have no checksum, neither a published nor an accepted one."""
    if job.published:
        if adopt.is_url(job.published):
            yield Download(job.published, "")
        return
    for download in job.mode_spec.downloads:
        yield from (file for file in download.files if not file.expected_checksum)


def _find_checksum(job: TaskJob, download: Download, places: Places) -> str:
    """Return the SHA-256 with which an archive was used or fetched before, or "" if there is none."""
    manifest = find_task_manifest(places.task(job.folder))
    source = adopt.file_name_of(job.published) if job.published else None
    if manifest and manifest.tarball == source:
        for archive in manifest.archives:
            if archive.name == download.file_name and archive.published is not True:
                return archive.checksum
    found = layout.found_checksum(places.archive(download.identity, download.file_name))
    return found.read_text() if found.exists() else ""
