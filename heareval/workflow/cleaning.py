"""What in the folders of runs nothing needs any more: found, measured and deleted.

Only paths with names and contents that heareval gives are ever considered. Links are never followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heareval import files
from heareval.formats.fields import read_fields
from heareval.formats.training_progress import is_of_finished_results, list_unfinished_trainings
from heareval.layout import Places
from heareval.spec import LISTED

if TYPE_CHECKING:
    from heareval.workflow.needed import Needed

LOG_DAYS = 30
REMEDY = "Remove its folder."
DAY_S = 86400.0
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system
_HEX = f"[0-9a-f]{{{files.FINGERPRINT_DIGITS}}}"
DOWNLOAD = re.compile(f"[0-9a-f]{{32}}|[0-9a-f]{{40}}|[0-9a-f]{{64}}|unpublished-{_HEX}")
CORPUS = re.compile(f"[a-z0-9-]{{1,16}}-{_HEX}")
STAGE = re.compile(rf"(clips|sounds|resampled|shard\d{{3,}})-{_HEX}")
ENVIRONMENT = re.compile(_HEX)
UNFINISHED_EMBEDDINGS = re.compile(rf"\.(?P<target>.+)\.{_HEX}{re.escape(files.UNFINISHED)}")
LOG_SUFFIXES = (".log", ".log.1", ".job.json")
LOCK_FOLDERS = ("downloads", "corpora", "environments")
LOG_FOLDERS = ("logs", "submissions", "validate", "environments")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs.

    Args:
        path: the file or folder.
        reason: why nothing needs it.
        bytes: bytes on disk that deleting it frees, if everything listed before it is deleted, too. Files
            with links that stay free nothing.
    """

    path: Path
    reason: str
    bytes: int = 0


def find_leftovers(
    places: Places, needed: Needed, now_s: float, *, is_alone: bool, log_days: int = LOG_DAYS
) -> list[Leftover]:
    """Return what nothing needs, measured; the paths never lie in one another.

    Args:
        places: the folders of the runs.
        needed: what the current tasks and submissions need.
        now_s: the time by the clock of the work folder.
        is_alone: whether no run uses the work folder. Otherwise scratch and environments of other machines
            may be in use, and locks are left out.
        log_days: logs and unfinished trainings that nothing was written to for this many days count.

    Raises:
        OSError: a folder can't be read.

    Example: `sum(each.bytes for each in find_leftovers(places, needed, time.time(), is_alone=False))`
    """
    found = dict(
        itertools.chain(
            _find_downloads(places, needed),
            _find_corpora(places, needed),
            _find_stages(places, needed),
            _find_environments(places, needed, is_alone=is_alone),
            _find_demo_corpora(places, needed),
        )
    )
    oldest = now_s - log_days * DAY_S
    for path, reason in itertools.chain(
        _find_unfinished_embeddings(places),
        _find_scratch(places, is_alone=is_alone),
        _find_locks(places) if is_alone else (),
        _find_unfinished_trainings(places, oldest, log_days),
        _find_logs(places, oldest, f"a log of more than {log_days} days ago"),
    ):
        if path.parent not in found:
            found[path] = reason
    return list(_measure(found.items()))


# --------------------------------------------------------------------------- finding


def _find_downloads(places: Places, needed: Needed) -> Iterator[tuple[Path, str]]:
    for folder in _list_folders(Path(places.work) / "downloads", DOWNLOAD.fullmatch):
        if folder not in needed.folders:
            yield folder, "a download that no current task or submission needs"


def _find_corpora(places: Places, needed: Needed) -> Iterator[tuple[Path, str]]:
    for folder in _list_folders(Path(places.work) / "corpora", CORPUS.fullmatch):
        is_ours = (folder / files.MANIFEST).is_file() or folder.name.startswith(f"{LISTED}-")
        is_kept = needed.has_unknown_tarball and folder.name.startswith("published-")
        if is_ours and not is_kept and folder not in needed.folders:
            yield folder, "an unpacked archive that no current task needs"


def _find_stages(places: Places, needed: Needed) -> Iterator[tuple[Path, str]]:
    # The work folder itself may be a link.
    for task in sorted(Path(places.work).iterdir()):
        for stage in _list_folders(task, STAGE.fullmatch):
            if (stage / files.MANIFEST).is_file() and (reason := _judge_stage(stage, places, needed)):
                yield stage, reason


