"""How fast a model embeds clips, and how large its embeddings are: measured on noise, in its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval.embeddings.embed import BATCH_SAMPLES
from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.submission import Model


@dataclass(frozen=True)
class MeasuredLength:
    """What embedding clips of one length took.

    Args:
        duration_s: length of the clips, in seconds.
        clips: clips of a batch.
        batches: number of batches that were timed.
        seconds: what these took, in seconds.
        shape: of the embeddings of one clip, `(size,)` or `(timestamps, size)`.
    """

    duration_s: float
    clips: int
    batches: int
    seconds: float
    shape: tuple[int, ...]

    @property
    def speed(self) -> float:
        """Seconds of sound that are embedded in a second."""
        return self.duration_s * self.clips * self.batches / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Measurement:
    """What a model took to embed noise.

    Args:
        embedding_type: `scene` or `event`.
        device: `cpu` or `cuda`, on which it ran.
        load_s: what loading it took, in seconds.
        lengths: the lengths that there was time for, at least one.
    """

    embedding_type: str
    device: str
    load_s: float
    lengths: tuple[MeasuredLength, ...]

    def find_nearest(self, duration_s: float) -> MeasuredLength:
        """Return the measured length that is nearest to a length in seconds."""
        return min(self.lengths, key=lambda each: abs(each.duration_s - duration_s))

    def estimate_seconds(self, clips: int, duration_s: float) -> float:
        """Return about how long embedding some clips of a length takes, with loading, in seconds."""
        return self.load_s + clips * duration_s / self.find_nearest(duration_s).speed

    def count_timestamps(self, duration_s: float) -> int:
        """Return about how many timestamps a clip of a length has; 1 for scene embeddings."""
        nearest = self.find_nearest(duration_s)
        if self.embedding_type == "scene":
            return 1
        return max(1, round(nearest.shape[0] * duration_s / nearest.duration_s))

    @property
    def size(self) -> int:
        """Length of an embedding."""
        return self.lengths[0].shape[-1]

    def __str__(self) -> str:
        by_batches: dict[int, list[str]] = {}
        for each in self.lengths:
            clips = "1 clip" if each.clips == 1 else f"{each.clips} clips"
            by_batches.setdefault(each.batches, []).append(f"{clips} of {_format_number(each.duration_s)} s")
        timed = "; ".join(
            f"{count} {'batch' if count == 1 else 'batches'} of {', '.join(clips)}"
            for count, clips in by_batches.items()
        )
        low, high = (_format_number(end(each.speed for each in self.lengths)) for end in (min, max))
        speed = low if low == high else f"{low} to {high}"
        return f"{speed} s of sound per second on {self.device}, measured with {timed}"


def _format_number(number: float) -> str:
    """Return a number with three significant digits and without an exponent.

    >>> _format_number(1123.4), _format_number(52.04), _format_number(2.0), _format_number(3456789.0)
    ('1,120', '52', '2', '3,460,000')
    """
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def measure_model(
    model: Model,
    embedding_type: str,
    durations_s: Sequence[float],
    folder: Path,
    *,
    embedding_format: EmbeddingFormat,
    budget_s: float,
    device: str,
    variables: Mapping[str, str],
    silence_s: float | None,
) -> Measurement:
    """Load a model in its own process, and measure how it embeds noise; nothing is kept.

    Args:
        model: the model.
        embedding_type: `scene` or `event`.
        durations_s: lengths of clips in seconds, the most important one first.
        folder: where the output of its process goes.
        embedding_format: how embeddings are computed.
        budget_s: about how long it may take, in seconds, besides loading.
        device: `auto`, `cpu` or `cuda`.
        variables: further environment variables of its process.
        silence_s: its process is killed if it takes longer than this, in seconds; None = no limit.

    Raises:
        HearevalError: the model failed.
    """
    job = {
        "do": "measure",
        "device": device,
        **asdict(embedding_format.for_task(embedding_type)),
        "embedding_type": embedding_type,
        "batch_samples": BATCH_SAMPLES,
        "durations_s": list(durations_s),
        "budget_s": budget_s,
    }
    log = folder / f"measure-{embedding_type}.log"
    facts = model.run(job, log, variables=variables, silence_s=silence_s)
    return Measurement(
        embedding_type,
        facts["device"],
        facts["load_s"],
        tuple(map(_read_length, facts["measured"])),
    )


def _read_length(facts: Mapping[str, Any]) -> MeasuredLength:
    return MeasuredLength(**{**facts, "shape": tuple(facts["shape"])})
