"""Room 1's steps between archives and prepared audio: select the clips of a task and find their sounds."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from heareval import files
from heareval.archives.estimate import ArchiveSizes
from heareval.archives.sizes import UNKNOWN, Size, total
from heareval.archives.unpack import extract, parts
from heareval.formats.task_description import describe_task
from heareval.formats.task_manifest import SkippedClip, TaskManifest, find_task_manifest
from heareval.spec import LISTED, Progress
from heareval.tasks import adopt, audio, metadata
from heareval.workflow.corpus import (
    CorpusStep,
    ExtractArchive,
    ExtractPublished,
    FetchListed,
    ScanArchive,
    legacy_reader_digest,
    reader_digest,
    wav_bytes_on_disk,
)
from heareval.workflow.step import NO_DISK_NEED, DiskNeed, Step, read_manifest, write_manifest

# Clips at the sample rate of their sources need about the space of the sources. This is the rate of fsd50k,
# the one task that tells neither the length nor the mean length of its clips.
SOURCE_RATE_HZ = 44100


class TaskStep(CorpusStep):
    """A step that makes something from the corpus of a task."""

    @functools.cached_property
    def clips_fingerprint(self) -> str:
        """Fingerprint of everything that decides which clips there are and how they are named.

        It contains the digest of the corpus module's code, which heareval 0.1.0 computed in another way. A
        task that 0.1.0 published or began under this version of Python keeps its fingerprint, so that its
        clips, tarballs, embeddings and scores stay complete. Everything else gets today's fingerprint.
        """
        if self.job.published:
            inputs = [self.job.folder, self.tarball.fingerprint]
            return files.fingerprint("adopt", adopt.VERSION, inputs=inputs)
        published = self._published_manifest()
        current = self._clips_fingerprint_with(reader_digest(self.job.spec))
        if published and self._is_published_from(current, published):
            return current
        legacy = self._clips_fingerprint_with(legacy_reader_digest(self.job.spec))
        if published and self._is_published_from(legacy, published):
            return legacy
        is_legacy = self._clips_folder(legacy).exists() and not self._clips_folder(current).exists()
        return legacy if is_legacy else current

    def _clips_fingerprint_with(self, reader: str) -> str:
        """Return the fingerprint for a digest of the corpus module."""
        mode = self.job.mode_spec
        settings = {
            "description": describe_task(self.job.spec, self.job.mode),
            "drop_missing_files": mode.drop_missing_files,
            "archives": [[step.download.folder, step.fingerprint] for step in self.extractions],
            "listed": [step.fingerprint_with(reader) for step in self.listed],
            "reader": reader,
            "content": self.job.spec.content,
        }
        return files.fingerprint("clips", metadata.VERSION, **settings)

    def _published_manifest(self) -> TaskManifest | None:
        return find_task_manifest(self.places.task(self.job.folder))

    def _is_published_from(self, clips_fingerprint: str, manifest: TaskManifest) -> bool:
        """Return whether a published folder was made from these clips, whichever of them were skipped."""
        samples = self._samples_fingerprint_of(clips_fingerprint)
        return manifest.fingerprint == _fingerprint_without(manifest.skipped, samples)

    def _clips_folder(self, clips_fingerprint: str) -> Path:
        return self.places.stage(self.job.folder, "clips", clips_fingerprint)

    @functools.cached_property
    def samples_fingerprint(self) -> str:
        """Fingerprint of everything that decides the samples of the clips, at whatever sample rates."""
        return self._samples_fingerprint_of(self.clips_fingerprint)

    def _samples_fingerprint_of(self, clips_fingerprint: str) -> str:
        settings = {
            "engine": [self.job.engine, audio.engine_version(self.job.engine)],
            "duration_s": self.clip_duration_s,
        }
        return files.fingerprint("audio", audio.VERSION, inputs=clips_fingerprint, **settings)

    def fingerprint_without(self, skipped: Sequence[SkippedClip]) -> str:
        """Return the fingerprint of the task without the clips that were skipped."""
        return _fingerprint_without(skipped, self.samples_fingerprint)

    @property
    def task_fingerprint(self) -> str:
        """Fingerprint of the published task, without the clips that were skipped if that is allowed."""
        if self.job.on_bad_audio == "fail":
            return self.samples_fingerprint
        manifest = self._published_manifest()
        if manifest and manifest.fingerprint == self.fingerprint_without(manifest.skipped):
            return manifest.fingerprint
        return self.samples_fingerprint

    @functools.cached_property
    def listed(self) -> list[FetchListed]:
        """The step that fetches the single files which the archives list, if they do."""
        if self.job.mode_spec.listed_files is None:
            return []
        return [FetchListed(self.places, job=self.job, mirrors=self.mirrors)]

    @property
    def clip_duration_s(self) -> float | None:
        """The length to trim or pad clips to; None for those of a finished tarball, which keep theirs."""
        return None if self.job.published else self.job.spec.duration_s(self.job.mode)

    @property
    def tarball(self) -> ExtractPublished:
        """The step that extracts the finished tarball, for a job that names one."""
        return ExtractPublished(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def selection(self) -> SelectClips | AdoptClips:
        """The step that decides which clips there are."""
        step = AdoptClips if self.job.published else SelectClips
        return step(self.places, job=self.job, mirrors=self.mirrors)

    @property
    def extracted_root(self) -> Path:
        """The folder that the paths in `clips.jsonl` are relative to."""
        return Path(self.places.work) / "corpora"

    @property
    def sounds(self) -> ExtractSounds | None:
        """The step that extracts the sounds of the selected clips, if the archives are only scanned."""
        if self.job.published or not self.job.mode_spec.sounds:
            return None
        return ExtractSounds(self.places, job=self.job, mirrors=self.mirrors)

    def selected_count(self) -> int | None:
        """Return how many clips there are; None until they are selected."""
        if selected := read_manifest(self.selection.folder):
            return sum(selected["clips"].values())
        published = self._published_manifest()
        if published and published.fingerprint == self.task_fingerprint:
            return sum(published.clips.values())
        return None

    def expected_count(self) -> int:
        """Return how many clips there are, or about how many there will be; 0 if that is unknown."""
        selected = self.selected_count()
        return self.job.expected_clips if selected is None else selected

    def clips_size(
        self, sample_rates: Sequence[int], sizes: ArchiveSizes, *, shard: int = 0, shards: int = 1
    ) -> Size:
        """Return the bytes on disk of the clips of one shard at some sample rates."""
        fixed_s, selected = self.job.spec.duration_s(self.job.mode), self.selected_count()
        count, seconds = self.expected_count(), fixed_s or self.job.mode_spec.mean_clip_s
        if count and seconds:
            here = count * (shard + 1) // shards - count * shard // shards
            size = here * sum(wav_bytes_on_disk(seconds, rate) for rate in sample_rates)
            return Size(size, is_exact=selected is not None and fixed_s is not None)
        sources: Sequence[ExtractArchive | ExtractPublished] = self.extractions
        if self.job.published:
            sources = [self.tarball]
        if not sources:
            return UNKNOWN
        extracted = total(step.extracted_size(sizes) for step in sources)
        return extracted.scaled(sum(sample_rates) / SOURCE_RATE_HZ / shards)


def _fingerprint_without(skipped: Sequence[SkippedClip], samples_fingerprint: str) -> str:
    if not skipped:
        return samples_fingerprint
    gaps = sorted(f"{each.split}/{each.clip_id}" for each in skipped)
    return files.fingerprint("gaps", audio.VERSION, inputs=samples_fingerprint, skipped=gaps)


class SelectClips(TaskStep):
    """Select the clips of a task: their labels and splits, and the source of each clip."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits"

    @property
    def folder(self) -> Path:
        return self._clips_folder(self.clips_fingerprint)

    def requires(self) -> list[Step]:
        return [*self.extractions, *self.listed]

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        task, mode = self.job.spec, self.job.mode
        listed = {LISTED: self.listed[0].folder / "files"} if self.listed else {}
        archives = {**self.archives(), **listed}
        selected = metadata.select_clips(
            task, mode, task.read_recordings(archives, mode), self._find_in_corpus()
        )
        if task.read_relation:
            selected = replace(selected, relation=task.read_relation(archives, mode))
        with files.building_folder(self.folder) as scratch:
            metadata.write_description(scratch, task, mode, selected)
            metadata.write_clips(scratch / metadata.CLIPS, selected, self.extracted_root)
            counts = {split: len(selected.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": selected.dropped, "warnings": selected.warnings}
            facts["archives"] = [each for step in (*self.extractions, *self.listed) for each in step.facts()]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)

    def _find_in_corpus(self) -> Callable[[Path], bool]:
        """Return a function that says whether the corpus has a file, extracted or only scanned."""
        scans = [step.folder for step in self.extractions if isinstance(step, ScanArchive)]
        sounds = set().union(*map(parts.list_sounds, scans))
        return lambda path: path in sounds or path.exists()


class ExtractSounds(TaskStep):
    """Extract the sounds of the selected clips from archives that were only scanned."""

    @property
    def title(self) -> str:
        return f"{self.name}: sounds"

    @property
    def folder(self) -> Path:
        fingerprint = files.fingerprint("sounds", extract.VERSION, inputs=self.clips_fingerprint)
        return self.places.stage(self.job.folder, "sounds", fingerprint)

    def requires(self) -> list[Step]:
        return [self.selection, *(fetched for step in self.extractions for fetched in step.requires())]

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        # Assumes that all sounds in the archives have the same length.
        count = self.expected_count()
        share = count / self.job.mode_spec.sounds if count and self.job.is_published_corpus else 1
        whole = total(sizes.extracted_size(step.remote_files()) for step in self.extractions)
        return DiskNeed("work", whole.scaled(min(1, share)))

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        # Folder of a scanned archive -> its members that hold sounds of the clips.
        members: dict[str, set[str]] = defaultdict(set)
        for clip in metadata.read_clips(self.selection.folder / metadata.CLIPS):
            members[clip.archive_folder].add(clip.member)
        with files.building_folder(self.folder) as scratch:
            for step in self.extractions:
                name = step.folder.name
                parts.extract_some(
                    step.archive, scratch / name, members[name], progress, volumes=step.volumes
                )
            write_manifest(scratch, self.clips_fingerprint, started, sounds=sum(map(len, members.values())))


class AdoptClips(TaskStep):
    """Take over the clips of a finished tarball: their labels and splits, and the source of each clip."""

    @property
    def title(self) -> str:
        return f"{self.name}: labels and splits of the tarball"

    @property
    def folder(self) -> Path:
        return self._clips_folder(self.clips_fingerprint)

    def requires(self) -> ExtractPublished:
        return self.tarball

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        return NO_DISK_NEED

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        task, mode, source = self.job.spec, self.job.mode, self.tarball.folder
        content = adopt.read_content(source / "files", task, mode, progress)
        with files.building_folder(self.folder) as scratch:
            adopt.copy_description(content, scratch)
            metadata.write_clips(scratch / metadata.CLIPS, content.selected, self.extracted_root)
            counts = {split: len(content.selected.of_split(split)) for split in task.splits_of(mode).names}
            facts = {"clips": counts, "dropped": [], "warnings": content.selected.warnings}
            facts["archives"] = [{**read_manifest(source)["archive"], "published": content.is_published}]
            write_manifest(scratch, self.clips_fingerprint, started, **facts)
