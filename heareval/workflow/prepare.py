"""Room 1's last steps: write the clips at every rate, publish the task folder, pack its tarballs."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path

import luigi

from heareval import files, layout
from heareval.archives.estimate import ArchiveSizes
from heareval.archives.sizes import Size
from heareval.errors import HearevalError
from heareval.formats.digests import digest_file, digests_to_json, parse_digests
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
from heareval.workflow.sharing import find_finished_clips, find_predecessors, find_relatives, find_stretch
from heareval.workflow.step import DiskNeed, Step, read_manifest, versions, write_manifest

# WAV files with dither noise compress to 0.87 of their size, and hardly any to more.
COMPRESSED_SHARE = 0.9


class PrepareClips(TaskStep):
    """Write one shard of a task's clips at some sample rates.

    Clips that a published task has are links to its files. The upstream is the step that publishes another
    task of this run, for which this one waits, if there is one.
    """

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

    def requires(self) -> list[Step]:
        return [self.selection, *([self.sounds] if self.sounds else []), *self.upstream_step]

    def complete(self) -> bool:
        return self.folder.exists()

    def disk_need(self, sizes: ArchiveSizes) -> DiskNeed:
        size = self.clips_size(self.sample_rates, sizes, shard=self.shard, shards=self.shards)
        shared = self._estimate_shared()
        return DiskNeed("work", size.scaled(1 - shared) if shared else size)

    def work(self, progress: Progress) -> None:
        started = time.monotonic()
        count = sum(read_manifest(self.selection.folder)["clips"].values())
        start, end = (count * i // self.shards for i in (self.shard, self.shard + 1))
        root = self.sounds.folder if self.sounds else self.extracted_root
        sources = metadata.read_clips(self.selection.folder / metadata.CLIPS, start, end)
        shared = self._find_shared_clips(sources)
        clips = [source.to_recording(root) for source in sources if find_stretch(source) not in shared]
        skip_bad = self.job.on_bad_audio == "skip"
        settings = audio.AudioSettings(self.sample_rates, self.clip_duration_s, self.job.engine, skip_bad)
        with files.building_folder(self.folder) as scratch:
            for source in sources:
                for rate, path in zip(self.sample_rates, shared.get(find_stretch(source), ()), strict=False):
                    target = scratch / str(rate) / source.split / f"{source.clip_id}.wav"
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

    def _find_shared_clips(self, clips: Sequence[metadata.ClipSource]) -> dict[Hashable, Sequence[Path]]:
        """Return files of published tasks, one at each rate, by the stretches of sound that clips hold."""
        stretches = {find_stretch(clip) for clip in clips}
        found: dict[Hashable, Sequence[Path]] = {}
        for task in self._relatives():
            # A task that was not asked for may be damaged: then its clips are made again.
            with contextlib.suppress(HearevalError):
                if task.complete() and task.selection.complete():
                    left = stretches - found.keys()
                    found |= find_finished_clips(left, task.selection.folder, task.folder, self.sample_rates)
        return found

    def _estimate_shared(self) -> float:
        """Return the share of the clips that will be links.

        Assumes that the smaller of two tasks has no clips that the larger one lacks.
        """
        # Across file systems, clips are copied.
        if not files.is_same_file_system(Path(self.places.work), Path(self.places.tasks)):
            return 0.0
        count, awaited, most = self.expected_count(), [step.job for step in self._awaited()], 0
        for task in self._relatives():
            with contextlib.suppress(HearevalError):
                if task.job in awaited or task.complete():
                    most = max(most, task.expected_count())
        return min(1.0, most / count) if count else 0.0

    def _awaited(self) -> list[PublishTask]:
        """Return the steps that publish the tasks of this run that are made before this one."""
        steps = list(self.upstream_step)
        while steps and (earlier := steps[-1].upstream_step):
            steps += earlier
        return steps

    def _relatives(self) -> list[PublishTask]:
        """Return steps that publish tasks whose clips are the same bytes where they hold the same sound."""
        if self.job.published:
            return []
        jobs = {job.task: job for job in find_relatives(self.job)}
        # A job of this run also says which of its archives are accepted.
        jobs |= {step.job.task: step.job for step in self._awaited()}
        options = {"mirrors": self.mirrors, "sample_rates": self.sample_rates}
        return [
            PublishTask(self.places, job=job, **options)
            for job in jobs.values()
            if job.spec.duration_s(job.mode) == self.clip_duration_s
        ]


class PublishTask(TaskStep):
    """Publish the folder of a task with at least the sample rates asked for.

    The upstream is the step that publishes the task of the same run that has some of these clips, if there is
    one.
    """

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
        options = {"job": self.job, "mirrors": self.mirrors, "upstream": self.upstream}
        options["sample_rates"] = self.missing_rates
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
    uses = ("work", "tasks", "tars")
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
        return PublishTask(self.places, upstream=self.upstream, **options)

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


def publish_tasks(
    places: Places, jobs: Sequence[TaskJob], sample_rates: tuple[int, ...], mirrors: tuple[str, ...]
) -> dict[TaskJob, PublishTask]:
    """Return the step that publishes the folder of each task. Of tasks that share clips, each waits for one.

    Args:
        places: the folders of the run.
        jobs: the tasks.
        sample_rates: in Hz.
        mirrors: folders and URLs to look for archives first.

    Example: `publish_tasks(places, find_jobs(CorpusRequest(("esc50",))), (16000,), ())`
    """
    predecessors = find_predecessors(jobs)
    steps: dict[TaskJob, PublishTask] = {}

    def publish(job: TaskJob) -> PublishTask:
        if job not in steps:
            upstream = publish(predecessors[job]).as_upstream() if job in predecessors else None
            options = {"sample_rates": sample_rates, "mirrors": mirrors, "upstream": upstream}
            steps[job] = PublishTask(places, job=job, **options)
        return steps[job]

    return {job: publish(job) for job in jobs}


def publish_and_pack(
    places: Places, jobs: Sequence[TaskJob], sample_rates: tuple[int, ...], mirrors: tuple[str, ...]
) -> dict[TaskJob, list[Step]]:
    """Return the steps that publish the folder of each task and pack the tarballs that may be packed.

    The arguments are those of `publish_tasks`.

    Example: `publish_and_pack(places, find_jobs(CorpusRequest(("esc50",))), (16000,), ())`
    """
    steps: dict[TaskJob, list[Step]] = {}
    for job, published in publish_tasks(places, jobs, sample_rates, mirrors).items():
        options = {"job": job, "sample_rates": sample_rates, "mirrors": mirrors}
        rates = sample_rates if job.licence.may_be_packed else ()
        tarballs = [PackTar(places, sample_rate=r, upstream=published.upstream, **options) for r in rates]
        steps[job] = [published, *tarballs]
    return steps
