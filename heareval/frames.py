"""Rows of values as a pandas.DataFrame, for those who have pandas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from heareval.errors import HearevalError

if TYPE_CHECKING:
    import pandas


def make_frame(rows: Sequence[Mapping[str, Any]], what: str, *, numbers: Sequence[str]) -> pandas.DataFrame:
    """Return rows as a pandas.DataFrame.

    Args:
        rows: mappings with the same keys, which name the columns.
        what: the function that a user has called, such as `Results.to_frame`.
        numbers: the columns of numbers, in which None becomes NaN and "inf" infinity.

    Raises:
        HearevalError: pandas is not installed.
    """
    try:
        # Not needed for anything else.
        import pandas
    except ImportError as error:
        raise HearevalError(
            what,
            got=f"no pandas ({error})",
            expected="pandas to be installed",
            remedy="Install it with `pip install 'heareval[pandas]'`, or use to_dicts().",
        ) from error
    # A column in which every number is undefined would not be one of numbers otherwise.
    return pandas.DataFrame(rows).astype(dict.fromkeys(numbers, float) if rows else {})
