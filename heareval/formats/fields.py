"""Read JSON objects as typed values; every error names the file, the key and the remedy."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.errors import HearevalError, file_error, unknown_name

SHOWN_LENGTH = 100


class _Required:
    """Marks a key without a default: it must be there."""


REQUIRED: Any = _Required()


@dataclass(frozen=True)
class Fields:
    """A JSON object whose values are read by key and type.

    Every method takes `default` and returns it if the key is missing or null; without a default the key is
    required. All methods raise HearevalError with the file, the key, the value found and the type expected.

    Args:
        where: name of the object in errors: the file's path, followed by the keys that lead to the object.
        values: the object itself.
        remedy: advice for the user if a value is wrong.

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
        """Return the text at `key`."""
        return self._typed(key, "text", lambda value: isinstance(value, str), default)

    def fingerprint(self) -> str:
        """Return the text at `fingerprint`, which must not be empty."""
        fingerprint = self.text("fingerprint")
        if not fingerprint:
            raise self.error("fingerprint", "''", "hex digits")
        return fingerprint

    def integer(self, key: str, default: Any = REQUIRED) -> int:
        """Return the whole number at `key`."""
        return self._typed(key, "a whole number", _is_integer, default)

    def number(self, key: str, default: Any = REQUIRED) -> float:
        """Return the finite number at `key`."""
        return self._typed(key, "a number", is_number, default)

    def text_or_number(self, key: str, default: Any = REQUIRED) -> str:
        """Return the text or finite number at `key`, as text."""
        value = self._typed(key, "text or a number", lambda v: isinstance(v, str) or is_number(v), default)
        return value if value is default else str(value)

    def flag(self, key: str, default: Any = REQUIRED) -> bool:
        """Return the boolean at `key`."""
        return self._typed(key, "true or false", lambda value: isinstance(value, bool), default)

    def one_of(self, key: str, known: Sequence[str], default: Any = REQUIRED) -> str:
        """Return the text at `key`, which must be one of `known`."""
        value = self.text(key, default)
        if value is not default and value not in known:
            raise self.unknown_name(f"{key} in {self.where}", value, known)
        return value

    def texts(self, key: str, default: Any = REQUIRED) -> tuple[str, ...]:
        """Return the list of texts at `key`."""
        is_right = _list_of(lambda value: isinstance(value, str))
        return self._tuple(key, "a list of texts", is_right, default)

    def integers(self, key: str, default: Any = REQUIRED) -> tuple[int, ...]:
        """Return the list of whole numbers at `key`."""
        return self._tuple(key, "a list of whole numbers", _list_of(_is_integer), default)

    def numbers(self, key: str, default: Any = REQUIRED) -> tuple[float, ...]:
        """Return the list of finite numbers at `key`."""
        return self._tuple(key, "a list of numbers", _list_of(is_number), default)

    def mapping(self, key: str, default: Any = REQUIRED) -> Mapping[str, Any]:
        """Return the object at `key` without further checks."""
        return self._typed(key, "an object", lambda value: isinstance(value, dict), default)

    def object(self, key: str, default: Any = REQUIRED) -> Fields:
        """Return the object at `key` as Fields."""
        return Fields(f"{self.where}: {key}", self.mapping(key, default), self.remedy)

    def objects(self, key: str, default: Any = REQUIRED) -> tuple[Fields, ...]:
        """Return the list of objects at `key` as Fields."""
        is_right = _list_of(lambda value: isinstance(value, dict))
        found = self._tuple(key, "a list of objects", is_right, default)
        return tuple(Fields(f"{self.where}: {key}[{i}]", each, self.remedy) for i, each in enumerate(found))

    def counts(self, key: str, default: Any = REQUIRED) -> Mapping[str, int]:
        """Return the object at `key`, whose values must be whole numbers."""
        return self._typed(
            key,
            "an object of whole numbers",
            lambda value: isinstance(value, dict) and all(map(_is_integer, value.values())),
            default,
        )

    def error(self, key: str, got: str, expected: str, remedy: str = "") -> HearevalError:
        """Return the error for a wrong value at `key`."""
        return HearevalError(f"{self.where}: {key}", got=got, expected=expected, remedy=remedy or self.remedy)

    def unknown_name(self, kind: str, name: str, known: Iterable[str]) -> HearevalError:
        """Return the error for a name that is not in a table, with the nearest ones and the remedy."""
        error = unknown_name(kind, name, known)
        remedy = f"{error.remedy} {self.remedy}".strip()
        return HearevalError(error.what, got=error.got, expected=error.expected, remedy=remedy)

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


def read_fields(path: Path, *, remedy: str = "", where: str = "") -> Fields:
    """Return the JSON object in a file.

    Args:
        path: the JSON file.
        remedy: advice for the user if the file or a value in it is wrong.
        where: name of the file in errors; "" means its path.

    Raises:
        HearevalError: the file is missing, can't be read, or does not hold a JSON object.
    """
    where = where or str(path)
    try:
        value = files.read_json(path)
    except FileNotFoundError:
        raise HearevalError(where, got="no such file", expected="a JSON file", remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise HearevalError(where, got=str(error), expected="JSON", remedy=remedy) from None
    except OSError as error:
        raise file_error(error) from None
    if not isinstance(value, dict):
        raise HearevalError(where, got=shorten(value), expected="a JSON object", remedy=remedy)
    return Fields(where, value, remedy)


def shorten(value: Any) -> str:
    """Return a value as errors show it: ASCII, cut to a readable length.

    >>> shorten([1, 2]), len(shorten("x" * 1000))
    ('[1, 2]', 103)
    """
    try:
        text = ascii(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number that a float can hold."""
    if isinstance(value, float):
        return math.isfinite(value)
    # JSON has integers beyond the range of float, which would overflow in arithmetic.
    return _is_integer(value) and abs(value) <= sys.float_info.max


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))
