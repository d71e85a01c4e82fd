"""Publish a task: link the output of its steps into one folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heareval import files, layout
from heareval.errors import HearevalError, replaced_error
from heareval.formats.digests import FileDigest, check_unchanged, digest_file
from heareval.formats.task_folder import check_task_unchanged, read_clip_digests, write_clip_digests
from heareval.formats.task_manifest import (
    TaskManifest,
    find_task_manifest,
    read_task_manifest,
    write_task_manifest,
)
from heareval.tasks import metadata

# Modes without the right to write.
READABLE = 0o555


def publish_task(
    target: Path,
    description: Path,
    shards: Iterable[Path],
    sample_rates: Sequence[int],
    manifest: TaskManifest,
    digests: Iterable[Mapping[str, FileDigest]],
    license_text: str,
) -> None:
    """Link the description and the clips of all shards into the task's folder, replacing an older one.

    Sample rates that an earlier run published stay if its manifest says that they have the same clips.

    Args:
        target: the published folder.
        description: the folder with the task's JSON files and vocabulary.
        shards: the folders of prepared clips, `<rate>/<split>/`.
        sample_rates: the rates to link from the shards, in Hz.
        manifest: the content of the new MANIFEST.json, except for the rates and digests.
        digests: for every shard, the digests of its clips by `rate/split/clip`; {} if it has none.
        license_text: the text of LICENSE.txt.

    Raises:
        HearevalError: skipped clips leave a split empty, or another program has changed a clip.
    """
    # One publisher at a time: each must see the rates that the previous one added.
    with (
        files.locked(target.with_name(f".{target.name}.publishing.lock")),
        files.building_folder(target, replace=True) as scratch,
    ):
        for path in sorted(description.glob("*.json")) + sorted(description.glob("*.csv")):
            if path.name != files.MANIFEST:
                files.link_or_copy(path, scratch / path.name)
        files.write_text(scratch / layout.LICENSE, license_text)
        if manifest.skipped:
            manifest = _remove_skipped(scratch, manifest)
        known: dict[str, FileDigest] = {}
        for shard, made in zip(shards, digests, strict=True):
            check_unchanged(shard, made, f"Remove {shard}, and run again.")
            known |= made
            for rate in sample_rates:
                _link_tree(shard / str(rate), scratch / str(rate))
        older = find_task_manifest(target)
        kept = sorted(set(_find_rates_to_keep(older, manifest)) - set(sample_rates))
        for rate in kept:
            check_task_unchanged(target, rate)
            _link_tree(target / str(rate), scratch / str(rate))
            known |= {f"{rate}/{name}": each for name, each in read_clip_digests(target, rate).items()}
        rates = sorted({*sample_rates, *kept})
        removed = sorted(set(older.sample_rates if older else ()) - set(rates))
        for rate in rates:
            write_clip_digests(scratch, rate, _digest_clips(scratch / str(rate), known))
        # Without times, so that the manifest does not change from run to run.
        described = {
            path.name: replace(digest_file(path), mtime_ns=None)
            for path in sorted(scratch.iterdir())
            if path.is_file()
        }
        manifest = replace(
            manifest, sample_rates=tuple(rates), rates_of_other_clips=tuple(removed), digests=described
        )
        write_task_manifest(scratch, manifest)


def _digest_clips(folder: Path, known: Mapping[str, FileDigest]) -> dict[str, FileDigest]:
    """Return the digests of the clips of one rate by `split/clip`.

    Args:
        known: digests of the files that the clips are links to or copies of, by `rate/split/clip`; clips
            without one are read.
    """
    digests = {}
    for path in sorted(folder.glob("*/*")):
        name = f"{path.parent.name}/{path.name}"
        made = known.get(f"{folder.name}/{name}")
        digests[name] = digest_file(path, made.sha256 if made else "")
    return digests


def _remove_skipped(scratch: Path, manifest: TaskManifest) -> TaskManifest:
    """Remove the skipped clips from the description; return the manifest without them."""
    skipped: dict[str, set[str]] = {split: set() for split in manifest.clips}
    for clip in manifest.skipped:
        skipped[clip.split].add(clip.clip_id)
    has_corpus = bool(manifest.archives)
    lacking = metadata.leave_out(scratch, skipped, has_corpus=has_corpus)
    return replace(
        manifest,
        clips={split: count - len(skipped[split]) for split, count in manifest.clips.items()},
        warnings=(*(each for each in manifest.warnings if each not in lacking), *lacking),
        is_the_published_corpus=False if has_corpus else manifest.is_the_published_corpus,
    )


def _find_rates_to_keep(older: TaskManifest | None, manifest: TaskManifest) -> tuple[int, ...]:
    """Return the published rates whose clips were made with equal settings from equal archives."""
    is_same = older and (older.fingerprint, older.archives) == (manifest.fingerprint, manifest.archives)
    return older.sample_rates if older and is_same else ()


def _link_tree(source: Path, target: Path) -> None:
    """Link the clips of `source/<split>/` into `target/<split>/`; `source` may be missing."""
    if not source.exists():
        return
    for split in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / split.name).mkdir(parents=True, exist_ok=True)
        for path in split.iterdir():
            clip = target / split.name / path.name
            # Linux lets nobody link a read-only file of another user: that one is copied.
            files.link_or_copy(path, clip)
            # The published clip is the same file as that in the work folder, so nobody should edit it.
            with contextlib.suppress(OSError):
                clip.chmod(clip.stat().st_mode & READABLE)


def check_published(folder: Path, fingerprint: str, sample_rate: int) -> None:
    """Raise HearevalError unless a published folder has this fingerprint and all its clips, unchanged."""
    manifest = read_task_manifest(folder)
    if manifest.fingerprint != fingerprint:
        raise replaced_error(f"task folder {folder}", manifest.fingerprint, fingerprint)
    for split, count in manifest.clips.items():
        found = sum(1 for _ in (folder / str(sample_rate) / split).glob("*.wav"))
        if found != count:
            raise HearevalError(
                f"task folder {folder}",
                got=f"{found} clips in {sample_rate}/{split}",
                expected=str(count),
                remedy=f"The folder was changed: remove {folder} and run again.",
            )
    check_task_unchanged(folder, sample_rate)
