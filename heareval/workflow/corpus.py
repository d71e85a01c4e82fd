"""The steps that bring a corpus: archives fetched and extracted, once for all tasks that use them."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import luigi

from heareval import files, layout, progress
from heareval.archives import fetch
from heareval.archives.unpack import extract, parts
from heareval.spec import LISTED, Archives, Download, Mode, TaskSpec
from heareval.tasks import adopt
from heareval.tasks.own import task as own
from heareval.tasks.registry import find_mode, find_task
from heareval.workflow.step import DataclassParameter, Step, read_manifest, write_manifest


@dataclass(frozen=True)
class TaskJob:
    """A task to prepare, as far as it decides what comes out.

    Args:
        accepted: (archive name, checksum) of archives admitted in place of the published ones.
        published: path or URL of the finished tarball that stands in for the corpus; "" without one.
        published_mark: tells that tarball from every other one; of one on the web its SHA-256.
        on_bad_audio: `fail`, or `skip`: go on without a clip whose source can't be used.
    """

    task: str
    mode: str
    engine: str = "soxr"
    accepted: tuple[tuple[str, str], ...] = ()
    published: str = ""
    published_mark: str = ""
    on_bad_audio: str = "fail"

    @property
    def folder(self) -> str:
        """Name of the published folder."""
        return find_task(self.task).folder(self.mode)

    @functools.cached_property
    def spec(self) -> TaskSpec:
        """The task with the accepted checksums filled in."""
        task = find_task(self.task)
        mode = find_mode(task, self.mode)
        downloads = tuple(d.accepting(dict(self.accepted)) for d in mode.downloads)
        return replace(task, modes={self.mode: replace(mode, downloads=downloads)})

    @property
    def mode_spec(self) -> Mode:
        """The mode with the accepted checksums filled in."""
        return self.spec.modes[self.mode]

    @property
    def is_published_corpus(self) -> bool:
        """Whether nothing is known against the archives being the published ones."""
        return all(each.is_published for download in self.mode_spec.downloads for each in download.files)


class FetchArchive(Step):
    """An archive in the work folder, shared by every task that names its checksum.

    One without a checksum goes where its SHA-256 says, and that is noted; `workflow.pins` then has it wanted.
    """

    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)
    resources = {"download": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"fetch {self.download.file_name}"

    @property
    def path(self) -> Path:
        return self.places.archive(self.download.identity, self.download.file_name)

    @property
    def found_checksum(self) -> Path:
        """Where the SHA-256 of an archive is noted that no checksum was published of."""
        return layout.found_checksum(self.path)

    def complete(self) -> bool:
        return self.path.exists() if self.download.wanted else self.found_checksum.exists()

    def work(self, report: progress.Report) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fetch.fetch(self.download, self.path, fetch.open_mirrors(self.mirrors), report)
        if not self.download.wanted:
            checksum = files.file_checksum(self.path, "sha256")
            known = self.places.archive(checksum, self.download.file_name)
            known.parent.mkdir(parents=True, exist_ok=True)
            self.path.replace(known)
            files.write_text(self.found_checksum, checksum)

    def facts(self) -> dict[str, Any]:
        """What a task's manifest tells of the file."""
        published = self.download.is_published if self.download.checksum else None
        return {"name": self.download.file_name, "checksum": self.download.wanted, "published": published}


class ExtractArchive(Step):
    """What is in an archive."""

    download = DataclassParameter(Download)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def title(self) -> str:
        return f"extract {self.download.file_name}"

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
        """The archive; of a zip in volumes the last one."""
        return self.requires()[-1].path

    @property
    def volumes(self) -> list[Path]:
        """The earlier volumes of a zip."""
        return [step.path for step in self.requires()[:-1]]

    def unpack(self, folder: Path, report: progress.Report) -> int:
        """Unpack the archive into `files/`; returns how many files it has."""
        return extract.extract(self.archive, folder / "files", report, volumes=self.volumes)

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        with files.building_folder(self.folder) as scratch:
            count = self.unpack(scratch, report)
            facts = [step.facts() for step in self.requires()]
            write_manifest(scratch, self.fingerprint, started, archives=facts, files=count)

    def facts(self) -> list[dict[str, Any]]:
        """What a task's manifest tells of the archive and its volumes."""
        facts: list[dict[str, Any]] = read_manifest(self.folder)["archives"]
        # Another task may have brought the same bytes under another name.
        return [{**f, "name": d.file_name} for f, d in zip(facts, self.download.files, strict=True)]


