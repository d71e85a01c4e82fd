"""Typed values of JSON objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heareval.errors import HearevalError
from heareval.formats.fields import Fields, read_fields

RIGHT: list[tuple[str, Any, Any]] = [
    ("text", "a", "a"),
    ("integer", 3, 3),
    ("number", 3, 3),
    ("number", 0.5, 0.5),
    ("text_or_number", 2, "2"),
    ("text_or_number", "v1", "v1"),
    ("flag", False, False),
    ("texts", ["a", "b"], ("a", "b")),
    ("integers", [1, 2], (1, 2)),
    ("numbers", [1, 0.5], (1, 0.5)),
    ("mapping", {"a": 1}, {"a": 1}),
    ("counts", {"train": 3}, {"train": 3}),
]
WRONG: list[tuple[str, Any, str]] = [
    ("text", 3, "got 3, expected text"),
    ("integer", 3.0, r"got 3\.0, expected a whole number"),
    ("integer", True, "got True, expected a whole number"),
    ("number", "3", "got '3', expected a number"),
    ("number", float("nan"), "got nan, expected a number"),
    ("number", 10**400, r"got 10+\.\.\., expected a number"),
    ("text_or_number", True, "got True, expected text or a number"),
    ("flag", 0, "got 0, expected true or false"),
    ("flag", "true", "got 'true', expected true or false"),
    ("texts", "ab", "got 'ab', expected a list of texts"),
    ("texts", ["a", 1], "expected a list of texts"),
    ("integers", [1, "2"], "expected a list of whole numbers"),
    ("numbers", [float("inf")], "expected a list of numbers"),
    ("mapping", [], r"got \[\], expected an object"),
    ("object", "a", "got 'a', expected an object"),
    ("objects", {"a": {}}, "expected a list of objects"),
    ("objects", [{}, 1], "expected a list of objects"),
    ("counts", {"train": "3"}, "expected an object of whole numbers"),
]


@pytest.mark.parametrize(("method", "value", "expected"), RIGHT)
def test_right_values(method: str, value: Any, expected: Any) -> None:
    assert getattr(Fields("a.json", {"key": value}), method)("key") == expected


@pytest.mark.parametrize(("method", "value", "message"), WRONG)
def test_wrong_values(method: str, value: Any, message: str) -> None:
    fields = Fields("a.json", {"key": value}, "Write it again.")
    with pytest.raises(HearevalError, match=rf"^a\.json: key: .*{message}.* Write it again\.$"):
        getattr(fields, method)("key")


@pytest.mark.parametrize("method", sorted({method for method, *_ in WRONG}))
def test_missing_keys(method: str) -> None:
    read = getattr(Fields("a.json", {"null": None}), method)
    for key, got in (("key", "nothing"), ("null", "null")):
        with pytest.raises(HearevalError, match=f"{key}: got {got}, expected"):
            read(key)
    if method not in ("object", "objects"):
        assert read("key", 7) == 7
        assert read("null", 7) == 7


def test_objects_name_their_place() -> None:
    fields = Fields("a.json", {"form": {"dtype": 3}, "archives": [{"name": "a"}, {"name": 3}]})
    with pytest.raises(HearevalError, match=r"^a\.json: form: dtype: got 3, expected text"):
        fields.object("form").text("dtype")
    first, second = fields.objects("archives")
    assert first.text("name") == "a"
    with pytest.raises(HearevalError, match=r"^a\.json: archives\[1\]: name: got 3, expected text"):
        second.text("name")


def test_known_texts() -> None:
    fields = Fields("a.json", {"kind": "scenes"})
    with pytest.raises(HearevalError, match=r"kind in a\.json: got 'scenes'.* Did you mean scene\?"):
        fields.one_of("kind", ("scene", "event"))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(HearevalError, match=r"a\.json: got no such file, expected a JSON file\. Write it\."):
        read_fields(path, remedy="Write it.")
    path.write_text('{"a": 1}')
    assert read_fields(path).integer("a") == 1
    path.write_text("[1")
    with pytest.raises(HearevalError, match=r"^my file: got Expecting .*, expected JSON"):
        read_fields(path, where="my file")
