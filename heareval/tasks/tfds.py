"""Compute the names that TensorFlow Datasets (TFDS) gives its examples, without TensorFlow.

TFDS sorts the examples of a split by the MD5 of their key and divides them into shards, whose number depends
on their serialised size. HEAR names its clips after the shard and the place in it, and draws folds over these
names, so they must be exact. They were compared with TFDS 4.4.0 and 4.8.3 and found equal.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heareval.errors import HearevalError
from heareval.spec import Recording
from heareval.tasks.sources import read_table

if TYPE_CHECKING:
    import numpy as np

SHARD_COUNTS = tuple(2**power for power in range(9, 0, -1))
MIN_SHARD_BYTES, MAX_SHARD_BYTES = 1 << 26, 1 << 30
RECORD_OVERHEAD_BYTES = 16  # the length and checksums of a TFRecord


def settings(dataset: str, version: str, splits: Sequence[str] = ("train",)) -> dict[str, Any]:
    """Return the keys of task_metadata.json for a corpus that TFDS fetched in 2021."""
    return {"tfds_task_name": dataset, "tfds_task_version": version, "extract_splits": list(splits)}


def small_recordings(folder: Path, split: str) -> Iterator[Recording]:
    """Yield the clips of a downsampled archive, whose files have TFDS ids, with labels from its table."""
    for row in read_table(folder / f"{split}_labels.csv"):
        path = folder / "audio" / row["filename"]
        label = row["label"]
        yield Recording(path, path.stem, (int(label) if label.isdecimal() else label,))


def clip_ids(
    dataset: str, split: str, files: Mapping[str, Path], rate_hz: int, texts: Mapping[str, int] | None = None
) -> dict[Path, str]:
    """Return the clip id of every file of a TFDS split.

    Args:
        dataset: TFDS name, `spoken_digit`.
        split: TFDS name of the split: train, validation or test.
        files: 16-bit mono wav files by their TFDS keys.
        rate_hz: the sample rate that they must have.
        texts: names and lengths in bytes of the texts that an example holds besides audio and label;
            None means the file's name.

    Raises:
        HearevalError: a file has another format.
    """
    keys = sorted(files, key=lambda key: hashlib.md5((split + key).encode()).digest())
    total = sum(RECORD_OVERHEAD_BYTES + _audio_example_bytes(files[key], rate_hz, texts) for key in keys)
    shards = shard_count(total, len(keys))
    bounds = [round(len(keys) * shard / shards) for shard in range(shards + 1)]
    ids = {}
    for shard in range(shards):
        for index, key in enumerate(keys[bounds[shard] : bounds[shard + 1]]):
            tfds_id = f"{dataset}-{split}.tfrecord-{shard:05d}-of-{shards:05d}__{index}"
            ids[files[key]] = "tfds_id_" + re.sub("[^a-z0-9]+", "-", tfds_id.lower())
    return ids


def shard_count(total_bytes: int, examples: int) -> int:
    """Return how many shards TFDS writes for a split of this size.

    >>> shard_count(4_000_000_000, 1000), shard_count(52_000_000, 2500)
    (32, 1)
    """
    low, high = total_bytes // MAX_SHARD_BYTES, total_bytes // MIN_SHARD_BYTES
    possible = (n for n in SHARD_COUNTS if low <= n <= high and n <= examples)
    return next(possible, 1)


def _audio_example_bytes(path: Path, rate_hz: int, texts: Mapping[str, int] | None) -> int:
    import numpy as np
    import soundfile

    with soundfile.SoundFile(path) as sound:
        found = f"{sound.subtype}, {sound.channels} channels, {sound.samplerate} Hz"
        if (sound.subtype, sound.channels, sound.samplerate) != ("PCM_16", 1, rate_hz):
            raise HearevalError(f"sound {path}", got=found, expected=f"PCM_16, 1 channels, {rate_hz} Hz")
        samples = sound.read(dtype="int16")
    texts = {"audio/filename": len(path.name.encode())} if texts is None else texts
    features = {"audio": int64_list_bytes(samples), "label": int64_list_bytes(np.zeros(1, np.int16))}
    features |= {name: _field_bytes(_field_bytes(size)) for name, size in texts.items()}
    return example_bytes(features)


def published_checksums(path: Path) -> dict[str, tuple[str, str]]:
    """Return URL and SHA-256 by file name, from a checksum list of TFDS."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return {row[0].rsplit("/", 1)[-1]: (row[0], row[-1]) for row in rows}


def example_bytes(features: Mapping[str, int]) -> int:
    """Return the serialised size in bytes of a `tf.train.Example`, given those of its `tf.train.Feature`s."""
    entries = (_field_bytes(len(name.encode())) + _field_bytes(size) for name, size in features.items())
    return _field_bytes(sum(_field_bytes(entry) for entry in entries))


def int64_list_bytes(values: np.ndarray) -> int:
    """Return the serialised size in bytes of a Feature with these integers, a packed list of varints.

    A varint holds 7 bits per byte. Negative numbers count as 64 bits, so they take ten bytes.

    >>> import numpy as np
    >>> int64_list_bytes(np.array([1, -1], np.int16))
    15
    """
    import numpy as np

    wide = values.astype(np.int64)
    sizes = 1 + (wide >= 1 << 7).astype(np.int64) + (wide >= 1 << 14)
    packed = int(np.where(wide < 0, 10, sizes).sum())
    return _field_bytes(_field_bytes(packed))


def _field_bytes(size: int) -> int:
    """Return the size of a length-delimited protobuf field: tag byte, length as a varint, content."""
    return 1 + max(1, (size.bit_length() + 6) // 7) + size


def draw_sets(speakers: Iterable[str]) -> dict[str, Sequence[str]]:
    """Return the speakers that TFDS draws for the splits of crema_d.

    >>> [len(members) for members in draw_sets(map(str, range(1001, 1092))).values()]
    [63, 9, 19]
    """
    import numpy as np

    names = sorted(speakers)
    np.random.RandomState(0).shuffle(names)
    # As in TFDS: in floating point, 0.7 + 0.1 is slightly less than 0.8.
    first, second = int(0.7 * len(names)), int((0.7 + 0.1) * len(names))
    return {"train": names[:first], "validation": names[first:second], "test": names[second:]}
