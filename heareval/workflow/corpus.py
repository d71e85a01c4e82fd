"""Steps that fetch and extract the archives of a corpus, once for all tasks that use them."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import luigi

from heareval import files, layout
from heareval.archives import fetch
from heareval.archives.estimate import EXPANSION, ArchiveSizes, RemoteFile
from heareval.archives.sizes import UNKNOWN, Size, blocks
from heareval.archives.unpack import extract, parts
from heareval.formats.licence import Licence
from heareval.spec import LISTED, Archives, Download, Mode, Progress, TaskSpec
from heareval.tasks import adopt
from heareval.tasks.licences import compose_license_text, find_licence
from heareval.tasks.own import task as own
from heareval.tasks.registry import find_mode, find_task
from heareval.workflow.code_digest import digest_code, legacy_digest_code
from heareval.workflow.step import DataclassParameter, DiskNeed, Step, read_manifest, write_manifest

WAV_HEADER_BYTES = 44
# Of the listed files of a corpus that does not say how large they are: crema_d.
LISTED_RATE_HZ = 16000


@dataclass(frozen=True)
class TaskJob:
    """A task to prepare, with all settings that decide the result.

    Args:
        task: name of the task.
        mode: name of its mode.
        engine: what resamples, one of spec.ENGINES.
        accepted: (archive name, checksum) of archives that the user accepts in place of the published ones.
        published: path or URL of a finished tarball to use instead of the corpus; "" without one.
        published_mark: identifies that tarball; the SHA-256 of one that was downloaded.
        on_bad_audio: `fail`, or `skip` to leave out clips whose source can't be decoded.
    """

    task: str
    mode: str
    engine: str = "soxr"
    accepted: tuple[tuple[str, str], ...] = ()
    published: str = ""
    published_mark: str = ""
    on_bad_audio: str = "fail"

    @property
    def identifier(self) -> str:
        """What tells it from other jobs, also where its tarball has another path; "" if all fields do.

        A task of the user's own keeps the path of its file: its fingerprint contains the path of its sounds.
        """
        if not self.published or adopt.is_url(self.published):
            return ""
        return json.dumps({**asdict(self), "published": adopt.file_name_of(self.published)}, sort_keys=True)

    @property
    def folder(self) -> str:
        """Name of the published folder."""
        return find_task(self.task).folder(self.mode)

    @functools.cached_property
    def spec(self) -> TaskSpec:
        """The task with the accepted checksums filled in."""
        task = find_task(self.task)
        mode = find_mode(task, self.mode)
        downloads = tuple(d.with_accepted(dict(self.accepted)) for d in mode.downloads)
        return replace(task, modes={self.mode: replace(mode, downloads=downloads)})

    @property
    def mode_spec(self) -> Mode:
        """The mode with the accepted checksums filled in."""
        return self.spec.modes[self.mode]

    @property
    def licence(self) -> Licence:
        """The licence of the sounds, which says whether tarballs may be packed."""
        return find_licence(self.spec, self.mode)

    @functools.cached_property
    def license_text(self) -> str:
        """The text of LICENSE.txt."""
        return compose_license_text(self.spec, self.mode)

    @property
    def is_published_corpus(self) -> bool:
        """Whether every archive has the published checksum or none was ever published."""
        return all(each.is_published for download in self.mode_spec.downloads for each in download.files)

    @functools.cached_property
    def expected_clips(self) -> int:
        """About how many clips there will be; 0 if unknown, as with other archives than the published."""
        task, mode = self.spec, self.mode_spec
        if not self.is_published_corpus:
            return 0
        seconds = task.duration_s(self.mode)
        limits = [mode.limit_s(split) for split in task.splits_of(self.mode).names]
        if seconds is None or None in limits:
            return mode.clips
        most = sum(int(limit / seconds) for limit in limits if limit is not None)
        return min(most, mode.clips or most)


class FetchArchive(Step):
    """Fetch an archive into the work folder, for all tasks that name its checksum.

    An archive without a published checksum is stored under its SHA-256, which is written to a small file.
    From there `workflow.pins` takes it, so that later steps require exactly this archive.
    """

    unit = "bytes"
    uses = ("work",)
    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)
    resources = {"download": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"fetch {self.download.file_name}"

    @property
    def record_name(self) -> str:
        # Archives of several corpora may have the same name.
        return f"{self.title} {self.download.identity}"

    @property
    def path(self) -> Path:
        return self.places.archive(self.download.identity, self.download.file_name)

    @property
    def found_checksum(self) -> Path:
        """The file with the SHA-256 of an archive that has no published checksum."""
        return layout.found_checksum(self.path)

    @property
    def remote_file(self) -> RemoteFile:
        """What this step fetches."""
        return RemoteFile(self.download, self.path, self.mirrors)

    def complete(self) -> bool:
        return self.path.exists() if self.download.expected_checksum else self.found_checksum.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return DiskNeed("download", sizes.missing_size(self.remote_file))

    def work(self, progress: Progress) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fetch.fetch(self.download, self.path, fetch.open_mirrors(self.mirrors), progress)
        if not self.download.expected_checksum:
            checksum = files.file_checksum(self.path, "sha256")
            final = self.places.archive(checksum, self.download.file_name)
            final.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(final)
            files.write_text(self.found_checksum, checksum)

    def facts(self) -> dict[str, Any]:
        """Return the archive's entry in a task's manifest."""
        published = self.download.is_published if self.download.checksum else None
        return {
            "name": self.download.file_name,
            "checksum": self.download.expected_checksum,
            "published": published,
        }


class ExtractArchive(Step):
    """Extract an archive."""

    unit = "bytes"
    uses = ("work",)
    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def title(self) -> str:
        return f"extract {self.download.file_name}"

    @property
    def record_name(self) -> str:
        # Archives of several corpora may have the same name.
        return f"{self.title} {self.download.identity}"

    @functools.cached_property
    def fingerprint(self) -> str:
        checksums = [each.identity for each in self.download.files]
        return files.fingerprint("extract", extract.VERSION, checksums=checksums)

    @property
    def folder(self) -> Path:
        return self.places.extracted(self.download.identity, self.fingerprint)

    def requires(self) -> list[FetchArchive]:
        return [FetchArchive(self.places, download=d, mirrors=self.mirrors) for d in self.download.files]

    def complete(self) -> bool:
        return self.folder.exists()

    @property
    def archive(self) -> Path:
        """The archive; the last volume if it is a zip in volumes."""
        return self.requires()[-1].path

    @property
    def volumes(self) -> list[Path]:
        """The other volumes of a zip in volumes, in order."""
        return [step.path for step in self.requires()[:-1]]

    def unpack(self, folder: Path, progress: Progress) -> int:
        """Unpack the archive into `files/` and return the number of its files."""
        return extract.extract(self.archive, folder / "files", progress, volumes=self.volumes)

    def remote_files(self) -> list[RemoteFile]:
        """Return the files that make up the archive."""
        return [step.remote_file for step in self.requires()]

    def extracted_size(self, sizes: ArchiveSizes) -> Size:
        """Return the bytes on disk of this step's folder, estimated unless it is complete."""
        return sizes.folder_size(self.folder) if self.complete() else self.expected_size(sizes)

    def expected_size(self, sizes: ArchiveSizes) -> Size:
        """Return the bytes on disk that this step will write."""
        return sizes.extracted_size(self.remote_files())

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return DiskNeed("work", self.extracted_size(sizes))

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        with files.building_folder(self.folder) as scratch:
            count = self.unpack(scratch, progress)
            facts = [step.facts() for step in self.requires()]
            write_manifest(scratch, self.fingerprint, started, archives=facts, files=count)

    def facts(self) -> list[dict[str, Any]]:
        """Return the entries of the archive and its volumes in a task's manifest."""
        facts: list[dict[str, Any]] = read_manifest(self.folder)["archives"]
        # Another task may have fetched the same bytes under another name.
        return [{**f, "name": d.file_name} for f, d in zip(facts, self.download.files, strict=True)]


