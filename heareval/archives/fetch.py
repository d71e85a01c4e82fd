"""Fetch archives from a mirror or their publisher, and verify their checksums."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from heareval import files
from heareval.archives.download import (
    PATIENT,
    Patience,
    RefusedError,
    UnansweredError,
    fetch_part,
    remove_validator,
)
from heareval.errors import HearevalError
from heareval.progress import report_note
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
        has_failed: set when a URL gave no answer, however often it was asked for a file. Then it is asked
            once for each further file: a mirror that is down must not delay each of thousands.
    """

    address: str
    found: Mapping[str, Sequence[Path]] | None
    has_failed: threading.Event = field(default_factory=threading.Event, compare=False)


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
        progress: called with the bytes received, and those of the archive, 0 if that is not known.
        patience: when to give up a server.

    Raises:
        HearevalError: the checksum is wrong, the archive is not found, or no server answers.
    """
    lock = target.with_name(f".{target.name}.lock")
    with files.locked(
        lock, lambda: report_note(f"fetch {download.file_name}: waiting for another run, which fetches it")
    ):
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
        if (
            target.exists()
            and download.expected_checksum
            and _checksum_of(target, download) != download.expected_checksum
        ):
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
    answers: dict[str, str] = {}
    damaged: HearevalError | None = None
    for mirror in mirrors:
        try:
            if _fetch_from_mirror(mirror, download, target, progress, patience):
                return
            answers[mirror.address] = "no such file"
        except (RefusedError, UnansweredError) as error:
            answers[mirror.address] = error.got
        except HearevalError as error:
            # Another mirror may have an intact copy.
            if damaged:
                answers[mirror.address] = error.got
            damaged = damaged or error
    if damaged:
        raise _tell_answers(damaged, answers)
    _fetch_from_publisher(download, target, answers, progress, patience)


def _fetch_from_mirror(
    mirror: Mirror, download: Download, target: Path, progress: Progress, patience: Patience
) -> bool:
    """Fetch an archive from a mirror; return False if the mirror is a folder that does not have it.

    Raises:
        RefusedError: the mirror is a URL that does not have it.
        UnansweredError: it is a URL that gives no answer.
        HearevalError: its copy is damaged.
    """
    if mirror.found is not None:
        return _copy_from_folder(mirror.found.get(download.file_name, ()), download, target)
    url = f"{mirror.address.rstrip('/')}/{quote(download.file_name)}"
    try:
        tries = 1 if mirror.has_failed.is_set() else patience.tries
        _download(url, download, target, progress, replace(patience, tries=tries))
    except UnansweredError:
        mirror.has_failed.set()
        raise
    return True


def _fetch_from_publisher(
    download: Download, target: Path, answers: dict[str, str], progress: Progress, patience: Patience
) -> None:
    """Fetch an archive from the first of its addresses that has it.

    Args:
        answers: what the mirrors answered, by their addresses; an error names them all.
    """
    *others, last = (download.url, *download.other_urls)
    for url in others:
        try:
            # Only the last host gets all tries if it cannot be reached; the others may be gone for years.
            return _download(url, download, target, progress, replace(patience, tries_to_connect=1))
        except HearevalError as error:
            answers[url] = error.got
    try:
        _download(last, download, target, progress, patience)
    except HearevalError as error:
        raise _tell_answers(error, answers) from error.__cause__


def _tell_answers(error: HearevalError, answers: Mapping[str, str]) -> HearevalError:
    """Return an error that also tells what the other addresses answered."""
    if answers:
        tried = ", ".join(f"{address} ({answer})" for address, answer in answers.items())
        error.remedy = f"Also tried: {tried}. {error.remedy}"
    return error


def _copy_from_folder(found: Sequence[Path], download: Download, target: Path) -> bool:
    """Copy the archive from one of the files of its name in a mirror; return False if there are none."""
    sums = {}
    for path in found:
        if download.expected_checksum:
            sums[path] = files.file_checksum(path, files.algorithm_of(download.expected_checksum))
        if sums.get(path, "") == download.expected_checksum:
            with files.building_file(target) as scratch:
                # A copy, not a link: later changes of the mirror must not change a verified archive.
                shutil.copyfile(path, scratch)
            return True
    for path, checksum in sums.items():
        raise wrong_checksum(str(path), checksum, download)
    return False


def wrong_checksum(location: str, got: str, download: Download) -> HearevalError:
    """Return the error for an archive whose checksum is not the expected one."""
    kind = files.kind_of(download.expected_checksum)
    remedy = "It is damaged, or another edition: replace it, or accept it with --accept-checksums."
    if got == download.checksum:
        remedy = "This is the published archive: remove its line from the --accept-checksums file."
    return HearevalError(
        f"archive {location}", got=f"{kind} {got}", expected=download.expected_checksum, remedy=remedy
    )


def _download(url: str, download: Download, target: Path, progress: Progress, patience: Patience) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = fetch_part(url, part, download, progress, patience)
    checksum = _checksum_of(part, download)
    if checksum != download.expected_checksum and resumed:
        # The parts may come from two editions of the file, so fetch it again in one go.
        part.unlink()
        fetch_part(url, part, download, progress, patience)
        checksum = _checksum_of(part, download)
    remove_validator(part)
    if checksum != download.expected_checksum:
        part.unlink()
        raise wrong_checksum(url, checksum, download)
    if not download.expected_checksum:
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
    """Return the checksum to compare with the expected one; "" if none was published."""
    return (
        files.file_checksum(part, files.algorithm_of(download.expected_checksum))
        if download.expected_checksum
        else ""
    )


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
