"""Audio files of every format, odd headers, truncated files and files without audio, compared with ffmpeg."""

from __future__ import annotations

import itertools
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from heareval.spec import Recording
from heareval.tasks import audio, decode
from heareval.tasks.ffmpeg_command import find_ffmpeg

RATE = 16000
LOSSLESS = {"wav": "WAV", "wavex": "WAVEX", "rf64": "RF64", "aiff": "AIFF", "flac": "FLAC", "w64": "W64"}
SUBTYPES = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW")
KINDS = [
    (container, subtype)
    for container, subtype in itertools.product(LOSSLESS, SUBTYPES)
    if soundfile.check_format(LOSSLESS[container], subtype)
]
# File name -> the encoder of ffmpeg.
LOSSY = {
    "a.mp3": "libmp3lame",
    "a.ogg": "libvorbis",
    "a.opus": "libopus",
    "a.m4a": "aac",
    "a.webm": "libopus",
}


def everything(rate: int) -> int:
    return -1


def ffmpeg(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [find_ffmpeg(), "-v", "error", "-y", *words]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def judged(path: Path, out: Path) -> tuple[list[int], int] | None:
    """Return samples and rate by the command of 2021, or None if it fails or finds no samples."""
    done = ffmpeg(
        *("-nostdin", "-i", f"file:{path}", "-map", "0:a", "-f", "wav"),
        *("-ac", "1", "-acodec", "pcm_s16le", str(out)),
    )
    if done.returncode or out.stat().st_size < 46:
        return None
    samples, rate = soundfile.read(out, dtype="int16")
    return samples.tolist(), rate


def ours(path: Path) -> tuple[list[int], int]:
    samples, rate = audio.read_mono(path, 0, everything)
    return samples.tolist(), rate


def ours_or_none(path: Path) -> tuple[list[int], int] | str | None:
    """Return samples and rate, None for an error that names the file, or the text of any other BadAudio."""
    try:
        return ours(path)
    except decode.BadAudio as error:
        return None if path.name in str(error) else str(error)


def write_noise(path: Path, container: str, subtype: str, channels: int, rate: int) -> None:
    draw = np.random.RandomState(channels)
    if subtype in ("FLOAT", "DOUBLE"):
        noise = draw.uniform(-1.2, 1.2, (1000, channels))
    else:
        noise = draw.randint(-(2**31), 2**31 - 1, (1000, channels)).astype(np.int32)
    soundfile.write(path, noise, rate, subtype=subtype, format=LOSSLESS[container])


def written_by_ffmpeg(path: Path, codec: str, channels: int = 2, rate: int = 48000) -> Path:
    times = np.arange(rate) / rate
    tones = np.stack([np.sin(2000 * (each + 1) * times) * 0.5 for each in range(channels)], 1)
    soundfile.write(path.parent / "tones.wav", tones, rate)
    done = ffmpeg("-i", str(path.parent / "tones.wav"), "-acodec", codec, str(path))
    assert not done.returncode, done.stderr
    return path


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_samples_are_those_of_ffmpeg(tmp_path: Path, number: int) -> None:
    """Every format with one number of channels; all numbers of channels occur."""
    path = tmp_path / "a.sound"
    write_noise(path, *KINDS[number], 1 + number % 8, RATE)
    assert ours(path) == judged(path, tmp_path / "judge.wav")


@pytest.mark.slow
@pytest.mark.parametrize("rate", [4000, 8000, 11025, 22050, 44100, 96000, 192000])
@pytest.mark.parametrize("channels", range(1, 9))
def test_samples_of_every_kind_are_those_of_ffmpeg(tmp_path: Path, channels: int, rate: int) -> None:
    for container, subtype in KINDS:
        write_noise(tmp_path / "a.sound", container, subtype, channels, rate)
        found, expected = ours(tmp_path / "a.sound"), judged(tmp_path / "a.sound", tmp_path / "judge.wav")
        assert found == expected, (container, subtype)


def read_with_libsndfile(path: Path) -> list[decode.AudioBlock]:
    """The blocks of a file that libsndfile is chosen for, as far as libsndfile can read it."""
    with decode._open_lossless(path, floor=False) as source:
        assert source is not None
        return list(source.read_blocks(0, source.count_frames(0, everything)))


@pytest.mark.parametrize(("subtype", "channels"), decode.TO_16_BIT_MONO)
@pytest.mark.parametrize("container", ["wav", "wavex", "aiff", "flac"])
def test_what_libsndfile_reads_is_what_ffmpeg_reads(
    tmp_path: Path, container: str, subtype: str, channels: int
) -> None:
    if container in ("aiff", "flac") and subtype not in ("PCM_16", "PCM_24"):
        pytest.skip("the format does not exist, or it is AIFC")
    path = tmp_path / "a.sound"
    write_noise(path, container, subtype, channels, RATE)
    blocks = read_with_libsndfile(path)
    assert [(block.samples.tolist(), block.rate) for block in blocks] == [
        judged(path, tmp_path / "judge.wav")
    ]


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_files(tmp_path: Path, name: str) -> None:
    """Intact and truncated."""
    path = written_by_ffmpeg(tmp_path / name, LOSSY[name])
    whole = path.read_bytes()
    found = ours(path)
    assert len(found[0]) > 40000
    assert found == judged(path, tmp_path / "judge.wav")
    for cut in (len(whole) // 2, 100, 9):
        path.write_bytes(whole[:cut])
        assert ours_or_none(path) == judged(path, tmp_path / "judge.wav")


def test_flac_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where libsndfile fails after some blocks, ffmpeg reads on."""
    monkeypatch.setattr(decode, "BLOCK_FRAMES", 1000)
    path = tmp_path / "a.flac"
    noise = np.random.RandomState(0).randint(-9999, 9999, (40000, 2)).astype(np.int16)
    soundfile.write(path, noise, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read = sum(len(block.samples) for block in read_with_libsndfile(path))
    expected = judged(path, tmp_path / "judge.wav")
    assert expected is not None
    assert 1000 < read < len(expected[0])
    assert ours(path) == expected
    end = len(expected[0]) - 10
    for start, frames in ((0, end), (end - 50, 40), (7, end - 7), (end, 100)):
        found, _ = audio.read_mono(path, start, lambda rate, frames=frames: frames)
        assert found.tolist() == expected[0][start : start + frames]


def test_webm_without_duration(tmp_path: Path) -> None:
    path = written_by_ffmpeg(tmp_path / "a.webm", "libopus")
    piped = ffmpeg("-i", str(path), "-acodec", "copy", "-f", "webm", "pipe:").stdout
    (tmp_path / "b.webm").write_bytes(piped)
    found, _ = audio.read_mono(tmp_path / "b.webm", 100, lambda rate: 30000)
    expected = judged(tmp_path / "b.webm", tmp_path / "judge.wav")
    assert expected is not None
    assert found.tolist() == expected[0][100:30100]


# --------------------------------------------------------------------------- headers

PCM = np.random.RandomState(0).randint(-30000, 30000, 2000).astype("<i2").tobytes()
TEXT = b"LIST" + struct.pack("<I", 16) + b"INFOISFT" + struct.pack("<I", 4) + b"abc\0"


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """Return a chunk, with the given size in its header or the right one."""
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\0" * (len(data) % 2)


def head(kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, more: bytes = b"") -> bytes:
    width = channels * bits // 8
    numbers = (kind, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *numbers) + more)


def extensible(channels: int, bits: int, valid: int, mask: int) -> bytes:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    return head(0xFFFE, channels, bits=bits, more=struct.pack("<HHI", 22, valid, mask) + guid)


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks), size)


PLAIN, STEREO = wav(head(), chunk(b"data", PCM)), wav(head(channels=2), chunk(b"data", PCM))
READABLE = {
    **{f"cut at {cut}": PLAIN[:cut] for cut in (46, 47, 1001, 4043)},
    **{f"stereo cut at {cut}": STEREO[:cut] for cut in (1000, 1001, 1002, 1003)},
    **{
        f"size {size:#x}": wav(head(), chunk(b"data", PCM, size), size=whole)
        for size, whole in itertools.product(
            (0, 1000, 1001, 10000, 0x7FFF0000, 0xFFFFFFFF), (None, 0xFFFFFFFF)
        )
    },
    "streamed, with more behind": wav(head(), chunk(b"data", PCM, 0), TEXT),
    "stereo, size in mid-frame": wav(head(channels=2), chunk(b"data", PCM, 1002)),
    "whole size too small": wav(head(), chunk(b"data", PCM), size=100),
    "chunks before": wav(TEXT, chunk(b"JUNK", bytes(28)), head(), TEXT, chunk(b"data", PCM)),
    "odd chunk before": wav(head(), chunk(b"junk", bytes(27)), chunk(b"data", PCM)),
    "chunks behind": wav(head(), chunk(b"data", PCM), TEXT) + b"garbage",
    "odd 8 bit": wav(head(bits=8), chunk(b"data", PCM[:999]), TEXT),
    "two data chunks": wav(head(), chunk(b"data", PCM), chunk(b"data", PCM[:1000])),
    "empty data chunk first": wav(head(), chunk(b"data", b""), chunk(b"data", PCM)),
    "fact that counts less": wav(head(), chunk(b"fact", struct.pack("<I", 10)), chunk(b"data", PCM)),
    **{
        f"{channels} channels at {mask:#x}": wav(extensible(channels, 16, 16, mask), chunk(b"data", PCM))
        for channels, mask in itertools.product((1, 2), (0, 3, 4, 0xC, 0x60000000))
    },
    **{
        f"{channels} channels, {valid} bits in {bits}": wav(
            extensible(channels, bits, valid, 5 - channels if channels == 1 else 3),
            chunk(b"data", PCM[:3996]),
        )
        for channels, (bits, valid) in itertools.product(
            (1, 2), ((16, 12), (16, 8), (24, 20), (24, 16), (32, 32))
        )
    },
    **{
        f"{bits} bits": wav(
            chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE * 2, (bits + 7) // 8, bits)),
            chunk(b"data", PCM[:3960]),
        )
        for bits in (12, 20)
    },
    "mask in a flac": b"flac",
    "channels of an aiff placed": struct.pack(
        ">4sI8sIhIhHQ4sIIII4sIII",
        *(b"FORM", 4066, b"AIFFCOMM", 18, 2, 1000, 16, 16383 + 13, RATE << 50),
        *(b"CHAN", 12, 1 << 16, 0xC, 0, b"SSND", 4008, 0, 0),
    )
    + PCM,
}
REFUSED = {
    "nothing": (b"", "got ffmpeg: "),
    "half a header": (PLAIN[:30], "got ffmpeg: "),
    "only a header": (PLAIN[:44], "got no samples"),
    "no data": (wav(head()), "got "),
    "no format": (wav(chunk(b"data", PCM)), "got "),
    "zeros": (bytes(5000), "got ffmpeg: "),
    "text": (b"hello", "got ffmpeg: "),
    "list of files": (b"ffconcat version 1.0\nfile good.wav\n", "got ffmpeg: "),
    "playlist": (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.wav\n", "got ffmpeg: "),
    "no channels": (wav(head(channels=0), chunk(b"data", PCM)), "got "),
    "65535 channels": (wav(head(channels=65535), chunk(b"data", PCM)), "got "),
    **{
        f"{rate} Hz": (wav(head(rate=rate, channels=channels), chunk(b"data", PCM)), "got ")
        for rate, channels in itertools.product((0, 1, 999, 768_001, 2**31 - 1, 4 * 10**9), (1, 3))
    },
}


@pytest.mark.parametrize("name", READABLE)
def test_odd_headers_give_the_samples_of_ffmpeg(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(READABLE[name])
    if name == "mask in a flac":
        sound = ("-f", "s16le", "-ar", "16000", "-ch_layout", "FC+LFE", "-i", "pipe:")
        ffmpeg(*sound, "-f", "flac", str(path), given=PCM)
    expected = judged(path, tmp_path / "judge.wav")
    assert expected is not None
    assert ours(path) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_for_what_is_no_sound(tmp_path: Path, name: str) -> None:
    content, got = REFUSED[name]
    (tmp_path / "good.wav").write_bytes(PLAIN)
    (tmp_path / "a.wav").write_bytes(content)
    settings = audio.AudioSettings((RATE, 8000), 1.0)
    with pytest.raises(decode.BadAudio, match=rf"a\.wav: {got}") as caught:
        audio.prepare_clips([Recording(tmp_path / "a.wav", "a")], tmp_path / "out", settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("out/*/*/*"))


@pytest.mark.parametrize(
    ("container", "subtype", "channels", "bad"),
    [
        *(("wav", "FLOAT", 1, np.nan), ("wav", "FLOAT", 2, np.nan), ("wav", "FLOAT", 2, np.inf)),
        *(("wav", "DOUBLE", 1, -np.inf), ("wav", "DOUBLE", 3, np.nan), ("aiff", "FLOAT", 2, np.nan)),
        *(("wavex", "FLOAT", 6, np.inf), ("rf64", "FLOAT", 1, -np.inf)),
    ],
)
def test_numbers_that_are_none(
    tmp_path: Path, container: str, subtype: str, channels: int, bad: float
) -> None:
    path = tmp_path / "a.wav"
    noise = np.random.RandomState(0).uniform(-1, 1, (1000, channels))
    noise[700, 0] = bad
    soundfile.write(path, noise, RATE, subtype=subtype, format=LOSSLESS[container])
    with pytest.raises(decode.BadAudio, match=r"a\.wav: got NaN or infinity, expected finite samples"):
        audio.read_mono(path, 0, everything)
    assert len(audio.read_mono(path, 0, lambda rate: 700)[0]) == 700
    assert len(audio.read_mono(path, 701, everything)[0]) == 299


def test_numbers_that_are_none_in_a_container_of_ffmpeg(tmp_path: Path) -> None:
    noise = np.where(np.arange(1000) == 700, np.nan, 0.5)
    soundfile.write(tmp_path / "a.wav", noise, RATE, subtype="FLOAT")
    for name in ("a.wv", "a.mka", "a.mov"):
        codec = "wavpack" if name == "a.wv" else "pcm_f32le"
        done = ffmpeg("-i", str(tmp_path / "a.wav"), "-acodec", codec, str(tmp_path / name))
        assert not done.returncode, done.stderr
        with pytest.raises(decode.BadAudio, match="got NaN or infinity"):
            audio.read_mono(tmp_path / name, 0, everything)
