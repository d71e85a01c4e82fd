"""Clips with any header that libsndfile takes: soundfile is the slow judge of every one."""

from __future__ import annotations

import os
import random
import struct
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np
import pytest
import soundfile

from heareval.embeddings.inside.errors import SubmissionError
from heareval.embeddings.inside.reading import ClipBlock, read_block, read_length
from heareval.tasks.audio import write_wav

RATE = 16000
SAMPLES = np.random.RandomState(0).randint(-32768, 32768, 1000).astype(np.int16)
PCM = SAMPLES.tobytes()
GUID = struct.pack("<H", 1) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
PLAIN = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
LONGER = PLAIN + b"\0\0"
EXTENSIBLE = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4) + GUID
UNKNOWN_PLACE = EXTENSIBLE[:20] + bytes(4) + EXTENSIBLE[24:]
LISTED = b"INFOISFT\x05\0\0\0made\0\0"


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    padding = b"\0" * (len(content) % 2)
    return name + struct.pack("<I", len(content) if size is None else size) + content + padding


def wav(*chunks: bytes, magic: bytes = b"RIFF", size: int | None = None) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


FORMAT, DATA, LIST = chunk(b"fmt ", PLAIN), chunk(b"data", PCM), chunk(b"LIST", LISTED)
DS64 = chunk(b"ds64", struct.pack("<QQQI", 5000, len(PCM), len(SAMPLES), 0))
GOOD = {
    "as heareval writes it": wav(FORMAT, DATA),
    "a longer format": wav(chunk(b"fmt ", LONGER), DATA),
    "extensible": wav(chunk(b"fmt ", EXTENSIBLE), chunk(b"fact", bytes(4)), DATA),
    "extensible without a place": wav(chunk(b"fmt ", UNKNOWN_PLACE), DATA),
    "a list before the format": wav(LIST, FORMAT, DATA),
    "a list before the samples": wav(FORMAT, LIST, DATA),
    "a list behind the samples": wav(FORMAT, DATA, LIST),
    "an odd chunk before the samples": wav(FORMAT, chunk(b"note", b"odd"), DATA),
    "an odd chunk behind the samples": wav(FORMAT, DATA, chunk(b"note", b"odd")),
    "open size": wav(FORMAT, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
    "open size of sox": wav(FORMAT, chunk(b"data", PCM, 0x7FFFF000 - 36), size=0x7FFFF000),
    "open size 0": wav(FORMAT, chunk(b"data", PCM, 0), size=0),
    "open size behind a list": wav(FORMAT, LIST, chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
    "open size 0 and extensible": wav(chunk(b"fmt ", EXTENSIBLE), chunk(b"data", PCM, 0), size=60),
    "open size and extensible": wav(chunk(b"fmt ", EXTENSIBLE), chunk(b"data", PCM, 0xFFFFFFFF)),
    "a wrong size of the whole": wav(FORMAT, DATA, size=7),
    "RF64": wav(DS64, FORMAT, chunk(b"data", PCM, 0xFFFFFFFF), LIST, magic=b"RF64", size=0xFFFFFFFF),
    "half a sample at the end": wav(FORMAT, chunk(b"data", PCM + b"\7")),
    "half a sample at an open end": wav(FORMAT, chunk(b"data", PCM, 0xFFFFFFFF)) + b"\7",
}


def read(path: Path) -> np.ndarray:
    frames = read_length(str(path), RATE)
    return read_block(ClipBlock("a", [0], [str(path)], frames))[0]


@pytest.mark.parametrize("name", GOOD)
def test_reads_what_libsndfile_reads(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(GOOD[name])
    np.testing.assert_array_equal(read(path), SAMPLES.astype(np.float32) / 32768)
    # An open size of 0 is read by ffmpeg only.
    if "open size 0" not in name:
        np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], read(path))


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_16"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16")])
def test_reads_what_libsndfile_writes(tmp_path: Path, format: str, subtype: str) -> None:
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, subtype, format=format) as file:
        file.title, file.comment = "a title of odd length", "a comment"
        file.write(SAMPLES)
    np.testing.assert_array_equal(read(path), SAMPLES.astype(np.float32) / 32768)


