"""What a run will write, told before it starts, and whether the disks have room for it.

Bytes are counted as a disk gives them out, in whole blocks; labels, logs and embeddings are too small or too
much the submission's own to be counted.
"""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import luigi

from heareval.archives import fetch
from heareval.archives.sizes import UNKNOWN, Size, blocks, sizes_on_the_web, total
from heareval.archives.unpack import extract, parts, volumes
from heareval.errors import HearevalError
from heareval.formats.task_manifest import find_task_manifest
from heareval.layout import Places
from heareval.workflow.corpus import (
    ExtractArchive,
    ExtractPublished,
    FetchArchive,
    FetchListed,
    ScanArchive,
    TaskJob,
)
from heareval.workflow.draw import ExtractSounds, TaskStep
from heareval.workflow.prepare import PackTar, PrepareClips, PublishTask
from heareval.workflow.step import Step, read_manifest, steps_below

WAV_HEADER_BYTES = 44
# An archive whose directory can't be read yet unfolds to about so much more; a plain file is linked.
UNPACKED = {".zip": 1.5, ".gz": 1.5, ".tgz": 1.5, ".rar": 1.5, ".tar": 1.0}
# What labels and the headers of sounds are of an archive whose directory can't be read yet.
SCANNED = 0.05
# Clips at the rate of their source take what it takes. Of the task whose clips have no common length, fsd50k,
# this is the rate.
SOURCE_RATE_HZ = 44100
# The one corpus that is published as single files, crema_d, has this rate.
LISTED_RATE_HZ = 16000
# Clips with the noise of a dither pack to 0.87, and hardly any others to more.
PACKED = 0.9
# What is told of a task -> the folder of `Places` that it takes room in.
COLUMNS = {"download": "work", "work": "work", "task folder": "tasks", "tarballs": "tars"}
LEGEND = "~ estimated, tarballs from above; ? unknown; embeddings are not counted"


@dataclass(frozen=True)
class Row:
    """What one task and mode still needs, without what the rows before it bring.

    Args:
        state: `done`, `partly` or `to do`.
        sizes: for each of COLUMNS.
    """

    name: str
    state: str
    sizes: Mapping[str, Size]