class ScanArchive(ExtractArchive):
    """What is in an archive besides sounds, and the names of these."""

    headers = luigi.BoolParameter()

    @property
    def title(self) -> str:
        return f"scan {self.download.file_name}"

    @functools.cached_property
    def fingerprint(self) -> str:
        checksums = [each.identity for each in self.download.files]
        return files.fingerprint("scan", extract.VERSION, checksums=checksums, headers=self.headers)

    def unpack(self, folder: Path, report: progress.Report) -> int:
        """Unpack what is no sound; returns how many files the archive has."""
        return parts.scan(self.archive, folder, report, headers=self.headers, volumes=self.volumes)


class CorpusStep(Step):
    """A step of one task and mode, which stands on the task's extracted archives."""

    job = DataclassParameter(TaskJob)
    mirrors = luigi.TupleParameter(default=(), significant=False)

    @property
    def name(self) -> str:
        """`speech_commands 5h`"""
        return f"{self.job.spec.name} {self.job.mode}"

    @functools.cached_property
    def extractions(self) -> list[ExtractArchive]:
        """The archives of this task and mode, extracted, or scanned where only some sounds are needed."""
        mode = self.job.mode_spec
        if mode.sounds:
            scan = functools.partial(ScanArchive, self.places, headers=mode.headers, mirrors=self.mirrors)
            return [scan(download=d) for d in mode.downloads]
        return [ExtractArchive(self.places, download=d, mirrors=self.mirrors) for d in mode.downloads]

    def archives(self) -> Archives:
        """The extracted archives as the corpus module finds them."""
        return {step.download.folder: step.folder / "files" for step in self.extractions}


class FetchListed(CorpusStep):
    """The single files that a corpus names in its archives; a killed run keeps those that it has."""

    resources = {"download": 1}  # noqa: RUF012

    @property
    def title(self) -> str:
        return f"{self.name}: listed files"

    @functools.cached_property
    def fingerprint(self) -> str:
        settings = {
            "archives": [step.fingerprint for step in self.extractions],
            "reader": reader_digest(self.job.spec),
        }
        return files.fingerprint("listed", fetch.LISTED_VERSION, **settings)

    @property
    def folder(self) -> Path:
        return self.places.extracted(LISTED, self.fingerprint)

    def requires(self) -> list[ExtractArchive]:
        return self.extractions

    def complete(self) -> bool:
        return (self.folder / files.MANIFEST).exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        list_files = self.job.mode_spec.listed_files
        downloads = list(list_files(self.archives())) if list_files else []
        mirrors = fetch.open_mirrors(self.mirrors)
        checksum = fetch.fetch_listed(downloads, self.folder / "files", mirrors, report)
        published = None if any(not d.checksum for d in downloads) else True
        facts = {"name": f"{len(downloads)} listed files", "checksum": checksum, "published": published}
        write_manifest(self.folder, self.fingerprint, started, archives=[facts])

    def facts(self) -> list[dict[str, Any]]:
        """What a task's manifest tells of the files."""
        facts: list[dict[str, Any]] = read_manifest(self.folder)["archives"]
        return facts


class ExtractPublished(CorpusStep):
    """What is in the finished tarball of a task; a file is read where it lies, a URL is fetched first."""

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

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        tarball = next((step.path for step in self.requires()), Path(self.job.published))
        with files.building_folder(self.folder) as scratch:
            count = extract.extract(tarball, scratch / "files", report)
            checksum = files.file_checksum(tarball, "sha256")
            adopt.check_mark(self.job.published, self.job.published_mark)
            fact = {"name": tarball.name, "checksum": checksum}
            write_manifest(scratch, self.fingerprint, started, archive=fact, files=count)


def reader_digest(task: TaskSpec) -> str:
    """Digest of the corpus module's code: another way to read labels must never pass for the old one."""
    if own.get_sounds(task):
        return own.READER_DIGEST
    reader = task.read_recordings
    function = reader.func if isinstance(reader, functools.partial) else reader
    return _module_digest(inspect.getmodule(function) or function)


@functools.cache
def _module_digest(module: object) -> str:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
