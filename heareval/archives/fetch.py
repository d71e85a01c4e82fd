"""Fetch archives from a mirror or their publisher, and verify their checksums."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path

from heareval import files
from heareval.archives.download import NO_ANSWER, PATIENT, Patience, ask, fetch_part, remove_validator
from heareval.errors import HearevalError
from heareval.spec import Download, Progress, ignore_progress

MIRROR_LEVELS = 3  # how many levels of a mirror folder are searched
PARALLEL_DOWNLOADS = 8
LISTED_VERSION = 1
FIRST_BYTES = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK", ".rar": b"Rar!", ".wav": b"RIFF"}


@dataclass(frozen=True)
class Mirror:
    """A folder or URL that is searched for archives first.

    Args:
        address: the folder or URL.
        found: the files in a folder and its sub-folders, by name; None for a URL.
    """

    address: str
    found: Mapping[str, Sequence[Path]] | None


def open_mirrors(addresses: Sequence[str]) -> list[Mirror]:
    """Return the mirrors, with the files of those that are folders.

    Raises:
        HearevalError: a folder does not exist.
    """
    return [Mirror(a, None if "://" in a else _list_files(Path(a))) for a in addresses]


def _list_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files in a folder and MIRROR_LEVELS - 1 levels below it, by name; higher levels first."""
    if not folder.is_dir():
        raise HearevalError(f"mirror {folder}", got="no such folder", expected="a folder or URL of archives")
    found: dict[str, list[Path]] = defaultdict(list)
    levels = [[folder]]
    for _ in range(MIRROR_LEVELS):
        entries = sorted(path for parent in levels[-1] for path in parent.iterdir())
        for path in filter(Path.is_file, entries):
            found[path.name].append(path)
        levels.append([path for path in entries if path.is_dir()])
    return found


def fetch(
    download: Download,
    target: Path,
    mirrors: Sequence[Mirror],
    progress: Progress = ignore_progress,
    *,
    patience: Patience = PATIENT,
) -> None:
    """Fetch an archive to `target`, from the first mirror that has it, or else from its publisher.

    A partial download of an earlier run is resumed. Does nothing if `target` exists.

    Args:
        download: addresses and checksum of the archive.
        target: the file to write; it appears only when its checksum was verified.
        mirrors: searched in this order.
        progress: called with the bytes received, and the bytes of the archive.
        patience: when to give up a server.

    Raises:
        HearevalError: the checksum is wrong, the archive is not found, or no server answers.
    """
    with files.locked(target.with_name(f".{target.name}.lock")):
        _fetch(download, target, mirrors, progress, patience)


def fetch_listed(
    downloads: Sequence[Download],
    folder: Path,
    mirrors: Sequence[Mirror],
    progress: Progress = ignore_progress,
) -> str:
    """Fetch many small files to a folder, several at a time; return the SHA-256 of their list of checksums.

    Files that exist already are kept if their checksums are right.

    Raises:
        HearevalError: as for `fetch`; files that were fetched before stay for the next run.
    """

    def fetch_one(download: Download) -> str:
        target = folder / download.file_name
        if target.exists() and download.wanted and _checksum_of(target, download) != download.wanted:
            target.unlink()  # a crash of the machine truncated it
        _fetch(download, target, mirrors, ignore_progress, PATIENT)
        return f"{files.file_checksum(target, 'sha256')}  {download.file_name}\n"

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with files.locked(folder.with_name(".lock")), futures.ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        try:
            for line in pool.map(fetch_one, downloads):
                lines.append(line)
                progress(len(lines), len(downloads))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _fetch(
    download: Download, target: Path, mirrors: Sequence[Mirror], progress: Progress, patience: Patience
) -> None:
    if target.exists():
        return
    errors: list[HearevalError] = []
    for mirror in mirrors:
        try:
            if _fetch_from_mirror(mirror, download, target, progress, patience):
                return
        except HearevalError as error:
            errors.append(error)  # another mirror may have an intact copy
    if errors:
        raise errors[0]
    _fetch_from_publisher(download, target, mirrors, progress, patience)


def _fetch_from_mirror(
    mirror: Mirror, download: Download, target: Path, progress: Progress, patience: Patience
) -> bool:
    """Fetch an archive from a mirror; return False if the mirror does not have it."""
    if mirror.found is not None:
        return _copy_from_folder(mirror.found.get(download.file_name, ()), download, target)
    url = f"{mirror.address.rstrip('/')}/{download.file_name}"
    if not _has_file(url, patience):
        return False
    _download(url, download, target, progress, patience)
    return True


