"""Archives from a mirror or their publisher, whole and with the right checksum, or an error."""

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
from heareval.archives.download import NO_ANSWER, PATIENT, Patience, ask, fetch_part, forget_mark
from heareval.errors import HearevalError
from heareval.spec import Download, Progress

MIRROR_LEVELS = 3  # how deep archives may lie in a mirror folder
LISTED_AT_ONCE = 8
LISTED_VERSION = 1
FIRST_BYTES = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK", ".rar": b"Rar!", ".wav": b"RIFF"}


@dataclass(frozen=True)
class Mirror:
    """A place to look for archives first.

    Args:
        address: folder or URL.
        found: the files of a folder and its sub-folders by name; None for a URL.
    """

    address: str
    found: Mapping[str, Sequence[Path]] | None


def open_mirrors(addresses: Sequence[str]) -> list[Mirror]:
    """The mirrors, with what is in those that are folders."""
    return [Mirror(a, None if "://" in a else _files_below(Path(a))) for a in addresses]


def _files_below(folder: Path) -> dict[str, list[Path]]:
    """The files in a folder and some levels below by their names, those higher up first."""
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
    progress: Progress,
    *,
    patience: Patience = PATIENT,
) -> None:
    """Put the archive at `target`, from the first mirror that has it or else from where it was published.

    Raises:
        HearevalError: wrong checksum, not found, or no connection.
    """
    with files.locked(target.with_name(f".{target.name}.lock")):
        _fetch(download, target, mirrors, progress, patience)


def fetch_listed(
    downloads: Sequence[Download], folder: Path, mirrors: Sequence[Mirror], progress: Progress
) -> str:
    """Put many small files into a folder, several at once; those that are there stay.

    Returns the SHA-256 of the list of their names and SHA-256 sums.
    """

    def bring(download: Download) -> str:
        target = folder / download.file_name
        if target.exists() and download.wanted and _checksum_of(target, download) != download.wanted:
            target.unlink()  # cut short by a crash of the machine
        _fetch(download, target, mirrors, lambda done, total: None, PATIENT)
        return f"{files.file_checksum(target, 'sha256')}  {download.file_name}\n"

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with files.locked(folder.with_name(".lock")), futures.ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
        try:
            for line in pool.map(bring, downloads):
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
    wrong: list[HearevalError] = []
    for mirror in mirrors:
        try:
            if _from_mirror(mirror, download, target, progress, patience):
                return
        except HearevalError as error:
            wrong.append(error)  # another mirror may have a good one
    if wrong:
        raise wrong[0]
    _from_publisher(download, target, mirrors, progress, patience)


def _from_mirror(
    mirror: Mirror, download: Download, target: Path, progress: Progress, patience: Patience
) -> bool:
    if mirror.found is not None:
        return _take(mirror.found.get(download.file_name, ()), download, target)
    url = f"{mirror.address.rstrip('/')}/{download.file_name}"
    if not _answers(url, patience):
        return False
    _download(url, download, target, progress, patience)
    return True


def _from_publisher(
    download: Download, target: Path, mirrors: Sequence[Mirror], progress: Progress, patience: Patience
) -> None:
    *others, last = (download.url, *download.other_urls)
    for url in others:
        # Patience is for the last address; the first may have been gone for years.
        with contextlib.suppress(HearevalError):
            return _download(url, download, target, progress, replace(patience, tries=1))
    try:
        _download(last, download, target, progress, patience)
    except HearevalError as error:
        if others:
            error.remedy = f"Nor is it at {', '.join(others)}. {error.remedy}"
        if mirrors:
            names = ", ".join(mirror.address for mirror in mirrors)
            error.remedy = f"It is in no mirror either ({names}). {error.remedy}"
        raise


def _take(found: Sequence[Path], download: Download, target: Path) -> bool:
    """Take the archive from where a mirror has files of its name; False if it has none."""
    sums = {}
    for path in found:
        if download.wanted:
            sums[path] = files.file_checksum(path, files.algorithm_of(download.wanted))
        if sums.get(path, "") == download.wanted:
            with files.building_file(target) as scratch:
                # A copy, not a link: what happens to the mirror later must not change a verified archive.
                shutil.copyfile(path, scratch)
            return True
    for path, checksum in sums.items():
        raise wrong_checksum(str(path), checksum, download)
    return False


def wrong_checksum(place: str, got: str, download: Download) -> HearevalError:
    """The error for an archive that is not the one that was published."""
    kind = files.kind_of(download.wanted)
    remedy = "It is damaged or another edition: replace it, or admit it with --accept-checksums."
    if got == download.checksum:
        remedy = "This is the published archive: take its name out of the --accept-checksums file."
    return HearevalError(f"archive {place}", got=f"{kind} {got}", expected=download.wanted, remedy=remedy)


def _answers(url: str, patience: Patience) -> bool:
    """Whether a mirror has the file; one that can't be reached has nothing."""
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
        # The pieces may come from two editions of the file: once more in one piece.
        part.unlink()
        fetch_part(url, part, download, progress, patience)
        checksum = _checksum_of(part, download)
    forget_mark(part)
    if checksum != download.wanted:
        part.unlink()
        raise wrong_checksum(url, checksum, download)
    if not download.wanted:
        _check_kind(url, part, download)
    files.sync(part)
    part.replace(target)


def _check_kind(url: str, part: Path, download: Download) -> None:
    """A host that is gone may answer with a page that says so; without a checksum only this tells."""
    mark = next((m for suffix, m in FIRST_BYTES.items() if download.file_name.endswith(suffix)), b"")
    with open(part, "rb") as stream:
        found = stream.read(len(mark))
    if found != mark:
        part.unlink()
        raise HearevalError(
            f"download of {url}",
            got=f"a file that begins with {found!r}",
            expected=f"an archive, which begins with {mark!r}",
            remedy="Put the archive into a folder and name it with --mirror.",
        )


def _checksum_of(part: Path, download: Download) -> str:
    """The checksum to compare with the wanted one; any file will do where none was published."""
    return files.file_checksum(part, files.algorithm_of(download.wanted)) if download.wanted else ""


def read_accepted_checksums(path: Path) -> dict[str, str]:
    """Checksums by file name from a file that `md5sum` or `sha256sum` wrote."""
    accepted = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
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