class ScanArchive(ExtractArchive):
    """Extract everything in an archive except the sounds, and list the names of those."""

    headers = luigi.BoolParameter()

    @property
    def title(self) -> str:
        return f"scan {self.download.file_name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        checksums = [each.identity for each in self.download.files]
        return files.fingerprint("scan", extract.VERSION, checksums=checksums, headers=self.headers)

    def unpack(self, folder: Path, progress: Progress) -> int:
        """Unpack all but the sounds and return the number of the archive's files."""
        return parts.scan(self.archive, folder, progress, headers=self.headers, volumes=self.volumes)

    def expected_size(self, sizes: ArchiveSizes) -> Size:
        return sizes.scanned_size(self.remote_files(), headers=self.headers)


class CorpusStep(Step):
    """A step of one task and mode that needs the extracted archives of the task."""

    job = DataclassParameter(TaskJob)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def name(self) -> str:
        """`speech_commands 5h`"""
        return f"{self.job.spec.name} {self.job.mode}"

    @functools.cached_property
    def extractions(self) -> list[ExtractArchive]:
        """The steps that extract the archives, or scan them if only some of the sounds are needed."""
        mode = self.job.mode_spec
        if mode.sounds:
            scan = functools.partial(ScanArchive, self.places, headers=mode.headers, mirrors=self.mirrors)
            return [scan(download=d) for d in mode.downloads]
        return [ExtractArchive(self.places, download=d, mirrors=self.mirrors) for d in mode.downloads]

    def archives(self) -> Archives:
        """Return the folders of the extracted archives by the keys that the corpus module uses."""
        return {step.download.folder: step.folder / "files" for step in self.extractions}


