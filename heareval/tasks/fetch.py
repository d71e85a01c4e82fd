"""Archives from a mirror or their publisher, whole and with the right checksum, or an error."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import requests
import urllib3

from heareval import files
from heareval.errors import HearevalError
from heareval.spec import Download, Progress

TIMEOUT_S = (10, 60)  # to connect, and between two pieces of the answer
BLOCK_BYTES = 1 << 18


def fetch(
    download: Download,
    target: Path,
    mirrors: Sequence[str],
    progress: Progress,
    *,
    tries: int = 5,
    pause_s: float = 1.0,
) -> None:
    """Put the archive at `target`, from the first mirror that has it or else from where it was published.

    Args:
        mirrors: folders or URLs that hold archives under their file names.
        tries: attempts in a row that may bring nothing new before the download is given up.
        pause_s: pause after the first fruitless attempt; it doubles with each.

    Raises:
        HearevalError: wrong checksum, not found, or no connection.
    """
    with files.locked(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return
        for mirror in mirrors:
            if "://" in mirror:
                url = f"{mirror.rstrip('/')}/{download.file_name}"
                if _answers(url) and _download(url, download, target, progress, tries, pause_s):
                    return
            elif _take_from_folder(Path(mirror), download, target):
                return
        try:
            _download(download.url, download, target, progress, tries, pause_s)
        except HearevalError as error:
            if mirrors:
                error.remedy = f"It is in no mirror either ({', '.join(mirrors)}). {error.remedy}"
            raise


def _take_from_folder(mirror: Path, download: Download, target: Path) -> bool:
    """Take the archive from a mirror folder or one of its sub-folders; False if it holds none of the name."""
    if not mirror.is_dir():
        raise HearevalError(f"mirror {mirror}", got="no such folder", expected="a folder or URL of archives")
    found = [mirror / download.file_name, *sorted(mirror.glob(f"*/{files.glob_escape(download.file_name)}"))]
    sums = {}
    for path in filter(Path.is_file, found):
        sums[path] = files.file_checksum(path, files.algorithm_of(download.wanted))
        if sums[path] == download.wanted:
            with files.building_file(target) as scratch:
                # A copy, not a link: what happens to the mirror later must not change a verified archive.
                shutil.copyfile(path, scratch)
            return True
    for path, checksum in sums.items():
        raise wrong_checksum(str(path), checksum, download)
    return False


def wrong_checksum(place: str, got: str, download: Download) -> HearevalError:
    """The error for an archive that is not the one that was published."""
    kind = files.algorithm_of(download.wanted).upper().replace("SHA256", "SHA-256")
    remedy = "It is damaged or another edition: replace it, or admit it with --accept-checksums."
    if got == download.checksum:
        remedy = "This is the published archive: take its name out of the --accept-checksums file."
    return HearevalError(f"archive {place}", got=f"{kind} {got}", expected=download.wanted, remedy=remedy)


def _answers(url: str) -> bool:
    """Whether a mirror has the file; one that can't be reached has nothing."""
    try:
        with requests.get(url, timeout=TIMEOUT_S, stream=True) as answer:
            return answer.ok
    except requests.RequestException:
        return False


def _download(
    url: str, download: Download, target: Path, progress: Progress, tries: int, pause_s: float
) -> bool:
    part = target.with_name(f"{target.name}.part")
    resumed = _fetch_part(url, part, progress, tries, pause_s)
    checksum = files.file_checksum(part, files.algorithm_of(download.wanted))
    if checksum != download.wanted and resumed:
        # The pieces may come from two editions of the file: once more in one piece.
        part.unlink()
        _fetch_part(url, part, progress, tries, pause_s)
        checksum = files.file_checksum(part, files.algorithm_of(download.wanted))
    _validator_file(part).unlink(missing_ok=True)
    if checksum != download.wanted:
        part.unlink()
        raise wrong_checksum(url, checksum, download)
    part.replace(target)
    return True


def _fetch_part(url: str, part: Path, progress: Progress, tries: int, pause_s: float) -> bool:
    """Fetch until the file is complete; returns whether it was put together from several answers."""
    failures, resumed = 0, False
    while True:
        before = part.stat().st_size if part.exists() else 0
        resumed = resumed or before > 0
        try:
            _fetch_rest(url, part, progress)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            got_more = part.exists() and part.stat().st_size > before
            failures = 1 if got_more else failures + 1
            if failures >= tries:
                raise HearevalError(
                    f"download of {url}",
                    got=f"{_reason(error)} ({failures} tries in a row)",
                    expected="the archive",
                    remedy="Check the network, or put the file into a folder and name it with --mirror.",
                ) from error
            time.sleep(pause_s * 2 ** (failures - 1))
        else:
            return resumed


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return str(getattr(cause, "reason", cause)).split(": ", 1)[-1]


def _fetch_rest(url: str, part: Path, progress: Progress) -> None:
    """One request for what is missing of `part`, appended as it comes."""
    have = part.stat().st_size if part.exists() else 0
    validator = _validator_file(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if validator.exists():
            headers["If-Range"] = validator.read_text()
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is missing; the checksum will tell
        _raise_for_status(url, answer)
        if answer.status_code != requests.codes.partial_content:
            have = 0
        part.parent.mkdir(parents=True, exist_ok=True)
        # A strong ETag or a date makes sure that the rest belongs to the same edition of the file.
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        if mark and not mark.startswith("W/"):
            validator.write_text(mark)
        total = have + int(answer.headers.get("Content-Length", 0))
        with open(part, "r+b" if have else "wb") as stream:
            stream.seek(have)
            # read1 hands over what has come, so that a cut connection loses nothing of it.
            while block := answer.raw.read1(BLOCK_BYTES, decode_content=True):
                stream.write(block)
                have += len(block)
                progress(have, max(total, have))


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _raise_for_status(url: str, answer: requests.Response) -> None:
    if answer.status_code >= 500 or answer.status_code == requests.codes.too_many_requests:
        raise requests.ConnectionError(f"HTTP {answer.status_code} {answer.reason}")
    if not answer.ok:
        raise HearevalError(
            f"download of {url}",
            got=f"HTTP {answer.status_code} {answer.reason}",
            expected="the archive",
            remedy="It has moved: put the file into a folder and name it with --mirror.",
        )


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