def _judge_stage(stage: Path, places: Places, needed: Needed) -> str:
    """Return why nothing needs a stage; "" if something does, or if nobody knows."""
    task, kind = stage.parent.name, stage.name.partition("-")[0]
    if task in needed.unknown:
        return ""
    if kind == "resampled":
        is_needed = needed.has_resampled(task, stage, places)
        return "" if is_needed else "clips of a task as it is no longer published"
    if task not in needed.tasks:
        return "a stage of a task that is not published, and that no run asked for lately"
    if stage in needed.folders:
        return ""
    publishing, manifest = needed.tasks[task], read_fields(stage / files.MANIFEST, remedy=REMEDY)
    if kind.startswith("shard") and manifest.text("fingerprint", "") == publishing.samples_fingerprint:
        is_published = set(manifest.integers("rates")) <= publishing.published_rates()
        return "a shard whose clips are all in the published task folder" if is_published else ""
    return "a stage made from other archives, with other settings or by another version"


def _find_environments(places: Places, needed: Needed, *, is_alone: bool) -> Iterator[tuple[Path, str]]:
    for folder in _list_folders(places.environments(), ENVIRONMENT.fullmatch):
        if not (folder / files.MANIFEST).is_file():
            if is_alone:
                yield folder, "an environment whose installation was broken off"
        elif not needed.has_environment(folder):
            yield folder, "an environment that no current submission needs"


def _find_demo_corpora(places: Places, needed: Needed) -> Iterator[tuple[Path, str]]:
    folder = places.demo_corpora()
    if _is_folder(folder) and not any(task.job.mode == "demo" for task in needed.tasks.values()):
        yield folder, "synthetic corpora, and no current task is one of the demo"


def _find_scratch(places: Places, *, is_alone: bool) -> Iterator[tuple[Path, str]]:
    """Yield what killed processes left while they built something."""
    # Runs with another work folder may share the other folders, but whoever builds in this one is a run.
    foreign_s = -math.inf if is_alone else files.FOREIGN_SCRATCH_S
    for folder, depth, waiting_s in (
        (places.work, 2, foreign_s),
        (places.tasks, 0, files.FOREIGN_SCRATCH_S),
        (places.tars, 1, files.FOREIGN_SCRATCH_S),
        (places.embeddings, 2, files.FOREIGN_SCRATCH_S),
    ):
        for path in _walk(Path(folder), depth):
            if path.name.startswith(".") and path.name.endswith(files.SCRATCH):
                # It may vanish meanwhile.
                with contextlib.suppress(OSError):
                    if not files.has_living_owner(path, waiting_s):
                        yield path, "scratch of a process that has ended"


def _find_unfinished_embeddings(places: Places) -> Iterator[tuple[Path, str]]:
    """Yield what killed runs left of embeddings, if no run will go on from it."""
    # It imports numpy, which `heareval clean --help` does not need.
    from heareval.formats.embeddings_folder import lock_of_embedding

    for path in _walk(Path(places.embeddings), 1):
        folder = _find_embedded(path, places)
        reason = _judge_unfinished_embeddings(path, folder) if folder else ""
        # Runs with another work folder may share the embeddings folder.
        if folder and reason and (not (lock := lock_of_embedding(folder)).exists() or _is_free(lock)):
            yield path, reason


def _find_embedded(path: Path, places: Places) -> Path | None:
    """Return the folder whose unfinished embeddings are at a path; None if it holds none."""
    found = UNFINISHED_EMBEDDINGS.fullmatch(path.name)
    is_there = found and path.parent.parent == Path(places.embeddings) and _is_folder(path)
    return path.with_name(found["target"]) if found and is_there else None


def _judge_unfinished_embeddings(path: Path, folder: Path) -> str:
    """Return why nothing needs the unfinished embeddings of a folder; "" if a run would go on from them."""
    from heareval.formats.embeddings_folder import has_embeddings, is_made_again

    if is_made_again(path):
        return "embeddings that a killed run was making again"
    fingerprint = path.name.removesuffix(files.UNFINISHED).rpartition(".")[2]
    return "unfinished embeddings that are complete by now" if has_embeddings(folder, fingerprint) else ""


def _find_unfinished_trainings(places: Places, oldest_s: float, days: int) -> Iterator[tuple[Path, str]]:
    """Yield what killed runs left of trainings, if no run will go on from it."""
    # It imports numpy, which `heareval clean --help` does not need.
    from heareval.formats.results_folder import find_scores_fingerprint

    for folder in _walk(Path(places.embeddings), 1):
        for path, protocol in list_unfinished_trainings(folder).items() if _is_folder(folder) else ():
            if is_of_finished_results(path, find_scores_fingerprint(folder, protocol)):
                yield path, "trainings of a predictor that has been scored"
            elif path.stat().st_mtime < oldest_s:
                yield path, f"trainings that were interrupted more than {days} days ago"


