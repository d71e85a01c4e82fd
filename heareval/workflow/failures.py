"""Failed steps as they are told to people: archives that one reason keeps from being fetched, together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from urllib.parse import urlsplit

from heareval.archives.download import REFUSED_REMEDY, UNANSWERED_REMEDY
from heareval.errors import HearevalError

# Remedy for one archive -> the same for several.
REMEDIES = {
    UNANSWERED_REMEDY: "Check the network, or put them into a folder, and give it with --mirror.",
    REFUSED_REMEDY: "They have moved: put them into a folder, and give it with --mirror.",
}
# Failures reach a run as text, from the processes of its steps.
_DOWNLOAD = re.compile(
    r"download of (?P<url>\S+): got (?P<got>.*), expected the archive\. (?:Also tried: (?P<others>.*)\. )?"
    f"(?P<remedy>{'|'.join(map(re.escape, REMEDIES))})"
)


@dataclass(frozen=True)
class ToldFailure:
    """What is told about one failed step, or about several that failed for one reason.

    Args:
        line: what failed, why, and the remedy.
        titles: the failed steps.
        archives: a line on each archive, if there are several: its name and addresses.
    """

    line: str
    titles: tuple[str, ...]
    archives: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.line} Not fetched: {', '.join(self.archives)}" if self.archives else self.line


@dataclass(frozen=True)
class _Unfetched:
    """An archive that could not be fetched.

    Args:
        title: the failed step.
        url: where it was asked for last.
        others: what other addresses answered; "" without any.
        explanation: the whole error.
    """

    title: str
    url: str
    others: str
    explanation: str


def tell_failures(failures: Sequence[tuple[str, str]]) -> tuple[ToldFailure, ...]:
    """Return what is told about the failed steps of a run, in their order.

    Args:
        failures: (title of the step, explanation in one line).

    >>> refused = "got Connection refused, expected the archive. " + UNANSWERED_REMEDY
    >>> told, = tell_failures([(f"fetch {name}", f"download of http://h/{name}: {refused}") for name in "ab"])
    >>> told.line.partition(". ")[0]
    '2 archives: got Connection refused, expected the archives'
    >>> told.archives
    ('a: http://h/a', 'b: http://h/b')
    """
    groups: dict[tuple[str, str], list[_Unfetched]] = {}
    for title, explanation in failures:
        found = _DOWNLOAD.fullmatch(explanation)
        # A step that is like no other is told alone.
        key = title, explanation
        if found:
            key = _leave_out_host(found["got"], found["url"]), found["remedy"]
        unfetched = _Unfetched(
            title, found["url"] if found else "", (found["others"] or "") if found else "", explanation
        )
        groups.setdefault(key, []).append(unfetched)
    return tuple(
        _tell_together(*key, group) if len(group) > 1 else _tell_alone(group[0])
        for key, group in groups.items()
    )


def _leave_out_host(got: str, url: str) -> str:
    """Return what a download got, without the name of its host, which differs between archives."""
    host = urlsplit(url).hostname or url
    return got.replace(f"'{host}'", "the host").replace(host, "the host")


def _tell_alone(failed: _Unfetched) -> ToldFailure:
    return ToldFailure(f"{failed.title}: {failed.explanation}", (failed.title,))


def _tell_together(got: str, remedy: str, group: Sequence[_Unfetched]) -> ToldFailure:
    others = [each.others.split(", ") if each.others else [] for each in group]
    # Mirrors come first, and are the same for all archives; other addresses of a publisher are not.
    common = [answers[0] for answers in takewhile(lambda each: len({*each}) == 1, zip(*others, strict=False))]
    tried = f"Also tried: {', '.join(common)}. " if common else ""
    error = HearevalError(
        f"{len(group)} archives", got=got, expected="the archives", remedy=tried + REMEDIES[remedy]
    )
    archives = []
    for each, answers in zip(group, others, strict=True):
        also = ", ".join(answers[len(common) :])
        name = each.title.removeprefix("fetch ")
        archives.append(f"{name}: {each.url}{f', also tried: {also}' if also else ''}")
    return ToldFailure(str(error), tuple(each.title for each in group), tuple(archives))