@dataclass(frozen=True)
class FileSystem:
    """Folders that share one room, and what will be written to them.

    Args:
        tasks: names of the rows that need room here, the neediest first.
    """

    folders: tuple[str, ...]
    needed: Size
    free_bytes: int
    tasks: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether there is room for what is known to come."""
        return self.needed.bytes <= self.free_bytes


@dataclass(frozen=True)
class Plan:
    """What several tasks need, and where."""

    rows: tuple[Row, ...]
    file_systems: tuple[FileSystem, ...]

    @property
    def sizes(self) -> dict[str, Size]:
        """The sums of the columns."""
        return {column: total(row.sizes[column] for row in self.rows) for column in COLUMNS}

    @property
    def fits(self) -> bool:
        """Whether every file system has room."""
        return all(system.fits for system in self.file_systems)


def plan_run(roots: Mapping[TaskJob, Sequence[Step]], places: Places) -> Plan:
    """What the steps that are not done will write.

    Args:
        roots: for each task and mode its last steps; what two of them share counts for the first.
    """
    todo: dict[TaskJob, list[Step]] = {}
    seen: set[str] = set()
    for job, steps in roots.items():
        below = list(steps_below(list(steps)))
        todo[job] = [step for step in below if step.task_id not in seen]
        seen |= {step.task_id for step in below}
    sources = Sources.of(step for steps in todo.values() for step in steps)
    rows = tuple(
        Row(job.folder, _state(roots[job], steps), _sizes(steps, sources)) for job, steps in todo.items()
    )
    return Plan(rows, tuple(_file_systems(rows, places)))


def _state(roots: Sequence[Step], todo: Sequence[Step]) -> str:
    if all(root.complete() for root in roots):
        return "done"
    seen: dict[str, Step] = {}
    waiting = list(roots)
    while waiting:
        step = waiting.pop()
        if step.task_id not in seen:
            seen[step.task_id] = step
            waiting += luigi.task.flatten(step.requires())
    ours = {step.task_id for step in todo}
    # What another task will bring is not done either, and so not in the way of "to do".
    return "partly" if any(s.complete() for task_id, s in seen.items() if task_id not in ours) else "to do"


def _file_systems(rows: Sequence[Row], places: Places) -> Iterator[FileSystem]:
    """The rooms of the run's folders; a folder that is not named as an absolute path is not the run's."""
    folders = {place: Path(getattr(places, place)) for place in dict.fromkeys(COLUMNS.values())}
    devices = {place: _device(folder) for place, folder in folders.items() if folder.is_absolute()}
    for device in dict.fromkeys(devices.values()):
        here = [place for place in devices if devices[place] == device]
        needs = [total(row.sizes[c] for c, place in COLUMNS.items() if place in here) for row in rows]
        ranked = sorted(zip(needs, rows, strict=True), key=lambda pair: -pair[0].bytes)
        needy = tuple(row.name for need, row in ranked if need.bytes)
        free = shutil.disk_usage(_existing(folders[here[0]])).free
        yield FileSystem(tuple(str(folders[place]) for place in here), total(needs), free, needy)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _device(folder: Path) -> int:
    return _existing(folder).stat().st_dev


# --------------------------------------------------------------------------- sources


Extraction = ExtractArchive | ExtractPublished


class Sources:
    """What can be known of archives without fetching them.

    Args:
        mirrored: files in mirror folders, by the path that the archive will have.
        told: bytes as servers tell, by the same path.
    """

    def __init__(self, mirrored: Mapping[Path, Path], told: Mapping[str, int]) -> None:
        self.mirrored, self.told = mirrored, told
        self._unpacked: dict[Path, Size] = {}

    @classmethod
    def of(cls, steps: Iterable[Step]) -> Sources:
        """Look for the archives that are not in the work folder."""
        missing = [step for step in steps if isinstance(step, FetchArchive) and not step.path.exists()]
        opened = {mirrors: fetch.open_mirrors(mirrors) for mirrors in {step.mirrors for step in missing}}
        mirrored: dict[Path, Path] = {}
        urls: dict[str, list[str]] = {}
        for step in missing:
            name, mirrors = step.download.file_name, opened[step.mirrors]
            found = [path for mirror in mirrors if mirror.found for path in mirror.found.get(name, ())]
            if found:
                mirrored[step.path] = max(found, key=lambda path: path.stat().st_size)
            else:
                here = [f"{mirror.address.rstrip('/')}/{name}" for mirror in mirrors if mirror.found is None]
                urls[str(step.path)] = [*here, step.download.url, *step.download.other_urls]
        return cls(mirrored, sizes_on_the_web(urls))

    def at_hand(self, step: FetchArchive) -> Path | None:
        """The archive, if it can be read here."""
        return step.path if step.path.exists() else self.mirrored.get(step.path)

    def packed(self, step: FetchArchive) -> Size:
        """The archive as it is published."""
        path = self.at_hand(step)
        if path:
            return Size(path.stat().st_size)
        told = self.told.get(str(step.path))
        return UNKNOWN if told is None else Size(told)

    def unpacked(self, step: Extraction) -> Size:
        """What is in the archive."""
        if step.folder not in self._unpacked:
            self._unpacked[step.folder] = self._measured(step)
        return self._unpacked[step.folder]

    def _measured(self, step: Extraction) -> Size:
        if step.complete():
            return Size(sum(blocks(p.stat().st_size) for p in step.folder.rglob("*") if p.is_file()))
        archives = step.requires()
        if not archives:
            # A finished tarball is read where it lies.
            return Size(Path(step.job.published).stat().st_size).scaled(UNPACKED[".gz"])
        if isinstance(step, ScanArchive):
            return self.scanned(step)
        return self.whole(step)

    def whole(self, step: Extraction) -> Size:
        """All that the archive holds, whether it is to be unpacked or not."""
        archives = step.requires()
        members = self._directory(archives)
        if members is not None:
            return Size(sum(blocks(size) for size in members.values()))
        suffix = Path(archives[-1].download.file_name).suffix
        return total(self.packed(each) for each in archives).scaled(UNPACKED.get(suffix, 0))

    def scanned(self, step: ScanArchive) -> Size:
        """What is unpacked of an archive before its clips are drawn."""
        members = self._directory(step.requires())
        if members is None:
            return self.whole(step).scaled(SCANNED)
        head = extract.HEAD_BYTES if step.headers else 0
        return Size(sum(min(head, s) if parts.is_sound(n) else blocks(s) for n, s in members.items()))

    def _directory(self, archives: Sequence[FetchArchive]) -> dict[str, int] | None:
        """Members of a zip with their bytes, if it is here and can be read; its last volume is last."""
        paths = [path for each in archives if (path := self.at_hand(each))]
        if len(paths) < len(archives) or not archives[-1].download.file_name.endswith(".zip"):
            return None
        try:
            whole = volumes.opened(paths) if paths[1:] else contextlib.nullcontext(paths[0])
            with whole as source, zipfile.ZipFile(source) as archive:
                return {member.filename: member.file_size for member in archive.infolist()}
        except (*extract.DAMAGED, HearevalError):
            return None


# --------------------------------------------------------------------------- steps


def _sizes(steps: Iterable[Step], sources: Sources) -> dict[str, Size]:
    sizes = dict.fromkeys(COLUMNS, Size())
    for step in steps:
        column, size_of = NEEDS.get(type(step), ("work", _nothing))
        sizes[column] += size_of(step, sources)
    return sizes


def _nothing(step: Step, sources: Sources) -> Size:
    return Size()


def _download(step: FetchArchive, sources: Sources) -> Size:
    """The rest of an archive; a copy from a mirror folder takes as much."""
    whole = sources.packed(step)
    if step.path.exists():
        return Size()
    part = step.path.with_name(f"{step.path.name}.part")
    have = part.stat().st_size if part.exists() and step.path not in sources.mirrored else 0
    return replace(whole, bytes=max(0, whole.bytes - have))


def _listed(step: FetchListed, sources: Sources) -> Size:
    """Single files, as if their sounds were as long as the clips."""
    count, seconds = _expected(step.job), step.job.spec.duration_s(step.job.mode)
    if not (count and seconds):
        return UNKNOWN
    have = sum(blocks(path.stat().st_size) for path in step.folder.glob("files/*"))
    return Size(max(0, count * _wav(seconds, LISTED_RATE_HZ) - have), is_exact=False)


def _extracted(step: Extraction, sources: Sources) -> Size:
    return sources.unpacked(step)


def _drawn_sounds(step: ExtractSounds, sources: Sources) -> Size:
    """The sounds of the clips, as if all in the archives were of one length."""
    drawn = _drawn(step)
    count = _expected(step.job) if drawn is None else drawn
    share = count / step.job.mode_spec.sounds if count and step.job.is_published_corpus else 1
    return total(map(sources.whole, step.extractions)).scaled(min(1, share))


def _clips(step: PrepareClips, sources: Sources) -> Size:
    return _sounds(step, step.sample_rates, sources, step.shard, step.shards)


def _published(step: PublishTask, sources: Sources) -> Size:
    """Copies of the clips where the work folder's can't have a second name."""
    is_linked = _device(Path(step.places.work)) == _device(Path(step.places.tasks))
    return Size() if is_linked else _sounds(step, step.missing_rates, sources)


def _packed(step: PackTar, sources: Sources) -> Size:
    return Size() if step.is_packed() else _sounds(step, [step.sample_rate], sources).scaled(PACKED)


NEEDS: dict[type[Step], tuple[str, Callable[[Any, Sources], Size]]] = {
    FetchArchive: ("download", _download),
    FetchListed: ("download", _listed),
    ExtractArchive: ("work", _extracted),
    ExtractPublished: ("work", _extracted),
    ScanArchive: ("work", _extracted),
    ExtractSounds: ("work", _drawn_sounds),
    PrepareClips: ("work", _clips),
    PublishTask: ("task folder", _published),
    PackTar: ("tarballs", _packed),
}


def _sounds(step: TaskStep, rates: Sequence[int], sources: Sources, shard: int = 0, shards: int = 1) -> Size:
    """One shard of a task's clips at some rates."""
    seconds, drawn = step.job.spec.duration_s(step.job.mode), _drawn(step)
    count = _expected(step.job) if drawn is None else drawn
    if count and seconds:
        here = count * (shard + 1) // shards - count * shard // shards
        return Size(here * sum(_wav(seconds, rate) for rate in rates), is_exact=drawn is not None)
    archives = [s for s in luigi.task.flatten(step.draw.requires()) if isinstance(s, Extraction)]
    if not archives:
        return UNKNOWN
    return total(map(sources.unpacked, archives)).scaled(sum(rates) / SOURCE_RATE_HZ / shards)