class FetchListed(CorpusStep):
    """Fetch the single files that a corpus lists in its archives. A killed run keeps the files it has."""

    unit = "files"
    resources = {"download": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"{self.name}: listed files"

    @property
    def output(self) -> str:
        # Tasks that share the files have a step each.
        return str(self.folder)

    @functools.cached_property
    def fingerprint(self) -> str:
        task = self.job.spec
        # Tasks with the clips of another one list its files, so they share its folder.
        lister = find_task(task.clips_of) if task.clips_of else task
        current = self.fingerprint_with(reader_digest(lister))
        if self._folder(current).exists():
            return current
        # Files that heareval 0.1.0 fetched are not fetched again, see TaskStep.clips_fingerprint.
        legacy = self.fingerprint_with(legacy_reader_digest(lister))
        return legacy if self._folder(legacy).exists() else current

    def fingerprint_with(self, reader: str) -> str:
        """Return the fingerprint for a digest of the corpus module, which names the files to fetch."""
        archives = [step.fingerprint for step in self.extractions]
        return files.fingerprint("listed", fetch.LISTED_VERSION, archives=archives, reader=reader)

    @property
    def folder(self) -> Path:
        return self._folder(self.fingerprint)

    def _folder(self, fingerprint: str) -> Path:
        return self.places.extracted(LISTED, fingerprint)

    def requires(self) -> list[ExtractArchive]:
        return self.extractions

    def complete(self) -> bool:
        return (self.folder / files.MANIFEST).exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        count, seconds = self.job.expected_clips, self.job.spec.duration_s(self.job.mode)
        whole = self.job.mode_spec.listed_bytes
        if count and seconds and not whole:
            # Assumes that the files are as long as the clips made from them.
            whole = count * wav_bytes_on_disk(seconds, LISTED_RATE_HZ)
        if not whole:
            return DiskNeed("download", UNKNOWN)
        there = sum(blocks(path.stat().st_size) for path in self.folder.glob("files/*"))
        return DiskNeed("download", Size(max(0, whole - there), is_exact=False))

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        list_files = self.job.mode_spec.listed_files
        downloads = list(list_files(self.archives())) if list_files else []
        mirrors = fetch.open_mirrors(self.mirrors)
        checksum = fetch.fetch_listed(downloads, self.folder / "files", mirrors, progress)
        published = None if any(not d.checksum for d in downloads) else True
        facts = {"name": f"{len(downloads)} listed files", "checksum": checksum, "published": published}
        write_manifest(self.folder, self.fingerprint, started, archives=[facts])

    def facts(self) -> list[dict[str, Any]]:
        """Return the entry of the files in a task's manifest."""
        facts: list[dict[str, Any]] = read_manifest(self.folder)["archives"]
        return facts


class ExtractPublished(CorpusStep):
    """Extract the finished tarball of a task. A local file is read in place, a URL is fetched first."""

    unit = "bytes"

    @property
    def title(self) -> str:
        return f"extract {adopt.file_name_of(self.job.published)}"

    @functools.cached_property
    def fingerprint(self) -> str:
        return files.fingerprint("extract", extract.VERSION, published=self.job.published_mark)

    @property
    def folder(self) -> Path:
        return self.places.extracted("published", self.fingerprint)

    def requires(self) -> list[FetchArchive]:
        if not adopt.is_url(self.job.published):
            return []
        mark = self.job.published_mark
        tarball = Download(self.job.published, "", accepted="" if adopt.is_url(mark) else mark)
        return [FetchArchive(self.places, download=tarball, mirrors=self.mirrors)]

    def complete(self) -> bool:
        return self.folder.exists()

    def extracted_size(self, sizes: ArchiveSizes) -> Size:
        """Return the bytes on disk of this step's folder, estimated unless it is complete."""
        if self.complete():
            return sizes.folder_size(self.folder)
        if fetched := self.requires():
            return sizes.extracted_size([step.remote_file for step in fetched])
        return Size(Path(self.job.published).stat().st_size).scaled(EXPANSION[".gz"])

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return DiskNeed("work", self.extracted_size(sizes))

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        tarball = next((step.path for step in self.requires()), Path(self.job.published))
        with files.building_folder(self.folder) as scratch:
            count = extract.extract(tarball, scratch / "files", progress)
            checksum = files.file_checksum(tarball, "sha256")
            adopt.check_mark(self.job.published, self.job.published_mark)
            fact = {"name": tarball.name, "checksum": checksum}
            write_manifest(scratch, self.fingerprint, started, archive=fact, files=count)


def wav_bytes_on_disk(seconds: float, sample_rate: int) -> int:
    """Return the bytes on disk of a 16-bit mono WAV file, in whole blocks.

    >>> wav_bytes_on_disk(1.0, 16000)
    32768
    """
    return blocks(WAV_HEADER_BYTES + 2 * int(seconds * sample_rate + 0.5))


def reader_digest(task: TaskSpec) -> str:
    """Return the digest of the code that reads the labels, which is an input like any archive."""
    if own.get_sounds(task):
        return own.READER_DIGEST
    digest = digest_code(_reader_source(task))
    if not task.clips_of:
        return digest
    # The module of such a task calls the reader of the other task.
    both = f"{digest} {reader_digest(find_task(task.clips_of))}"
    return hashlib.sha256(both.encode()).hexdigest()


def legacy_reader_digest(task: TaskSpec) -> str:
    """Return that digest as heareval 0.1.0 computed it under the running Python."""
    if own.get_sounds(task):
        return own.READER_DIGEST_OF_PYTHON_3_10
    return legacy_digest_code(_reader_source(task))


def _reader_source(task: TaskSpec) -> str:
    """Return the source of the module that reads a task's labels."""
    reader = task.read_recordings
    function = reader.func if isinstance(reader, functools.partial) else reader
    return _module_source(inspect.getmodule(function) or function)


@functools.cache
def _module_source(module: object) -> str:
    return inspect.getsource(module)  # type: ignore[arg-type]
