"""JSON objects read as typed values: a wrong one is an error that names the file, the key and the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from heareval import files
from heareval.errors import HearevalError, unknown_name

Value = TypeVar("Value")
SHOWN_LENGTH = 100


class _Required:
    """Stands for "no default": the key must be there."""


REQUIRED: Any = _Required()


@dataclass(frozen=True)
class Fields:
    """A JSON object of a file, whose values are asked for by key and type.

    Every method takes `default`, which is returned if the key is missing or null; without one the key is
    required. All raise HearevalError with the file, the key, what was found and what was expected.

    Args:
        where: names the object in errors: the file's path and, inside it, the way to the object.
        values: the object.
        remedy: what helps if something in it is wrong.

    >>> Fields("MANIFEST.json", {"clips": 3}).integer("clips")
    3
    >>> Fields("MANIFEST.json", {"clips": "3"}).integer("clips")
    Traceback (most recent call last):
        ...
    heareval.errors.HearevalError: MANIFEST.json: clips: got '3', expected a whole number
    """

    where: str
    values: Mapping[str, Any]
    remedy: str = ""

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def text(self, key: str, default: Any = REQUIRED) -> str:
        """The text of a key."""
        return self._typed(key, "text", lambda value: isinstance(value, str), default)

    def integer(self, key: str, default: Any = REQUIRED) -> int:
        """The whole number of a key."""
        return self._typed(key, "a whole number", _is_integer, default)

    def number(self, key: str, default: Any = REQUIRED) -> float:
        """The finite number of a key."""
        return self._typed(key, "a number", _is_number, default)

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """Whether a key is true or false."""
        return self._typed(key, "true or false", lambda value: isinstance(value, bool), default)

    def one_of(self, key: str, known: Sequence[str], default: Any = REQUIRED) -> str:
        """The text of a key, which must be one of those that are known."""
        value = self.text(key, default)
        if value is not default and value not in known:
            raise unknown_name(f"{key} in {self.where}", value, known)
        return value

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """The list of texts of a key."""
        is_right = _list_of(lambda value: isinstance(value, str))
        return self._tuple(key, "a list of texts", is_right, default)

    def integers(self, key: str, default: Any = REQUIRED) -> tuple[int, ...]:
        """The list of whole numbers of a key."""
        return self._tuple(key, "a list of whole numbers", _list_of(_is_integer), default)

    def mapping(self, key: str, default: Any = REQUIRED) -> Mapping[str, Any]:
        """The object of a key, as it is."""
        return self._typed(key, "an object", lambda value: isinstance(value, dict), default)

    def object(self, key: str, default: Any = REQUIRED) -> Fields:
        """The object of a key, whose values can be asked for in turn."""
        return Fields(f"{self.where}: {key}", self.mapping(key, default), self.remedy)

    def objects(self, key: str, default: Any = REQUIRED) -> tuple[Fields, ...]:
        """The list of objects of a key."""
        is_right = _list_of(lambda value: isinstance(value, dict))
        found = self._tuple(key, "a list of objects", is_right, default)
        return tuple(Fields(f"{self.where}: {key}[{i}]", each, self.remedy) for i, each in enumerate(found))

    def counts(self, key: str, default: Any = REQUIRED) -> Mapping[str, int]:
        """The object of a key whose values are whole numbers."""
        return self._typed(
            key,
            "an object of whole numbers",
            lambda value: isinstance(value, dict) and all(map(_is_integer, value.values())),
            default,
        )

    def error(self, key: str, got: str, expected: str, remedy: str = "") -> HearevalError:
        """The error for the value of a key."""
        return HearevalError(f"{self.where}: {key}", got=got, expected=expected, remedy=remedy or self.remedy)

    def _typed(self, key: str, expected: str, is_right: Callable[[Any], bool], default: Any) -> Any:
        value = self.values.get(key)
        if value is None:
            if default is REQUIRED:
                raise self.error(key, "null" if key in self.values else "nothing", expected)
            return default
        if not is_right(value):
            raise self.error(key, shorten(value), expected)
        return value

    def _tuple(self, key: str, expected: str, is_right: Callable[[Any], bool], default: Any) -> Any:
        value = self._typed(key, expected, is_right, default)
        return tuple(value) if isinstance(value, list) else value


def read_fields(path: Path, *, remedy: str = "") -> Fields:
    """The JSON object in a file.

    Args:
        remedy: what helps if the file, or something in it, is wrong.

    Raises:
        HearevalError: no such file, no JSON, or JSON that is no object.
    """
    try:
        value = files.read_json(path)
    except FileNotFoundError:
        raise HearevalError(f"{path}", got="no such file", expected="a JSON file", remedy=remedy) from None
    except ValueError as error:
        raise HearevalError(f"{path}", got=str(error), expected="JSON", remedy=remedy) from None
    if not isinstance(value, dict):
        raise HearevalError(f"{path}", got=shorten(value), expected="a JSON object", remedy=remedy)
    return Fields(str(path), value, remedy)


def shorten(value: Any) -> str:
    """A value as an error shows it.

    >>> shorten([1, 2]), len(shorten("x" * 1000))
    ('[1, 2]', 103)
    """
    text = ascii(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))
