"""Samples by the measured rules, each judged by ffmpeg itself, and input that is no sound."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from heareval.errors import HearevalError
from heareval.spec import Recording
from heareval.tasks import audio

RATE = 16000


def everything(rate: int) -> int:
    return -1


def noise(channels: int, kind: str) -> np.ndarray:
    draw = np.random.RandomState(channels)
    if kind == "FLOAT":
        return draw.uniform(-1.2, 1.2, (4000, channels))
    return draw.randint(-(2**31), 2**31 - 1, (4000, channels)).astype(np.int32)


@pytest.mark.parametrize(("subtype", "channels"), audio.TO_16_BIT_MONO)
@pytest.mark.parametrize("container", ["wav", "flac"])
def test_lossless_samples_are_those_of_ffmpeg(
    tmp_path: Path, container: str, subtype: str, channels: int
) -> None:
    if container == "flac" and subtype not in ("PCM_16", "PCM_24"):
        pytest.skip("flac holds integers of 16 or 24 bits")
    path = tmp_path / f"a.{container}"
    soundfile.write(path, noise(channels, subtype), RATE, subtype=subtype)
    ours = audio._read_lossless(path, 0, everything, floor=False)
    theirs = audio._read_with_ffmpeg(path, 0, everything)
    assert ours is not None
    assert ours[1] == theirs[1] == RATE
    assert np.array_equal(ours[0], theirs[0])


def test_rules_in_numbers(tmp_path: Path) -> None:
    """Stereo rounds half up, 24 bit mono is cut, float rounds half to even and clips."""
    cases = [
        ("PCM_16", np.array([[1, 2], [-1, -2], [32767, 32767]], np.int16), [2, -1, 32767]),
        ("PCM_24", np.array([[511 << 8], [-1 << 8]], np.int32), [1, -1]),
        ("FLOAT", np.array([[0.5 / 32768], [1.5 / 32768], [-2.0], [2.0]]), [0, 2, -32768, 32767]),
    ]
    for subtype, samples, expected in cases:
        soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
        assert audio.read_mono(tmp_path / "a.wav", 0, everything)[0].tolist() == expected


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "wav"])
def test_what_has_no_rule_goes_through_ffmpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.sin(np.arange(RATE) / 20)[:, None].repeat(3 if suffix == "wav" else 2, 1), RATE)
    samples, rate = audio.read_mono(path, 0, lambda rate: 4000)
    assert (rate, len(samples), samples.dtype) == (RATE, 4000, np.int16)
    assert np.abs(samples).max() > 20000


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
@pytest.mark.parametrize("target", [16000, 22050, 32000, 44100, 48000])
def test_resampling_is_that_of_ffmpeg(tmp_path: Path, rate: int, target: int) -> None:
    samples = np.random.RandomState(rate).randint(-9999, 9999, 5003).astype(np.int16)
    ours = audio.resample(samples, rate, target)
    assert len(ours) == (2 * 5003 * target + rate) // (2 * rate)
    if rate == target:
        assert np.array_equal(ours, samples)
        return
    audio._resample_with_ffmpeg(samples, rate, {target: tmp_path / "a.wav"})
    theirs, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert len(theirs) == len(ours)
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_same_input_same_bytes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, "PCM_16"), 22050, subtype="PCM_16")
    clip = Recording(tmp_path / "a.wav", "a", ("x",))
    digests = []
    for run in ("one", "two"):
        settings = audio.AudioSettings((16000, 48000), 0.3)
        audio.prepare_clips([clip], tmp_path / run, settings, lambda done, total: None)
        written = sorted((tmp_path / run).rglob("*.wav"))
        assert len(written) == 2
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in written])
    assert digests[0] == digests[1]


def test_clip_length_that_is_no_whole_number_of_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, "PCM_16"), 22050, subtype="PCM_16")
    settings = audio.AudioSettings((22050,), 0.81)  # 17860.5 frames, where the reference failed
    audio.prepare_clips(
        [Recording(tmp_path / "a.wav", "a")], tmp_path / "out", settings, lambda done, total: None
    )
    assert soundfile.info(tmp_path / "out/22050/train/a.wav").frames == 17860


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
@pytest.mark.parametrize("frames", [999, 1000, 1001, 4321, 6000])
def test_long_files_in_pieces_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, suffix: str
) -> None:
    """Reading, resampling and writing piece by piece, against all at once."""
    samples = np.random.RandomState(0).randint(-9000, 9000, (frames, 2)).astype(np.int16)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, samples, 44100)
    clip = Recording(path, "a", start_frame=7)
    for duration_s in (None, 0.05, 0.2):
        written = []
        for block in (1 << 20, 1000):
            monkeypatch.setattr(audio, "BLOCK_FRAMES", block)
            out = tmp_path / f"{block}-{duration_s}"
            settings = audio.AudioSettings((16000, 44100, 48000), duration_s)
            audio.prepare_clips([clip], out, settings, lambda done, total: None)
            written.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.wav")})
        assert written[0] == written[1]
        assert len(written[0]) == 3


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_of_a_twenty_minute_file(tmp_path: Path) -> None:
    """Stereo at 48 kHz to three rates in a process of its own."""
    second = np.random.RandomState(0).randint(-9000, 9000, (48000, 2)).astype(np.int16)
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 48000, 2, "PCM_16") as out:
        for _ in range(20 * 60):
            out.write(second)
    code = "import pathlib; from heareval.spec import Recording; from heareval.tasks import audio\n"
    code += "settings = audio.AudioSettings((16000, 44100, 48000), None)\n"
    code += "clips = [Recording(pathlib.Path('a.wav'), 'a')]\n"
    code += "audio.prepare_clips(clips, pathlib.Path('out'), settings, lambda done, total: None)\n"
    code += "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000  # kB
    assert soundfile.info(tmp_path / "out/16000/train/a.wav").frames == 16000 * 1200


def test_stretch_of_a_file(tmp_path: Path) -> None:
    samples = np.arange(1000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    clip = Recording(tmp_path / "a.wav", "a", start_frame=100, frames=50)
    audio.prepare_clip(clip, _folders(tmp_path), audio.AudioSettings((RATE,), None))
    written, _ = soundfile.read(tmp_path / str(RATE) / "train" / "a.wav", dtype="int16")
    assert written.tolist() == samples[100:150].tolist()


@pytest.mark.parametrize("channels", [1, 2])
def test_floor(tmp_path: Path, channels: int) -> None:
    """The gunshots: the channels' mean in single precision, cut down to 16 bit."""
    draw = np.random.RandomState(channels)
    samples = draw.randint(-(2**23), 2**23, (5000, channels))
    samples[:4] = np.array([[-(2**23)], [2**23 - 1], [-1], [255]])
    soundfile.write(tmp_path / "a.wav", (samples << 8).astype(np.int32), RATE, subtype="PCM_24")
    found, _ = audio.read_mono(tmp_path / "a.wav", 0, everything, floor=True)
    mean = (samples / 2**23).astype(np.float32).sum(1, dtype=np.float32) / np.float32(channels)
    expected = [int(np.floor(value * np.float32(32768))) for value in mean]
    assert found.tolist() == expected
    assert expected[:4] == [-32768, 32767, -1, 0]


def _folders(folder: Path) -> Path:
    (folder / str(RATE) / "train").mkdir(parents=True)
    return folder


def test_no_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0, np.int16), RATE, subtype="PCM_16")
    with pytest.raises(HearevalError, match=r"a\.wav: got no samples, expected at least one"):
        audio.read_mono(tmp_path / "a.wav", 0, everything)


def test_not_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(HearevalError, match=r"a\.wav: got ffmpeg: .*expected sound"):
        audio.read_mono(tmp_path / "a.wav", 0, everything)


def test_not_a_number(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(HearevalError, match=r"a\.wav: got NaN or infinity"):
        audio.read_mono(tmp_path / "a.wav", 0, everything)


def test_ffmpeg_is_one_with_soxr() -> None:
    assert audio.engine_version("ffmpeg")
    assert audio.engine_version("soxr")
