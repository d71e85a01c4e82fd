"""Compare published models through their adapters with the bare models, and with a plain loop.

python -m benchmarks.adapters --clips 16
python -m benchmarks.adapters --family whisper --clips 16 --seconds 10

Models have random weights and the size of a small published one. All ways are measured in turn in one
process, on the GPU if there is one, with all audio in memory; on a CPU in core-seconds, which other processes
hardly change. The bare model gets what its feature extractor made
beforehand, in the same batches. The plain loop calls the feature extractor and the model clip by clip, as
examples of the library do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from heareval.embeddings.adapters import huggingface

SIZES = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}
WHISPER = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
# Family -> the prefix of its classes, its config, and the prefix of its feature extractor.
FAMILIES = {
    "wav2vec2": ("Wav2Vec2", SIZES, "Wav2Vec2"),
    "wav2vec2-bert": ("Wav2Vec2Bert", SIZES, "SeamlessM4T"),
    "whisper": ("Whisper", {**WHISPER, "decoder_layers": 1}, "Whisper"),
    "audio-spectrogram-transformer": ("AST", SIZES, "AST"),
}
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
RATE = 16000


def save_model(family: str, folder: Path) -> None:
    """Save a model of a family with random weights, and its feature extractor."""
    prefix, sizes, extractor = FAMILIES[family]
    config = getattr(transformers, f"{prefix}Config")(**sizes)
    getattr(transformers, f"{prefix}Model")(config).save_pretrained(folder)
    getattr(transformers, f"{extractor}FeatureExtractor")().save_pretrained(folder)


def measure(ways: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """Return the median seconds of each way, measured in turn after one turn that does not count."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, way in ways.items():
            began = clock()
            way()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - began)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


def compare(family: str, clips: int, duration_s: float, batch: int, turns: int) -> None:
    """Print the seconds of each way, and its ratio to those of the adapter."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(family, Path(folder))
        model = huggingface.load_model(folder).eval().to(DEVICE)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    waves = 0.1 * torch.randn(clips, round(RATE * duration_s), device=DEVICE)

    def extract(part: torch.Tensor) -> dict[str, torch.Tensor]:
        arrays = [wave.cpu().numpy() for wave in part]
        inputs = extractor(arrays, sampling_rate=RATE, return_tensors="pt")
        return {key: each.to(DEVICE) for key, each in inputs.items() if key != "attention_mask"}

    prepared = [extract(part) for part in waves.split(batch)]
    ways: dict[str, Callable[[], Any]] = {
        "heareval": lambda: [
            huggingface.get_timestamp_embeddings(part, model) for part in waves.split(batch)
        ],
        "the bare model": lambda: [model.network(**inputs) for inputs in prepared],
        "a plain loop, clip by clip": lambda: [model.network(**extract(wave[None])) for wave in waves],
    }
    with torch.no_grad():
        seconds = measure(ways, turns)
    print(f"{family}, {clips} clips of {duration_s:g} s in batches of {batch} on {DEVICE}:")  # noqa: T201
    for name, each in seconds.items():
        print(f"  {name}: {each:.3f} s, {each / seconds['heareval']:.2f} x heareval's time")  # noqa: T201


def main() -> None:
    """Compare the families that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=FAMILIES, nargs="*", default=list(FAMILIES))
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    for family in given.family:
        compare(family, given.clips, given.seconds, given.batch, given.turns)


if __name__ == "__main__":
    main()
