"""Any JSON value in any place of a document, for readers that must never raise anything but HearevalError."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["../x", "/etc", "a/b", "", ".", "\0", "\ud800", "x" * 300, "task_metadata", "scene"]),
)
JSON_VALUES = st.recursive(
    LEAVES,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=6,
)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a JSON document."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from paths_in(child, (*path, key))


def with_value_at(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a JSON document with another value at a path."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


def damaged(document: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the document with any JSON value in any one place."""
    return st.builds(with_value_at, st.just(document), st.sampled_from([*paths_in(document)]), JSON_VALUES)
