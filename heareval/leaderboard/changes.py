"""Which cards of a results repository a branch changes, and whether it may."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heareval.errors import HearevalError
from heareval.formats.card import MAX_CARD_BYTES, MAX_FILE_BYTES, Card, CardResult, read_card
from heareval.formats.fields import shorten
from heareval.leaderboard.commits import (
    FILE,
    HEAD,
    LINK,
    NOTHING,
    PROGRAM,
    SUBMODULE,
    StoredFile,
    check_is_committed,
    find_merge_base,
    list_changed,
    list_files,
    read_file,
    write_folder,
)

CARDS = "cards"
REMOVED = f"{CARDS}/REMOVED.txt"
# One card with all tasks of the benchmark takes less than half of it.
MAX_TOTAL_BYTES = 100_000_000
MAX_FILES = 1000
# Numbers that differ by less are the same on another machine; relative for numbers above 1.
TOLERANCE = 1e-6
MODES = {PROGRAM: "an executable file", LINK: "a link", SUBMODULE: "a submodule"}


@dataclass(frozen=True)
class CardChanges:
    """What a branch changes in the cards of a repository.

    Args:
        base: the commit from which the branch was made.
        added: folders of cards that the base lacks, such as `cards/mine/v1`.
        changed: folders of cards that both have.
        removed: folders of cards that only the base has, with the reasons.
        problems: sentences on why the branch is refused, whatever its cards hold.
    """

    base: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def touched(self) -> tuple[str, ...]:
        """Return the folders of the cards that are to be checked."""
        return (*self.added, *self.changed)


@dataclass(frozen=True)
class RemovalLog:
    """The cards that were removed, by NAME/REVISION, with the reasons: what `cards/REMOVED.txt` says.

    Args:
        lines: its lines without comments, as they are.
        reasons: the reasons, by NAME/REVISION.
    """

    lines: tuple[str, ...] = ()
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)


def find_card_changes(repository: Path, base: str) -> CardChanges:
    """Return what HEAD changes in the cards, compared with the commit from which it left another branch.

    Args:
        repository: top folder of the repository.
        base: name of the other branch, such as `origin/main`.

    Raises:
        HearevalError: it is no repository, has no such branch, or files are not committed.

    Example: `find_card_changes(Path("results"), "origin/main").added`
    """
    check_is_committed(repository, CARDS)
    commit = find_merge_base(repository, base)
    changed = list_changed(repository, commit)
    if problems := tuple(find_faults(changed)):
        # What is no plain file, or is too large, must not be read any further.
        return CardChanges(commit, problems=problems)
    try:
        logs = [parse_removals(read_file(repository, each, REMOVED)) for each in (commit, HEAD)]
    except HearevalError as error:
        return CardChanges(commit, problems=(str(error),))
    folders = [_find_folders(list_files(repository, each, CARDS)) for each in (commit, HEAD)]
    touched = sorted(filter(None, {name_card_folder(each.path) for each in changed}))
    gone = [each for each in touched if each not in folders[1]]
    return CardChanges(
        commit,
        added=tuple(each for each in touched if each in folders[1] and each not in folders[0]),
        changed=tuple(each for each in touched if each in folders[0] and each in folders[1]),
        removed={each: logs[1].reasons.get(_shorten_folder(each), "") for each in gone},
        problems=(*find_twins(touched, folders[1]), *find_unexplained(gone, *logs)),
    )


def name_card_folder(path: str) -> str:
    """Return the folder of the card that a file belongs to, "" if it belongs to none.

    >>> name_card_folder("cards/mine/v1/esc50/scores.json"), name_card_folder("cards/mine/card.json")
    ('cards/mine/v1', '')
    """
    parts = path.split("/")
    # A model could be called like the file beside the cards.
    is_card = parts[0] == CARDS and len(parts) in (4, 5) and "/".join(parts[:2]) != REMOVED
    return "/".join(parts[:3]) if is_card else ""


def _find_folders(stored: Iterable[StoredFile]) -> set[str]:
    return {folder for each in stored if (folder := name_card_folder(each.path))}


def _shorten_folder(folder: str) -> str:
    return folder.removeprefix(f"{CARDS}/")


# --------------------------------------------------------------------------- files


def find_faults(changed: Sequence[StoredFile]) -> Iterator[str]:
    """Yield a sentence for each reason to refuse the changed files of a branch without reading them."""
    outside = [each.path for each in changed if not name_card_folder(each.path) and each.path != REMOVED]
    if outside:
        others = f" and {len(outside) - 1} more" if outside[1:] else ""
        yield _say(
            f"{_show(outside[0])}{others}",
            "a file that belongs to no card",
            f"changes of {CARDS}/NAME/REVISION/ and {REMOVED} only",
            "Everything else is the maintainers': take it out of this branch.",
        )
    for each in changed:
        if each.mode not in (FILE, NOTHING):
            yield _say(
                _show(each.path), MODES.get(each.mode, f"mode {each.mode}"), f"a plain file, with mode {FILE}"
            )
        largest = MAX_CARD_BYTES if each.path == REMOVED else MAX_FILE_BYTES
        if each.size > largest:
            yield _say(_show(each.path), f"{each.size:,} bytes", f"{largest:,} at most")
    if len(changed) > MAX_FILES:
        yield _say("this branch", f"{len(changed):,} changed files", f"{MAX_FILES:,} at most", "Split it.")
    total = sum(each.size for each in changed)
    if total > MAX_TOTAL_BYTES:
        yield _say("this branch", f"{total:,} bytes", f"{MAX_TOTAL_BYTES:,} at most", "Split it.")


def _show(path: str) -> str:
    return shorten(path)[1:-1]


def _say(what: str, got: str, expected: str, remedy: str = "") -> str:
    return str(HearevalError(what, got=got, expected=expected, remedy=remedy))


# --------------------------------------------------------------------------- folders


def find_twins(touched: Sequence[str], folders: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each touched card with a folder whose name differs from another's in case only.

    Such folders are one on some file systems, and would be two rows of one model.
    """
    others = sorted(folders)
    for each in touched:
        twin = next((other for other in others if is_twin(each, other)), None)
        if twin:
            yield _say(
                _show(each),
                f"another card whose name differs in upper and lower case only, {_show(twin)}",
                "one card for each model and revision",
            )


