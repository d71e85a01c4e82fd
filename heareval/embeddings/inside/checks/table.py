"""All checks, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from heareval.embeddings.inside.checks import api, long_audio, reload, robustness, timestamps, values
from heareval.embeddings.inside.checks.subject import CheckOutcome, Subject


@dataclass(frozen=True)
class Check:
    """A check.

    Args:
        run: runs it.
        needs: checks without which its outcome would mean nothing.
        embedding_type: the type of embeddings that it is about; "" = all that the submission has.
    """

    run: Callable[[Subject], CheckOutcome]
    needs: tuple[str, ...] = ()
    embedding_type: str = ""


CHECKS: dict[str, Check] = {
    "functions": Check(api.check_functions),
    "weights": Check(api.check_weights, ("functions",)),
    "model": Check(api.check_model, ("weights",)),
    "attributes": Check(api.check_attributes, ("model",)),
    "sample rate": Check(api.check_sample_rate, ("attributes",)),
    "embeddings": Check(api.check_embeddings, ("sample rate",)),
    "types": Check(api.check_types, ("embeddings",)),
    "device": Check(api.check_device, ("types",)),
    "scene shape": Check(api.check_scene_shape, ("device",), "scene"),
    "timestamp shape": Check(api.check_timestamp_shape, ("scene shape",), "event"),
    "finite": Check(robustness.check_finite, ("scene shape", "timestamp shape")),
    "silence": Check(robustness.check_silence, ("finite",)),
    "clipping": Check(robustness.check_clipping, ("finite",)),
    "short audio": Check(robustness.check_short_audio, ("finite",)),
    "input": Check(values.check_input, ("finite",)),
    "determinism": Check(values.check_determinism, ("finite",)),
    "dimensions": Check(values.check_dimensions, ("determinism",)),
    "reload": Check(reload.check_reload, ("determinism",)),
    "order": Check(values.check_order, ("determinism",)),
    "batch": Check(values.check_batch, ("order",)),
    "increasing": Check(timestamps.check_increasing, ("finite",), "event"),
    "milliseconds": Check(timestamps.check_milliseconds, ("increasing",), "event"),
    "regular": Check(timestamps.check_regular, ("increasing",), "event"),
    "inside": Check(timestamps.check_inside, ("milliseconds",), "event"),
    "coverage": Check(timestamps.check_coverage, ("inside", "regular"), "event"),
    "hop": Check(timestamps.check_hop, ("milliseconds", "regular"), "event"),
    "centring": Check(timestamps.check_centring, ("coverage", "determinism"), "event"),
    "long audio": Check(long_audio.check_long_audio, ("finite",)),
    "drift": Check(timestamps.check_drift, ("long audio", "coverage"), "event"),
    "memory": Check(long_audio.check_memory, ("long audio",)),
    "speed": Check(long_audio.check_speed, ("long audio",)),
}
