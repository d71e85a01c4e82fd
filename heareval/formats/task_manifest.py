"""Read, check and write MANIFEST.json of published task folders: what the clips were made from, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heareval import files
from heareval.formats.digests import FileDigest, parse_digests
from heareval.formats.fields import Fields, read_fields
from heareval.formats.licence import Licence, parse_licence

REMEDY = "Remove the task folder and prepare it again, or only this file if another program wrote it."
# What embeddings and results repeat of a manifest.
CORPUS_FACTS = ("archives", "tarball", "engine", "is_the_published_corpus", "warnings", "skipped")


@dataclass(frozen=True)
class Archive:
    """An archive that a task was made from.

    Args:
        name: file name.
        checksum: MD5 or SHA-256 in hex digits.
        published: whether it is the published archive; None where nobody can know, as no checksum was ever
            published.
    """

    name: str
    checksum: str
    published: bool | None


@dataclass(frozen=True)
class SkippedClip:
    """A clip that could not be made because its source is bad."""

    split: str
    clip_id: str
    why: str


@dataclass(frozen=True)
class TaskManifest:
    """What a published task folder was made from, and how.

    The attributes have the names of the keys on disk.

    Args:
        fingerprint: changes with whatever decides the clips and their samples.
        task: name of the task.
        mode: `full`, `5h` ...
        engine: decoder of the sounds, `soxr` or `ffmpeg`.
        tarball: file name of the finished tarball that the task was taken from; None for a task made from its
            corpus.
        is_the_published_corpus: whether all archives are the published ones; None where nobody can know.
        archives: the archives of the corpus.
        clips: number of clips of each split.
        dropped: ids of clips whose files the archives lack.
        warnings: what a reader of the scores should know.
        skipped: clips that could not be made.
        versions: releases of the packages that made the clips.
        sample_rates: the rates that the folder has, in Hz.
        rates_of_other_clips: rates of an earlier folder that were made of other clips, and are gone.
        digests: digests of the description, by file name; {} in folders of heareval 0.1. Those of the clips
            are in the folders of the rates.
        licence: the licence of the sounds; None in folders of earlier versions.
    """

    fingerprint: str
    task: str
    mode: str
    engine: str
    tarball: str | None
    is_the_published_corpus: bool | None
    archives: tuple[Archive, ...]
    clips: Mapping[str, int]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    skipped: tuple[SkippedClip, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    sample_rates: tuple[int, ...] = ()
    rates_of_other_clips: tuple[int, ...] = ()
    digests: Mapping[str, FileDigest] = field(default_factory=dict)
    licence: Licence | None = None


def find_task_manifest(folder: Path) -> TaskManifest | None:
    """Return the manifest of a task folder; None if it has none, such as the folder of an unpacked tarball.

    Raises:
        HearevalError: the file can't be read, or is not a task's manifest.
    """
    return read_task_manifest(folder) if files.has_file(folder, files.MANIFEST) else None


def read_task_manifest(folder: Path) -> TaskManifest:
    """Return the manifest of a task folder.

    Raises:
        HearevalError: the file is missing, can't be read, or is not a task's manifest.

    >>> read_task_manifest(Path("tasks/esc50-v2.0.0-full")).clips  # doctest: +SKIP
    {'fold00': 400, 'fold01': 400, 'fold02': 400, 'fold03': 400, 'fold04': 400}
    """
    manifest = read_fields(folder / files.MANIFEST, remedy=REMEDY)
    return TaskManifest(
        fingerprint=manifest.fingerprint(),
        task=manifest.text("task", ""),
        mode=manifest.text("mode", ""),
        engine=manifest.text("engine", ""),
        tarball=manifest.text("tarball", None),
        is_the_published_corpus=manifest.flag("is_the_published_corpus", None),
        archives=tuple(map(_archive, manifest.objects("archives", ()))),
        clips=manifest.counts("clips"),
        dropped=manifest.texts("dropped", ()),
        warnings=manifest.texts("warnings", ()),
        skipped=tuple(
            SkippedClip(each.text("split"), each.text("clip_id"), each.text("why"))
            for each in manifest.objects("skipped", ())
        ),
        versions=_texts_by_name(manifest.object("versions", {})),
        sample_rates=manifest.integers("sample_rates"),
        rates_of_other_clips=manifest.integers("rates_of_other_clips", ()),
        digests=parse_digests(manifest.object("digests", {})),
        licence=parse_licence(manifest.object("licence")) if "licence" in manifest else None,
    )


def _archive(archive: Fields) -> Archive:
    return Archive(archive.text("name"), archive.text("checksum", ""), archive.flag("published", None))


def _texts_by_name(values: Fields) -> Mapping[str, str]:
    return {name: values.text(name) for name in values}


def read_corpus_facts(folder: Path) -> Mapping[str, Any]:
    """Return what the manifest of a task folder says about the corpus, as JSON values that results repeat.

    A folder without a manifest, as one that was unpacked from a tarball, gives {}.

    Raises:
        HearevalError: the manifest can't be read, or is not a task's manifest.
    """
    if find_task_manifest(folder) is None:
        return {}
    values = read_fields(folder / files.MANIFEST, remedy=REMEDY).values
    # Keys that an older version did not write stay missing, so results do not change.
    return {key: values[key] for key in CORPUS_FACTS if key in values}


def write_task_manifest(folder: Path, manifest: TaskManifest) -> None:
    """Write MANIFEST.json of a task folder."""
    files.write_json(folder / files.MANIFEST, manifest_values(manifest))


def manifest_values(manifest: TaskManifest) -> dict[str, Any]:
    """Return the JSON object of a manifest."""
    values = asdict(manifest)
    # As heareval 0.1 wrote it.
    if not manifest.digests:
        del values["digests"]
    # As the versions wrote it that knew no licences.
    if manifest.licence is None:
        del values["licence"]
    return values