def is_twin(one: str, other: str) -> bool:
    """Return whether the folders of two cards, or of their models, differ in case only.

    >>> is_twin("cards/mine/v1", "cards/Mine/v2"), is_twin("cards/mine/v1", "cards/mine/v2")
    (True, False)
    """
    pairs = zip(one.split("/"), other.split("/"), strict=True)
    # Below folders that differ, names mean nothing to each other.
    first = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    return first[0] != first[1] and _fold(first[0]) == _fold(first[1])


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def parse_removals(content: bytes) -> RemovalLog:
    """Return what `cards/REMOVED.txt` says.

    Raises:
        HearevalError: it is no UTF-8, or a line is not `NAME/REVISION: reason`.

    >>> parse_removals(b"# removed\\nmine/v1: trained on test data").reasons
    {'mine/v1': 'trained on test data'}
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise HearevalError(REMOVED, got="no UTF-8", expected="text") from None
    lines = tuple(line for line in map(str.strip, text.split("\n")) if line and not line.startswith("#"))
    reasons = {}
    for line in lines:
        name, _, reason = line.partition(": ")
        if name.count("/") != 1 or not reason.strip():
            raise HearevalError(REMOVED, got=shorten(line), expected="NAME/REVISION: reason")
        reasons[name] = reason.strip()
    return RemovalLog(lines, reasons)


def find_unexplained(gone: Sequence[str], before: RemovalLog, after: RemovalLog) -> Iterator[str]:
    """Yield a sentence for each removed card that no new line explains, and for each other change of lines.

    Args:
        gone: folders of cards that are removed.
        before: what `cards/REMOVED.txt` said.
        after: what it says now.
    """
    lacking = Counter(before.lines) - Counter(after.lines)
    for line in lacking:
        yield _say(REMOVED, f"no line {shorten(line)} any more", "all earlier lines, because they are kept")
    new = parse_removals("\n".join(Counter(after.lines) - Counter(before.lines)).encode()).reasons
    names = [_shorten_folder(each) for each in gone]
    for name in names:
        if name not in new:
            yield _say(
                f"{CARDS}/{_show(name)}",
                "a card that is removed or renamed without a reason",
                "all scores that are in the base",
                f"Restore it, or add a line {shorten(f'{name}: reason')} to {REMOVED}.",
            )
    for name in new:
        if name not in names:
            yield _say(REMOVED, f"a new line about {shorten(name)}", "cards that this branch removes")


# --------------------------------------------------------------------------- scores


def read_earlier_card(repository: Path, commit: str, folder: str) -> Card:
    """Return a card as a commit has it; the folder that the result names is gone.

    Raises:
        HearevalError: the card cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        write_folder(repository, commit, folder, Path(scratch))
        try:
            return read_card(Path(scratch) / folder)
        except HearevalError as error:
            raise HearevalError(
                f"{folder} in the base",
                # A path of this machine tells the reader nothing.
                got=str(error).replace(f"{scratch}/", ""),
                expected="a card that can be compared",
                remedy="Remove it, with a reason, and add it as another revision.",
            ) from None


def compare_scores(before: Card, after: Card) -> Iterator[str]:
    """Yield a sentence for each score of a card that a later card of the same revision lacks or changed."""
    kept = {_identify(result): result for result in after.results}
    remedy = "A model with other scores is another revision: restore them, and make a card of that one."
    for result in before.results:
        name = f"{_shorten_card(after)}: {result.task_folder} with {result.protocol}"
        if _identify(result) not in kept:
            yield _say(name, "no such result any more", "all results that are in the base", remedy)
            continue
        entries = kept[_identify(result)].scores.scores
        for metric, entry in result.scores.scores.items():
            found = entries[metric].value if metric in entries else None
            if found is None or not _is_same(entry.value, found):
                got = "none" if found is None else f"{found:.6f}"
                yield _say(f"{name}: {shorten(metric)}", got, f"{entry.value:.6f}, as in the base", remedy)


def _identify(result: CardResult) -> tuple[str, str]:
    return result.task_folder, result.protocol


def _shorten_card(card: Card) -> str:
    return f"{card.folder.parent.name}/{card.folder.name}"


def _is_same(one: float, other: float) -> bool:
    both_undefined = math.isnan(one) and math.isnan(other)
    return both_undefined or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