def _fetch_from_publisher(
    download: Download, target: Path, mirrors: Sequence[Mirror], progress: Progress, patience: Patience
) -> None:
    *others, last = (download.url, *download.other_urls)
    for url in others:
        # Only the last address gets all tries; the others may have been offline for years.
        with contextlib.suppress(HearevalError):
            return _download(url, download, target, progress, replace(patience, tries=1))
    try:
        _download(last, download, target, progress, patience)
    except HearevalError as error:
        if others:
            error.remedy = f"It was not found at {', '.join(others)} either. {error.remedy}"
        if mirrors:
            names = ", ".join(mirror.address for mirror in mirrors)
            error.remedy = f"No mirror has it either ({names}). {error.remedy}"
        raise


def _copy_from_folder(found: Sequence[Path], download: Download, target: Path) -> bool:
    """Copy the archive from one of the files of its name in a mirror; return False if there are none."""
    sums = {}
    for path in found:
        if download.wanted:
            sums[path] = files.file_checksum(path, files.algorithm_of(download.wanted))
        if sums.get(path, "") == download.wanted:
            with files.building_file(target) as scratch:
                # A copy, not a link: later changes of the mirror must not change a verified archive.
                shutil.copyfile(path, scratch)
            return True
    for path, checksum in sums.items():
        raise wrong_checksum(str(path), checksum, download)
    return False


def wrong_checksum(location: str, got: str, download: Download) -> HearevalError:
    """Return the error for an archive whose checksum is not the expected one."""
    kind = files.kind_of(download.wanted)
    remedy = "It is damaged, or another edition: replace it, or accept it with --accept-checksums."
    if got == download.checksum:
        remedy = "This is the published archive: remove its line from the --accept-checksums file."
    return HearevalError(f"archive {location}", got=f"{kind} {got}", expected=download.wanted, remedy=remedy)


def _has_file(url: str, patience: Patience) -> bool:
    """Return whether a mirror has a file; False also if the mirror cannot be reached."""
    try:
        with ask(url, {}, patience) as answer:
            return answer.ok
    except NO_ANSWER:
        return False


def _download(url: str, download: Download, target: Path, progress: Progress, patience: Patience) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = fetch_part(url, part, download, progress, patience)
    checksum = _checksum_of(part, download)
    if checksum != download.wanted and resumed:
        # The parts may come from two editions of the file, so fetch it again in one go.
        part.unlink()
        fetch_part(url, part, download, progress, patience)
        checksum = _checksum_of(part, download)
    remove_validator(part)
    if checksum != download.wanted:
        part.unlink()
        raise wrong_checksum(url, checksum, download)
    if not download.wanted:
        _check_first_bytes(url, part, download)
    files.sync(part)
    part.replace(target)


def _check_first_bytes(url: str, part: Path, download: Download) -> None:
    """Raise HearevalError if a download without a checksum is something else, such as a web page."""
    expected = next((b for suffix, b in FIRST_BYTES.items() if download.file_name.endswith(suffix)), b"")
    with open(part, "rb") as stream:
        found = stream.read(len(expected))
    if found != expected:
        part.unlink()
        raise HearevalError(
            f"download of {url}",
            got=f"a file that begins with {found!r}",
            expected=f"an archive, which begins with {expected!r}",
            remedy="Put the archive into a folder, and give it with --mirror.",
        )


def _checksum_of(part: Path, download: Download) -> str:
    """Return the checksum to compare with the wanted one; "" if none was published."""
    return files.file_checksum(part, files.algorithm_of(download.wanted)) if download.wanted else ""


def read_accepted_checksums(path: Path) -> dict[str, str]:
    """Return the checksums by file name in a file that `md5sum` or `sha256sum` wrote.

    Raises:
        HearevalError: the file cannot be read, or a line has another form.
    """
    accepted = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a file that is not text"
        raise HearevalError(f"checksum file {path}", got=reason or "", expected="a readable file") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        checksum, _, name = line.strip().partition(" ")
        if len(checksum) not in (32, 64) or not all(c in "0123456789abcdef" for c in checksum.lower()):
            raise HearevalError(
                f"checksum file {path}, line {number}",
                got=repr(line),
                expected="`<md5>  <file name>` as md5sum writes it",
            )
        accepted[Path(name.strip().lstrip("*")).name] = checksum.lower()
    return accepted
