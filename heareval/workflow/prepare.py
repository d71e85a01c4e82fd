"""Room 1's last steps: write the clips at every rate, publish the task folder, pack its tarballs."""

from __future__ import annotations

import functools
import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import luigi

from heareval import files, layout
from heareval.archives.estimate import ArchiveSizes
from heareval.archives.sizes import Size
from heareval.formats.digests import check_unchanged, digest_file, digests_to_json, parse_digests
from heareval.formats.fields import Fields
from heareval.formats.tarball_record import (
    TarballRecord,
    begin_tarball_record,
    check_tarballs_are_ours,
    find_tarball_record,
    write_tarball_record,
)
from heareval.formats.task_manifest import Archive, SkippedClip, TaskManifest, find_task_manifest
from heareval.layout import Places
from heareval.spec import Progress
from heareval.tasks import adopt, audio, metadata, publish, tarball
from heareval.workflow.clips import TaskStep
from heareval.workflow.corpus import TaskJob
from heareval.workflow.step import DiskNeed, Step, read_manifest, versions, write_manifest

# WAV files with dither noise compress to 0.87 of their size, and hardly any to more.
COMPRESSED_SHARE = 0.9


class PrepareClips(TaskStep):
    """Write one shard of a task's clips at some sample rates."""

    sample_rates = luigi.TupleParameter()
    shard = luigi.IntParameter()

    @property
    def shards(self) -> int:
        return self.job.spec.shards(self.job.mode)

    @property
    def title(self) -> str:
        return f"{self.name}: clips, part {self.shard + 1} of {self.shards}"

    def _folder_of(self, samples_fingerprint: str) -> Path:
        settings = {"rates": self.sample_rates, "shard": self.shard, "shards": self.shards}
        fingerprint = files.fingerprint("shard", audio.VERSION, content=samples_fingerprint, **settings)
        return self.places.stage(self.job.folder, f"shard{self.shard:03d}", fingerprint)

    @property
    def folder(self) -> Path:
        whole = self._folder_of(self.samples_fingerprint)
        # A shard that was finished where bad sources are errors has no gaps, so it also serves `skip`.
        if self.job.on_bad_audio == "fail" or whole.exists():
            return whole
        return self._folder_of(f"{self.samples_fingerprint} with gaps")

    def requires(self) -> list[TaskStep]:
        return [self.selection, self.sounds] if self.sounds else [self.selection]

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        size = self.clips_size(self.sample_rates, sizes, shard=self.shard, shards=self.shards)
        return DiskNeed("work", size)

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        count = sum(read_manifest(self.selection.folder)["clips"].values())
        start, end = (count * i // self.shards for i in (self.shard, self.shard + 1))
        root = self.sounds.folder if self.sounds else self.extracted_root
        sources = metadata.read_clips(self.selection.folder / metadata.CLIPS, start, end)
        shared = self._find_shared_clips()
        clips = [source.to_recording(root) for source in sources if _stretch(source) not in shared]
        skip_bad = self.job.on_bad_audio == "skip"
        settings = audio.AudioSettings(self.sample_rates, self.clip_duration_s, self.job.engine, skip_bad)
        with files.building_folder(self.folder) as scratch:
            for source in sources:
                for path in shared.get(_stretch(source), ()):
                    target = scratch / path.parent.parent.name / source.split / f"{source.clip_id}.wav"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    files.link_or_copy(path, target)
            skipped = audio.prepare_clips(clips, scratch, settings, progress)
            facts = {
                "clips": len(sources),
                "rates": self.sample_rates,
                "skipped": [asdict(s) for s in skipped],
            }
            # Now, while the clips are still in the memory of the operating system.
            digests = {
                path.relative_to(scratch).as_posix(): digest_file(path)
                for path in sorted(scratch.rglob("*.wav"))
            }
            facts["digests"] = digests_to_json(digests)
            write_manifest(scratch, self.samples_fingerprint, started, **facts)

    def _find_shared_clips(self) -> dict[Hashable, list[Path]]:
        """Return the finished clips of the task that this one shares clips with, by the stretch of sound.

        Both are made alike, so it does not matter for the result whether that task was prepared before.
        """
        if not self.job.spec.clips_of or self.job.published:
            return {}
        job = replace(self.job, task=self.job.spec.clips_of)
        if job.spec.duration_s(job.mode) != self.clip_duration_s:
            return {}
        options = {"job": job, "mirrors": self.mirrors, "sample_rates": self.sample_rates}
        shards = [PrepareClips(self.places, shard=i, **options) for i in range(job.spec.shards(job.mode))]
        finished = [shard.folder for shard in shards if shard.complete()]
        if not finished or not shards[0].selection.complete():
            return {}
        for folder in finished:
            digests = parse_digests(Fields("digests", read_manifest(folder).get("digests", {})))
            check_unchanged(folder, digests, f"Remove {folder}, and run again.")
        clips = metadata.read_clips(shards[0].selection.folder / metadata.CLIPS)
        paths = {
            clip: [
                f / str(r) / clip.split / f"{clip.clip_id}.wav" for f in finished for r in self.sample_rates
            ]
            for clip in clips
        }
        found = {_stretch(clip): [path for path in paths[clip] if path.exists()] for clip in clips}
        return {stretch: each for stretch, each in found.items() if len(each) == len(self.sample_rates)}


def _stretch(clip: metadata.ClipSource) -> Hashable:
    """Return what decides the samples of a clip: its source, the stretch of it, and the rounding."""
    return clip.source, clip.start_frame, clip.frames, clip.floor


class PublishTask(TaskStep):
    """Publish the folder of a task with at least the sample rates asked for."""

    sample_rates = luigi.TupleParameter()

    @property
    def title(self) -> str:
        return f"{self.name}: task folder"

    @property
    def folder(self) -> Path:
        return self.places.task(self.job.folder)

    def published_rates(self) -> set[int]:
        """Return the sample rates at which exactly these clips are published."""
        manifest = find_task_manifest(self.folder)
        if manifest and manifest.fingerprint == self.task_fingerprint:
            return set(manifest.sample_rates)
        return set()

    @functools.cached_property
    def missing_rates(self) -> tuple[int, ...]:
        """The rates that were not published when the run was planned; only these are made."""
        return tuple(rate for rate in self.sample_rates if rate not in self.published_rates())

    @property
    def shards(self) -> list[PrepareClips]:
        options = {"job": self.job, "mirrors": self.mirrors, "sample_rates": self.missing_rates}
        shards = range(self.job.spec.shards(self.job.mode))
        return [PrepareClips(self.places, shard=i, **options) for i in shards]

    def requires(self) -> list[TaskStep]:
        return [self.selection, *self.shards]

    def check_target(self) -> None:
        files.check_is_ours(self.folder)

    def complete(self) -> bool:
        return set(self.sample_rates) <= self.published_rates()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        # Clips are hard links to those in the work folder, or copies on another file system.
        if files.is_same_file_system(Path(self.places.work), Path(self.places.tasks)):
            return DiskNeed("task folder", Size())
        return DiskNeed("task folder", self.clips_size(self.missing_rates, sizes))

    def work(self, progress: Progress) -> None:
        selected, shards = read_manifest(self.selection.folder), [shard.folder for shard in self.shards]
        made = [read_manifest(shard) for shard in shards]
        skipped = [SkippedClip(**each) for shard in made for each in shard["skipped"]]
        # Shards of heareval 0.1 have no digests.
        digests = [parse_digests(Fields("digests", shard.get("digests", {}))) for shard in made]
        archives = tuple(Archive(**each) for each in selected["archives"])
        manifest = TaskManifest(
            fingerprint=self.fingerprint_without(skipped),
            task=self.job.spec.name,
            mode=self.job.mode,
            engine=self.job.engine,
            tarball=adopt.file_name_of(self.job.published) if self.job.published else None,
            is_the_published_corpus=_all_published([archive.published for archive in archives]),
            archives=archives,
            clips=selected["clips"],
            dropped=tuple(selected["dropped"]),
            warnings=tuple(selected["warnings"]),
            skipped=tuple(skipped),
            versions=versions("heareval", "numpy", "soundfile", "soxr"),
            licence=self.job.licence,
        )
        publish.publish_task(
            self.folder,
            self.selection.folder,
            shards,
            self.missing_rates,
            manifest,
            digests,
            self.job.license_text,
        )


def _all_published(published: list[bool | None]) -> bool | None:
    """Return whether all archives are the published ones; None if one has no published checksum."""
    if False in published:
        return False
    return True if published and None not in published else None


class PackTar(TaskStep):
    """Pack the tarball of one rate of a published task under both of its names, and add it to SHA256SUMS."""

    unit = "files"
    sample_rates = luigi.TupleParameter()
    sample_rate = luigi.IntParameter()

    @property
    def title(self) -> str:
        return f"{self.name}: tarball {self.sample_rate}"

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the published clips, the sample rate and the licence."""
        settings = {"content": self.task_fingerprint, "sample_rate": self.sample_rate}
        settings["license"] = self.job.license_text
        return files.fingerprint("tar", tarball.VERSION, **settings)

    @property
    def path(self) -> Path:
        return self.places.tar(self.job.folder, self.sample_rate)

    @property
    def latest(self) -> Path:
        return self.places.tar(self.job.folder, self.sample_rate, layout.TAR_LATEST)

    def requires(self) -> PublishTask:
        options = {"job": self.job, "mirrors": self.mirrors, "sample_rates": self.sample_rates}
        return PublishTask(self.places, **options)

    def is_packed(self) -> bool:
        """Return whether the tarballs exist and their sidecar has this fingerprint."""
        record = find_tarball_record(self.path)
        if not (self.path.exists() and self.latest.exists() and record):
            return False
        return record.fingerprint == self.fingerprint

    def check_target(self) -> None:
        check_tarballs_are_ours(self.path, self.latest)

    def complete(self) -> bool:
        # If clips may be skipped, only the published task says which ones were.
        is_known = self.job.on_bad_audio == "fail" or self.requires().complete()
        return is_known and self.is_packed() and tarball.is_listed(self.path)

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        if self.is_packed():
            return DiskNeed("tarballs", Size())
        return DiskNeed("tarballs", self.clips_size([self.sample_rate], sizes).scaled(COMPRESSED_SHARE))

    def work(self, progress: Progress) -> None:
        sidecar = layout.tar_manifest(self.path)
        with files.locked(sidecar.with_suffix(".lock")):
            if not self.is_packed():
                self._pack(progress)
        tarball.write_checksums(self.path.parent)

    def _pack(self, progress: Progress) -> None:
        started = time.monotonic()
        # Computed once: if clips may be skipped, both follow the folder, which another run may replace.
        task_fingerprint, fingerprint = self.task_fingerprint, self.fingerprint
        folder = self.requires().folder
        publish.check_published(folder, task_fingerprint, self.sample_rate)
        names = (self.path.name, self.latest.name)
        self.check_target()
        begin_tarball_record(self.path, names)
        sha256 = tarball.pack(folder, self.sample_rate, self.path, self.job.license_text, progress)
        publish.check_published(folder, task_fingerprint, self.sample_rate)
        with files.building_file(self.latest) as scratch:
            files.link_or_copy(self.path, scratch)
        seconds = round(time.monotonic() - started, 3)
        record = TarballRecord(sha256, self.path.stat().st_size, names, fingerprint, seconds)
        write_tarball_record(self.path, record)


def publish_and_pack(
    places: Places, jobs: Sequence[TaskJob], sample_rates: tuple[int, ...], mirrors: tuple[str, ...]
) -> list[Step]:
    """Return the steps that publish the folders of some tasks and pack the tarballs that may be packed.

    Args:
        places: the folders of the run.
        jobs: the tasks.
        sample_rates: in Hz.
        mirrors: folders and URLs to look for archives first.
    """
    steps: list[Step] = []
    for job in jobs:
        options = {"job": job, "sample_rates": sample_rates, "mirrors": mirrors}
        steps.append(PublishTask(places, **options))
        if job.licence.may_be_packed:
            steps += [PackTar(places, sample_rate=rate, **options) for rate in sample_rates]
    return steps