def test_our_own_header(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", SAMPLES, RATE)
    assert (tmp_path / "a.wav").read_bytes() == GOOD["as heareval writes it"]


FLOAT = chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32))
STEREO = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, RATE, 4 * RATE, 4, 16))
OTHER_GUID = chunk(b"fmt ", EXTENSIBLE[:24] + struct.pack("<H", 3) + EXTENSIBLE[26:])
BAD = {
    "got 600 samples, where its header says 1000": wav(FORMAT, DATA)[:1244],
    "got 600 samples, where its header says 1000,": wav(FORMAT, LIST, DATA)[: 1244 + len(LIST)],
    "got no samples, expected at least one": wav(FORMAT, chunk(b"data", b"")),
    "got no samples, expected at least one.": wav(FORMAT, chunk(b"data", b""), LIST),
    "got a header without a 'data' chunk,": wav(DATA, FORMAT),
    "got a header without a 'fmt ' chunk": wav(DATA, LIST),
    "got a header without a 'data' chunk": wav(FORMAT, LIST),
    "got a 'fmt ' chunk that is cut off": wav(FORMAT)[:30],
    "got samples of format 3, with 1 channels of 32 bits": wav(FLOAT, DATA),
    "got samples of format 3, with 1 channels of 16 bits": wav(OTHER_GUID, DATA),
    "got 2 channels, 2 bytes a sample, 16000 Hz, expected 1 channel": wav(STEREO, DATA),
    "got a file that begins with b'fLaC": b"fLaC" + bytes(100),
    "got a file that begins with b'RIFX": wav(FORMAT, DATA, magic=b"RIFX"),
    "got a file that begins with b''": b"",
}


@pytest.mark.parametrize("error", BAD)
def test_names_the_fault_of_a_header(tmp_path: Path, error: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(BAD[error])
    with pytest.raises(SubmissionError) as caught:
        read(path)
    facts = caught.value.facts
    told = f"got {facts['got']}, expected {facts['expected']}"
    assert facts["what"] == f"clip {path}"
    assert told.startswith(error.rstrip(".,"))


def test_a_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(SubmissionError, match="not a regular file"):
        read(tmp_path / "a.wav")


def test_a_clip_of_a_task_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    """As on NFS, where the folder has no name for a moment."""
    clip = tmp_path / "task" / "16000" / "train" / "a.wav"
    clip.parent.mkdir(parents=True)
    write_wav(clip, np.zeros(100, np.int16), RATE)
    (tmp_path / "task").rename(tmp_path / "old")
    with ThreadPoolExecutor() as pool:
        length = pool.submit(read_length, str(clip), RATE)
        with pytest.raises(FutureTimeoutError):
            length.result(0.05)
        (tmp_path / "old").rename(tmp_path / "task")
        assert length.result() == 100
    clip.unlink()
    with pytest.raises(SubmissionError, match="No such file"):
        read_length(str(clip), RATE)


def test_damaged_headers_give_samples_of_libsndfile_or_an_error(tmp_path: Path) -> None:
    """Whatever byte of a header is damaged, no clip is read in another way than by libsndfile."""
    draw, path, agreed = random.Random(0), tmp_path / "a.wav", 0
    names = [name for name in GOOD if "open size 0" not in name]
    for _ in range(400):
        content = bytearray(GOOD[draw.choice(names)])
        content[draw.randrange(60)] = draw.choice((0, 1, 255, draw.randrange(256)))
        path.write_bytes(content)
        try:
            found = read(path)
            expected, _ = soundfile.read(path, dtype="float32")
        except (SubmissionError, soundfile.LibsndfileError):
            continue
        np.testing.assert_array_equal(found, expected)
        agreed += 1
    assert agreed > 100
