"""How embeddings are computed and stored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from heareval.errors import HearevalError, unknown_name
from heareval.spec import EMBEDDING_DTYPES

# How embeddings may be computed; predictors always work in float32.
PRECISIONS = ("float32", "tf32", "bf16")


@dataclass(frozen=True)
class EmbeddingFormat:
    """Settings that change embeddings, besides the model and the clips.

    Results record whatever differs from the default.

    Args:
        dtype: how embeddings are stored, one of EMBEDDING_DTYPES.
        precision: how embeddings are computed, one of PRECISIONS.
        chunk_s: clips longer than this many seconds are embedded in chunks of that length, for timestamp
            embeddings only; 0 = never.
        resampled_from_hz: rate of the task's clips that are resampled for the model; 0 = none are.
    """

    dtype: str = EMBEDDING_DTYPES[0]
    precision: str = PRECISIONS[0]
    chunk_s: float = 0.0
    resampled_from_hz: int = 0

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("dtype", self.dtype, EMBEDDING_DTYPES),
            ("precision", self.precision, PRECISIONS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)
        if not 0 <= self.chunk_s < math.inf:
            raise HearevalError("chunk_s", got=str(self.chunk_s), expected="0 or more seconds")

    def for_task(self, embedding_type: str) -> EmbeddingFormat:
        """Return the settings that matter to a task: scene embeddings are never computed in chunks.

        >>> EmbeddingFormat(chunk_s=60.0).for_task("scene") == DEFAULT_FORMAT
        True
        """
        return self if embedding_type == "event" else replace(self, chunk_s=0.0)

    def for_rates(self, sample_rate: int, source_rate: int) -> EmbeddingFormat:
        """Return the settings for a model at one rate, and clips at the same or another one, in Hz.

        >>> DEFAULT_FORMAT.for_rates(24000, 44100).resampled_from_hz
        44100
        """
        return replace(self, resampled_from_hz=source_rate if source_rate != sample_rate else 0)

    @property
    def for_fingerprint(self) -> dict[str, Any]:
        """The settings as a fingerprint holds them: what earlier releases did not have only if it is used."""
        settings = asdict(self)
        if not self.resampled_from_hz:
            del settings["resampled_from_hz"]
        return settings

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that differ from the default.

        >>> EmbeddingFormat(dtype="float16").changes
        {'dtype': 'float16'}
        """
        return {key: value for key, value in asdict(self).items() if value != getattr(DEFAULT_FORMAT, key)}


DEFAULT_FORMAT = EmbeddingFormat()