def _find_locks(places: Places) -> Iterator[tuple[Path, str]]:
    """Yield the locks in the work folder, which no run holds."""
    for name in LOCK_FOLDERS:
        folder = Path(places.work) / name
        for path in _walk(folder, 1) if _is_folder(folder) else ():
            is_lock = path.name.startswith(".") and path.name.endswith(".lock")
            if is_lock and _is_file(path) and _is_free(path):
                yield path, "a lock that no run holds"


def _is_free(lock: Path) -> bool:
    try:
        with open(lock, "a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _find_logs(places: Places, oldest_s: float, reason: str) -> Iterator[tuple[Path, str]]:
    for name in LOG_FOLDERS:
        for path in _list(Path(places.work) / name):
            if path.name.endswith(LOG_SUFFIXES) and _is_file(path) and path.stat().st_mtime < oldest_s:
                yield path, reason


# --------------------------------------------------------------------------- folders


def _list_folders(folder: Path, is_ours: Callable[[str], object]) -> Iterator[Path]:
    """Yield the folders in a folder whose names heareval may have given; links are no folders."""
    return (path for path in _list(folder) if is_ours(path.name) and _is_folder(path))


def _list(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing if it is a link or missing."""
    return _read_folder(folder) if _is_folder(folder) else []


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    """Yield what lies in a folder and in its folders, down to some depth; scratch is not entered."""
    for path in _read_folder(folder) if folder.is_dir() else []:
        yield path
        if depth and _is_folder(path) and not path.name.endswith(files.SCRATCH):
            yield from _walk(path, depth - 1)


def _read_folder(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing if this user may not read it, as lost+found of a disk."""
    try:
        return sorted(folder.iterdir())
    except PermissionError:
        return []


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


# --------------------------------------------------------------------------- sizes


def _measure(found: Iterable[tuple[Path, str]]) -> Iterator[Leftover]:
    """Yield what was found with the bytes that deleting it frees."""
    # Links to a file that are to be deleted, by the file; it is freed with the last of all its links.
    links: dict[tuple[int, int], int] = {}
    for path, reason in found:
        freed = 0
        for facts in _list_facts(path):
            identity = facts.st_dev, facts.st_ino
            links[identity] = links.get(identity, 0) + 1
            if stat.S_ISDIR(facts.st_mode) or links[identity] == facts.st_nlink:
                freed += facts.st_blocks * BLOCK_BYTES
        yield Leftover(path, reason, freed)


def _list_facts(path: Path) -> Iterator[os.stat_result]:
    """Yield the facts of a path and of everything in it; what vanishes meanwhile is left out."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(FileNotFoundError):
            facts = path.lstat()
            yield facts
            if stat.S_ISDIR(facts.st_mode):
                waiting += path.iterdir()


# --------------------------------------------------------------------------- deleting


def delete_leftovers(leftovers: Sequence[Leftover], places: Places) -> list[str]:
    """Delete what was found, and return a line for each path that could not be deleted.

    Folders get the name of scratch first, so that a run never takes half a folder for a whole one.

    Example: `delete_leftovers(leftovers, places)`
    """
    failures = []
    for each in leftovers:
        try:
            if folder := _find_embedded(each.path, places):
                _delete_unfinished_embeddings(each.path, folder)
            else:
                _delete(each.path)
        except OSError as error:
            failures.append(f"{each.path}: {error.strerror or error}")
    for folder in {each.path.parent for each in leftovers}:
        # Folders of tasks that have nothing left.
        if folder.parent == Path(places.work) and not any(folder.iterdir()):
            folder.rmdir()
    return failures


def _delete_unfinished_embeddings(path: Path, folder: Path) -> None:
    """Delete the unfinished embeddings of a folder unless a run uses or has removed them."""
    from heareval.formats.embeddings_folder import lock_of_embedding

    with files.open_lock(lock_of_embedding(folder)) as stream:
        try:
            files.lock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError("a run uses it") from error
        if _judge_unfinished_embeddings(path, folder):
            _delete(path)


def _delete(path: Path) -> None:
    if not _is_folder(path):
        path.unlink(missing_ok=True)
        return
    scratch = path
    if not path.name.endswith(files.SCRATCH):
        scratch = files.scratch_path(path)
        path.rename(scratch)
    files.remove_tree(scratch)
    if scratch.exists():
        raise OSError(f"a part of it could not be deleted, and is now in {scratch}")
