"""Check the timestamps that a model returns."""

from __future__ import annotations

import numpy as np


def find_timestamp_fault(times_ms: np.ndarray, duration_ms: float) -> tuple[str, ...]:
    """Return what is wrong with timestamps: got, expected and perhaps a remedy; () if they are right.

    Args:
        times_ms: `(clips, timestamps)`.
        duration_ms: length of the clips.
    """
    if not times_ms.size:
        return "no timestamps", "at least one for a clip"
    if times_ms.dtype.kind not in "iuf":
        return f"timestamps of type {times_ms.dtype}", "numbers"
    if not np.isfinite(times_ms).all() or (np.diff(times_ms, axis=1) <= 0).any():
        return "timestamps that are not increasing numbers", "increasing milliseconds"
    first, last = float(times_ms.min()), float(times_ms.max())
    # The last window may be centred a little before or after the end of the clip, but not at a thousandth.
    if times_ms.shape[1] > 1 and last * 10 < duration_ms:
        return (
            f"a last timestamp of {last:g} for clips of {duration_ms:g} ms",
            "timestamps up to the end of the clip, in milliseconds",
            "They look like seconds: multiply them by 1000.",
        )
    if last > 2 * duration_ms or first < -duration_ms:
        return f"timestamps from {first:g} to {last:g} ms", f"0 to {duration_ms:g} ms"
    return ()
