"""Room 1's steps between archives and samples: which clips a task has, and where their sounds are."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from heareval import files, progress
from heareval.archives.unpack import extract, parts
from heareval.formats.task_description import describe_task
from heareval.formats.task_manifest import SkippedClip, find_task_manifest
from heareval.spec import LISTED
from heareval.tasks import adopt, audio, metadata
from heareval.workflow.corpus import CorpusStep, ExtractPublished, FetchListed, ScanArchive, reader_digest
from heareval.workflow.step import Step, read_manifest, write_manifest


class TaskStep(CorpusStep):
    """A step that makes something of a task's corpus."""

    @functools.cached_property
    def clips_fingerprint(self) -> str:
        """Changes with whatever decides which clips there are and what they are called."""
        if self.job.published:
            inputs = [self.job.folder, self.tarball.fingerprint]
            return files.fingerprint("adopt", adopt.VERSION, inputs=inputs)
        mode = self.job.mode_spec
        settings = {
            "description": describe_task(self.job.spec, self.job.mode),
            "drop_missing_files": mode.drop_missing_files,
            "archives": [[step.download.folder, step.fingerprint] for step in self.extractions],
            "listed": [step.fingerprint for step in self.listed],
            "reader": reader_digest(self.job.spec),
            "content": self.job.spec.content,
        }
        return files.fingerprint("clips", metadata.VERSION, **settings)

    @functools.cached_property
    def samples_fingerprint(self) -> str:
        """Changes with whatever decides the clips' samples, whichever rates are asked for."""
        settings = {
            "engine": [self.job.engine, audio.engine_version(self.job.engine)],
            "duration_s": self.clip_duration_s,
        }
        return files.fingerprint("audio", audio.VERSION, inputs=self.clips_fingerprint, **settings)

    def fingerprint_without(self, skipped: Sequence[SkippedClip]) -> str:
        """The same, but for a task that lacks clips whose sources are bad."""
        if not skipped:
            return self.samples_fingerprint
        gaps = sorted(f"{each.split}/{each.clip_id}" for each in skipped)
        return files.fingerprint("gaps", audio.VERSION, inputs=self.samples_fingerprint, skipped=gaps)

    @property
    def content_fingerprint(self) -> str:
        """That of the published task: of all clips or, if such may be skipped, of those that it has."""
        if self.job.on_bad_audio == "fail":
            return self.samples_fingerprint
        manifest = find_task_manifest(self.places.task(self.job.folder))
        if manifest and manifest.fingerprint == self.fingerprint_without(manifest.skipped):
            return manifest.fingerprint
        return self.samples_fingerprint

    @functools.cached_property
    def listed(self) -> list[FetchListed]:
        """The step that fetches the single files which the archives name, if they do."""
        if self.job.mode_spec.listed_files is None:
            return []
        return [FetchListed(self.places, job=self.job, mirrors=self.mirrors)]

    @property
    def clip_duration_s(self) -> float | None:
        """What clips are trimmed or padded to; those of a finished tarball keep the length that they have."""
        return None if self.job.published else self.job.spec.duration_s(self.job.mode)

    @property
    def tarball(self) -> ExtractPublished:
        """The step that brings the finished tarball of a job which names one."""
        return ExtractPublished(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def draw(self) -> DrawClips | AdoptClips:
        """The step that decides which clips there are."""
        step = AdoptClips if self.job.published else DrawClips
        return step(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def extracted_root(self) -> Path:
        """What the paths of `clips.jsonl` are relative to."""
        return Path(self.places.work) / "corpora"

    @property
    def sounds(self) -> ExtractSounds | None:
        """The step that unpacks the sounds of the drawn clips, if those of the archives are not."""
        if self.job.published or not self.job.mode_spec.sounds:
            return None
        return ExtractSounds(self.places, job=self.job, mirrors=self.mirrors)


class DrawClips(TaskStep):
    """The labels and splits of a task, and where each clip comes from."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits"

    @property
    def folder(self) -> Path:
        return self.places.stage(self.job.folder, "clips", self.clips_fingerprint)

    def requires(self) -> list[Step]:
        return [*self.extractions, *self.listed]

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        task, mode = self.job.spec, self.job.mode
        listed = {LISTED: self.listed[0].folder / "files"} if self.listed else {}
        archives = {**self.archives(), **listed}
        drawn = metadata.draw_clips(task, mode, task.read_recordings(archives, mode), self._is_there())
        with files.building_folder(self.folder) as scratch:
            metadata.write_description(scratch, task, mode, drawn)
            metadata.write_clips(scratch / metadata.CLIPS, drawn, self.extracted_root)
            counts = {split: len(drawn.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": drawn.dropped, "warnings": drawn.warnings}
            facts["archives"] = [each for step in (*self.extractions, *self.listed) for each in step.facts()]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)

    def _is_there(self) -> Callable[[Path], bool]:
        """Whether the corpus has a file, which may be a sound that is not unpacked yet."""
        scans = [step.folder for step in self.extractions if isinstance(step, ScanArchive)]
        sounds = set().union(*map(parts.listed_sounds, scans))
        return lambda path: path in sounds or path.exists()


class ExtractSounds(TaskStep):
    """The sounds of the drawn clips, from archives that were only scanned."""

    @property
    def title(self) -> str:
        return f"{self.name}: sounds"

    @property
    def folder(self) -> Path:
        fingerprint = files.fingerprint("sounds", extract.VERSION, inputs=self.clips_fingerprint)
        return self.places.stage(self.job.folder, "sounds", fingerprint)

    def requires(self) -> list[Step]:
        return [self.draw, *(fetched for step in self.extractions for fetched in step.requires())]

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        clips = metadata.read_clips(self.draw.folder / metadata.CLIPS, Path())
        # From the folder of a scanned archive to the sounds that are wanted of it.
        wanted: dict[str, set[str]] = defaultdict(set)
        for clip in clips:
            scanned, _, *member = clip.path.parts
            wanted[scanned].add("/".join(member))
        with files.building_folder(self.folder) as scratch:
            for step in self.extractions:
                name = step.folder.name
                parts.extract_some(step.archive, scratch / name, wanted[name], report, volumes=step.volumes)
            write_manifest(scratch, self.clips_fingerprint, started, sounds=sum(map(len, wanted.values())))


class AdoptClips(TaskStep):
    """The labels and splits of a finished tarball, as they are, and where each clip comes from."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits of the tarball"

    @property
    def folder(self) -> Path:
        return self.places.stage(self.job.folder, "clips", self.clips_fingerprint)

    def requires(self) -> ExtractPublished:
        return self.tarball

    def complete(self) -> bool:
        return self.folder.exists()

    def work(self, report: progress.Report) -> None:
        started = time.monotonic()
        task, mode, source = self.job.spec, self.job.mode, self.tarball.folder
        inside = adopt.read_inside(source / "files", task, mode, report)
        with files.building_folder(self.folder) as scratch:
            adopt.copy_description(inside, scratch)
            metadata.write_clips(scratch / metadata.CLIPS, inside.drawn, self.extracted_root)
            counts = {split: len(inside.drawn.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": [], "warnings": inside.drawn.warnings}
            facts["archives"] = [{**read_manifest(source)["archive"], "published": inside.is_published}]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)
