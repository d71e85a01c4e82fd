"""Names that TensorFlow Datasets (TFDS) gives its examples, computed without TensorFlow.

TFDS sorts the examples of a split by the MD5 of their key and cuts them into as many shards as
their serialised size asks for. HEAR's clips are named after shard and place, and its folds are
drawn over these names, so they must be exact. Found equal for TFDS 4.4.0 and 4.8.3.
"""

from __future__ import annotations

import hashlib
import re
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np

SHARD_COUNTS = tuple(2**power for power in range(9, 0, -1))
MIN_SHARD_BYTES, MAX_SHARD_BYTES = 1 << 26, 1 << 30
RECORD_OVERHEAD_BYTES = 16  # a TFRecord's length and checksums


def clip_ids(dataset: str, split: str, files: Mapping[str, Path]) -> dict[Path, str]:
    """The clip id of every file of a TFDS split.

    Args:
        dataset: TFDS name, `spoken_digit`.
        split: TFDS name of the split: train, validation or test.
        files: 16-bit wav files by their TFDS key.
    """
    keys = sorted(files, key=lambda key: hashlib.md5((split + key).encode()).digest())
    total = sum(RECORD_OVERHEAD_BYTES + _audio_example_bytes(files[key]) for key in keys)
    shards = shard_count(total, len(keys))
    bounds = [round(len(keys) * shard / shards) for shard in range(shards + 1)]
    ids = {}
    for shard in range(shards):
        for index, key in enumerate(keys[bounds[shard] : bounds[shard + 1]]):
            tfds_id = f"{dataset}-{split}.tfrecord-{shard:05d}-of-{shards:05d}__{index}"
            ids[files[key]] = "tfds_id_" + re.sub("[^a-z0-9]+", "-", tfds_id.lower())
    return ids


def shard_count(total_bytes: int, examples: int) -> int:
    """How many shards TFDS writes for a split of this size.

    >>> shard_count(4_000_000_000, 1000), shard_count(52_000_000, 2500)
    (32, 1)
    """
    low, high = total_bytes // MAX_SHARD_BYTES, total_bytes // MIN_SHARD_BYTES
    fitting = (n for n in SHARD_COUNTS if low <= n <= high and n <= examples)
    return next(fitting, 1)


def _audio_example_bytes(path: Path) -> int:
    with wave.open(str(path)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
    features = {
        "audio": int64_list_bytes(samples),
        "audio/filename": _field_bytes(_field_bytes(len(path.name.encode()))),
        "label": int64_list_bytes(np.zeros(1, np.int16)),
    }
    return example_bytes(features)


def example_bytes(features: Mapping[str, int]) -> int:
    """Serialised size of a `tf.train.Example` from the sizes of its `tf.train.Feature`s."""
    entries = (_field_bytes(len(name.encode())) + _field_bytes(size) for name, size in features.items())
    return _field_bytes(sum(_field_bytes(entry) for entry in entries))


def int64_list_bytes(values: np.ndarray) -> int:
    """Serialised size of a Feature that holds these integers as one packed list of varints.

    A varint spends 7 bits a byte; negative numbers count as 64 bits and always take ten bytes.
    """
    wide = values.astype(np.int64)
    sizes = 1 + (wide >= 1 << 7).astype(np.int64) + (wide >= 1 << 14)
    packed = int(np.where(wide < 0, 10, sizes).sum())
    return _field_bytes(_field_bytes(packed))


def _field_bytes(size: int) -> int:
    """A length-delimited protobuf field: one byte of tag, the length as a varint, the content."""
    return 1 + max(1, (size.bit_length() + 6) // 7) + size
