"""Random files: every one gives clips of the right length, or one error line with its name."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw
from hypothesis.configuration import set_hypothesis_home_dir

from heareval.spec import Recording
from heareval.tasks import audio, decode

# Otherwise hypothesis would write its cache to the checkout.
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

TARGETS = (8000, 44100)
# The same examples in every run, and none of them saved.
COMMON = {
    "derandomize": True,
    "database": None,
    "deadline": 20_000,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
FAST, LONG = 30, int(os.environ.get("HEAREVAL_FUZZ_EXAMPLES", "1000"))
MORE_MEMORY_KB = 150_000

RATES = draw.sampled_from((0, 1, 1000, 16000, 44100, 192000, 768_000, 2**31, 2**32 - 1)) | draw.integers(
    0, 2**32 - 1
)
SHORT = draw.integers(0, 2**16 - 1)
KINDS = draw.sampled_from((1, 3, 6, 7, 0xFFFE, 2, 0x11, 0x55)) | SHORT
NAMES = draw.sampled_from((b"LIST", b"JUNK", b"fact", b"data", b"fmt ", b"PEAK", b"bext", b"ds64", b"id3 "))
# Container -> subtype of small files that libsndfile writes, to be damaged.
OTHERS = {
    "FLAC": "PCM_24",
    "AIFF": "FLOAT",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
    "RF64": "DOUBLE",
    "W64": "PCM_16",
}


@draw.composite
def chunks(pick: draw.DrawFn, name: bytes, content: bytes) -> bytes:
    """A chunk, mostly with the right size in its header."""
    size = pick(
        draw.just(len(content)) | draw.sampled_from((0, 1, 2**31, 2**32 - 1)) | draw.integers(0, 2**32 - 1)
    )
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


@draw.composite
def formats(pick: draw.DrawFn) -> bytes:
    """The fmt chunk of a wav file: mostly possible values, sometimes any number."""
    kind, rate = pick(KINDS), pick(RATES)
    channels = pick(draw.integers(1, 8) | SHORT)
    bits = pick(draw.sampled_from((8, 16, 24, 32, 64)) | SHORT)
    width = pick(draw.just(channels * bits // 8 & 0xFFFF) | SHORT)
    speed = pick(draw.just(rate * width & 0xFFFFFFFF) | draw.integers(0, 2**32 - 1))
    guid = struct.pack("<I", pick(KINDS)) + bytes.fromhex("00001000800000aa00389b71")
    more = struct.pack("<HHI", 22, pick(draw.just(bits) | SHORT), pick(draw.integers(0, 2**32 - 1))) + guid
    more = pick(draw.sampled_from((b"", b"\0\0", more)) | draw.binary(max_size=30))
    return struct.pack("<HHIIHH", kind, channels, rate, speed, width, bits) + more


@draw.composite
def wavs(pick: draw.DrawFn) -> bytes:
    sound = pick(draw.binary(max_size=60)) * pick(draw.integers(1, 200))
    parts = [pick(chunks(b"fmt ", pick(formats()))), pick(chunks(b"data", sound))]
    for name in pick(draw.lists(NAMES, max_size=3)):
        parts.insert(pick(draw.integers(0, len(parts))), pick(chunks(name, pick(draw.binary(max_size=40)))))
    if pick(draw.integers(0, 9)) == 0:
        parts = pick(draw.permutations(parts))
    kind = pick(draw.sampled_from((b"RIFF", b"RIFF", b"RIFF", b"RF64", b"RIFX")))
    return pick(chunks(kind, b"WAVE" + b"".join(parts)))


@draw.composite
def damaged(pick: draw.DrawFn, whole: draw.SearchStrategy[bytes]) -> bytes:
    """A truncated file with some changed bytes, mostly in its header."""
    content = bytearray(pick(whole))
    for _ in range(pick(draw.integers(0, 4)) if content else 0):
        end = min(len(content), pick(draw.sampled_from((64, 2**20))))
        content[pick(draw.integers(0, end - 1))] = pick(draw.integers(0, 255))
    return bytes(content[: pick(draw.just(len(content)) | draw.integers(0, len(content)))])


def other_files(folder: Path) -> list[bytes]:
    sound = np.random.RandomState(0).uniform(-0.9, 0.9, (3000, 2))
    made = []
    for container, subtype in OTHERS.items():
        soundfile.write(folder / "a", sound, 16000, subtype=subtype, format=container)
        made.append((folder / "a").read_bytes())
    return made


def refusal(clip: Recording, folder: Path, duration_s: float | None) -> str:
    """Return the error for a bad file, or ""; any other error fails the test."""
    try:
        audio.prepare_clip(clip, folder, audio.AudioSettings(TARGETS, duration_s))
    except audio.BadAudio as error:
        return str(error)
    return ""


def check(folder: Path, content: bytes, duration_s: float | None) -> None:
    """Prepare a file at two rates, and check the clips, or the error."""
    path = folder / "a.wav"
    path.write_bytes(content)
    targets = {rate: folder / str(rate) / "train/a.wav" for rate in TARGETS}
    for target in targets.values():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Clips are never overwritten, and the example before may have been a good one.
        target.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(Recording(path, "a"), folder, duration_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MORE_MEMORY_KB
    if message:
        assert str(path) in message
        assert len(message) < 2000
        assert "\n" not in message
        assert not any(target.exists() for target in targets.values())
        return
    samples, rate = audio.read_mono(path, 0, lambda rate: -1)
    assert decode.LOWEST_RATE_HZ <= rate <= decode.HIGHEST_RATE_HZ
    frames = len(samples) if duration_s is None else round(duration_s * rate)
    for target_rate, target in targets.items():
        clip = soundfile.info(target)
        expected = (2 * frames * target_rate + rate) // (2 * rate)
        assert (clip.samplerate, clip.subtype, clip.channels) == (target_rate, "PCM_16", 1)
        assert target.stat().st_size == 44 + 2 * expected


DURATIONS = draw.sampled_from((None, 0.1))


@settings(max_examples=FAST, **COMMON)
@given(content=damaged(wavs()), duration_s=DURATIONS)
def test_wav_headers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, duration_s: float | None
) -> None:
    check(tmp_path_factory.getbasetemp(), content, duration_s)


@pytest.mark.slow
@settings(max_examples=LONG, **COMMON)
@given(content=damaged(wavs()), duration_s=DURATIONS)
def test_many_wav_headers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, duration_s: float | None
) -> None:
    check(tmp_path_factory.getbasetemp(), content, duration_s)


@pytest.mark.slow
def test_damaged_files_of_other_kinds(tmp_path: Path) -> None:
    made = other_files(tmp_path)

    @settings(max_examples=LONG, **COMMON)
    @given(content=damaged(draw.sampled_from(made)), duration_s=DURATIONS)
    def run(content: bytes, duration_s: float | None) -> None:
        check(tmp_path, content, duration_s)

    run()
