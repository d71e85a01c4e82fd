"""Archives that no checksum was published of, pinned by what is found, before anything is made of them.

What is made names its inputs by checksum, so these must have one too. The first that is known counts: that of
the published folder, whose further rates must come from the same archive, of the work folder, or of what is
fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from heareval import layout
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places
from heareval.spec import Download
from heareval.tasks import adopt
from heareval.workflow.corpus import FetchArchive, TaskJob


def pinned(
    jobs: Sequence[TaskJob],
    places: Places,
    mirrors: tuple[str, ...],
    run: Callable[[list[FetchArchive]], object] = lambda steps: None,
) -> list[TaskJob]:
    """The jobs with a checksum for every archive, as far as one is known when `run` has fetched the others.

    Args:
        run: does steps; what it does not do stays without a checksum.
    """
    steps = [
        FetchArchive(places, download=download, mirrors=mirrors)
        for job in jobs
        for download in _unknown(job)
        if not _known(job, download, places)
    ]
    if missing := [step for step in dict.fromkeys(steps) if not step.complete()]:
        run(missing)
    return [_with_checksums(job, places) for job in jobs]


def _unknown(job: TaskJob) -> Iterator[Download]:
    """The archives of a job that have no checksum."""
    if job.published:
        if adopt.is_url(job.published):
            yield Download(job.published, "")
        return
    for download in job.mode_spec.downloads:
        yield from (file for file in download.files if not file.wanted)


def _known(job: TaskJob, download: Download, places: Places) -> str:
    """The SHA-256 of an archive that was used before; "" if there is none."""
    manifest = find_task_manifest(places.task(job.folder))
    tarball = adopt.name_of(job.published) if job.published else None
    if manifest and manifest.tarball == tarball:
        for archive in manifest.archives:
            if archive.name == download.file_name and archive.published is not True:
                return archive.checksum
    noted = layout.found_checksum(places.archive(download.identity, download.file_name))
    return noted.read_text() if noted.exists() else ""


def _with_checksums(job: TaskJob, places: Places) -> TaskJob:
    found = {d.file_name: checksum for d in _unknown(job) if (checksum := _known(job, d, places))}
    if job.published:
        return replace(job, published_mark=next(iter(found.values()), job.published_mark))
    return replace(job, accepted=tuple(sorted({**dict(job.accepted), **found}.items())))