def _wav(seconds: float, rate: int) -> int:
    """Bytes on disk of a clip, 16-bit mono."""
    return blocks(WAV_HEADER_BYTES + 2 * int(seconds * rate + 0.5))


def _drawn(step: TaskStep) -> int | None:
    """How many clips there are, if that has been decided."""
    if drawn := read_manifest(step.draw.folder):
        return sum(drawn["clips"].values())
    published = find_task_manifest(step.places.task(step.job.folder))
    if published and published.fingerprint == step.content_fingerprint:
        return sum(published.clips.values())
    return None


def _expected(job: TaskJob) -> int:
    """About how many clips there will be; 0 if nobody knows, as of archives other than the published."""
    task, mode = job.spec, job.mode_spec
    if not job.is_published_corpus:
        return 0
    seconds = task.duration_s(job.mode)
    limits = [mode.limit_s(split) for split in task.splits_of(job.mode).names]
    if seconds is None or None in limits:
        return mode.clips
    most = sum(int(limit / seconds) for limit in limits if limit is not None)
    return min(most, mode.clips or most)


# --------------------------------------------------------------------------- for people and machines


def plan_table(plan: Plan) -> str:
    """A row for each task and mode, and their sum."""
    rows = [["task", "state", *COLUMNS]]
    for row in plan.rows:
        rows.append([row.name, row.state, *map(str, row.sizes.values())])
    rows.append(["total", "", *map(str, plan.sizes.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join([*(_line(row, widths) for row in rows), LEGEND])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    # Names stand at the left, numbers at the right.
    cells = [t.ljust(w) if i < 2 else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    tasks = [{"folder": r.name, "state": r.state, **_facts(r.sizes)} for r in plan.rows]
    systems = [{**asdict(system), "fits": system.fits} for system in plan.file_systems]
    return {"tasks": tasks, "total": _facts(plan.sizes), "file_systems": systems, "fits": plan.fits}


def _facts(sizes: Mapping[str, Size]) -> dict[str, Any]:
    return {column.replace(" ", "_"): asdict(size) for column, size in sizes.items()}
