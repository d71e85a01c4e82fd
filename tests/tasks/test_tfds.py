"""TFDS ids without TFDS: sizes compared with serialised examples, order and shards with hand-made cases."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.tasks import tfds
from heareval.tasks.audio import write_wav


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(content: bytes) -> bytes:
    return b"\x0a" + varint(len(content)) + content


def test_sizes_are_those_of_the_serialised_bytes() -> None:
    draw = np.random.RandomState(0)
    for values in (
        np.zeros(1),
        draw.randint(-32768, 32768, 3000),
        np.array([127, 128, 16383, 16384, 32767, -1]),
    ):
        packed = b"".join(varint(int(value)) for value in values)
        assert tfds.int64_list_bytes(values.astype(np.int16)) == len(field(field(packed)))
    feature = field(field(b"some name.wav"))
    entry = field(b"audio/filename") + field(feature)
    assert tfds.example_bytes({"audio/filename": len(feature)}) == len(field(field(entry)))


def test_ids_follow_the_hash_of_the_keys(tmp_path: Path) -> None:
    files = {}
    for key in ("0_theo_1", "3_jackson_0", "9_yweweler_12"):
        files[key] = tmp_path / f"{key}.wav"
        write_wav(files[key], np.ones(10, np.int16), 8000)
    ids = tfds.clip_ids("spoken_digit", "train", files, 8000)
    by_hash = sorted(files, key=lambda key: hashlib.md5(f"train{key}".encode()).hexdigest())
    expected = [f"tfds_id_spoken-digit-train-tfrecord-00000-of-00001-{i}" for i in range(3)]
    assert [ids[files[key]] for key in by_hash] == expected


def test_shard_counts() -> None:
    """A power of two, with at most one shard per 64 MiB and at least one per GiB."""
    assert tfds.shard_count(127 << 20, 1000) == 1
    assert tfds.shard_count(128 << 20, 1000) == 2
    assert tfds.shard_count(4_000_000_000, 1000) == 32
    assert tfds.shard_count(4_000_000_000, 20) == 16
    assert tfds.shard_count(1 << 45, 10) == 1


def test_ids_of_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten negative samples take 100 bytes: four shards, whose bounds come from Python's round."""
    monkeypatch.setattr(tfds, "MIN_SHARD_BYTES", 300)
    files = {f"{n}.wav": tmp_path / f"{n}.wav" for n in range(10)}
    for path in files.values():
        write_wav(path, np.full(10, -1, np.int16), 22050)
    ids = tfds.clip_ids("gtzan", "train", files, 22050)
    shards = [clip_id.removeprefix("tfds_id_gtzan-train-tfrecord-") for clip_id in ids.values()]
    expected = {0: 2, 1: 3, 2: 3, 3: 2}
    assert shards == [f"{s:05d}-of-00004-{i}" for s, count in expected.items() for i in range(count)]


def test_sounds_that_tfds_would_have_changed(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.ones(10, np.int16), 8000)
    with pytest.raises(HearevalError, match=r"a\.wav: got PCM_16, 1 channels, 8000 Hz, expected .*16000 Hz"):
        tfds.clip_ids("crema_d", "train", {"a": tmp_path / "a.wav"}, 16000)


def test_published_checksums(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text("# x\nhttp://a/b/c.wav 12 ab\n\nhttp://a/d.csv\t3\tcd\n")
    assert tfds.published_checksums(tmp_path / "sums") == {
        "c.wav": ("http://a/b/c.wav", "ab"),
        "d.csv": ("http://a/d.csv", "cd"),
    }
