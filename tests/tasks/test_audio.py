"""Samples compared with those of ffmpeg, resampling, writing clips, and files that are not audio."""

from __future__ import annotations

import hashlib
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import soxr

from heareval.errors import HearevalError
from heareval.resampling import QUALITY, Resampler, ResamplerPool, resample
from heareval.spec import ENGINES, Recording
from heareval.tasks import audio, decode, ffmpeg_command
from heareval.tasks.ffmpeg_command import find_ffmpeg
from tests.disks import small_disk

RATE = 16000


def everything(rate: int) -> int:
    return -1


def noise() -> np.ndarray:
    return np.random.RandomState(1).randint(-(2**31), 2**31 - 1, (4000, 1)).astype(np.int32)


def test_rules_in_numbers(tmp_path: Path) -> None:
    """Stereo rounds half up, 24-bit mono is truncated, float rounds half to even and clips."""
    cases = [
        ("PCM_16", np.array([[1, 2], [-1, -2], [32767, 32767]], np.int16), [2, -1, 32767]),
        ("PCM_24", np.array([[511 << 8], [-1 << 8]], np.int32), [1, -1]),
        ("FLOAT", np.array([[0.5 / 32768], [1.5 / 32768], [-2.0], [2.0]]), [0, 2, -32768, 32767]),
    ]
    for subtype, samples, expected in cases:
        soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
        assert audio.read_mono(tmp_path / "a.wav", 0, everything)[0].tolist() == expected


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "wav"])
def test_other_formats_go_through_ffmpeg(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.sin(np.arange(RATE) / 20)[:, None].repeat(3 if suffix == "wav" else 2, 1), RATE)
    samples, rate = audio.read_mono(path, 0, lambda rate: 4000)
    assert (rate, len(samples), samples.dtype) == (RATE, 4000, np.int16)
    assert np.abs(samples).max() > 20000


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 44100, 96000, 192000])
@pytest.mark.parametrize("target", [16000, 22050, 32000, 44100, 48000])
def test_resampling_is_that_of_ffmpeg(tmp_path: Path, rate: int, target: int) -> None:
    """Both engines, compared with the command of 2021."""
    samples = np.random.RandomState(rate).randint(-9999, 9999, 5003).astype(np.int16)
    audio.write_wav(tmp_path / "a.wav", samples, rate)
    words = ["-filter_complex", "[0]aresample=resampler=soxr[s0]", "-map", "[s0]", "-ar", str(target)]
    command = [find_ffmpeg(), "-v", "error", "-i", "a.wav", *words, "judge.wav"]
    subprocess.run(command, cwd=tmp_path, check=True)
    expected, _ = soundfile.read(tmp_path / "judge.wav", dtype="int16")
    for engine in ENGINES:
        settings = audio.AudioSettings((target,), None, engine)
        audio.prepare_clips([Recording(tmp_path / "a.wav", "a")], tmp_path / engine, settings)
        found, _ = soundfile.read(tmp_path / engine / str(target) / "train/a.wav", dtype="int16")
        assert len(found) == len(expected) == (2 * 5003 * target + rate) // (2 * rate)
        assert np.abs(found.astype(int) - expected).max() <= (2 if rate != target else 0)


def test_interleaved_sounds_do_not_mix() -> None:
    """Two sounds at the same two rates, resampled block by block in turns, against soxr on each alone."""
    draw = np.random.RandomState(0)
    loud, quiet = (draw.randint(-top, top, 5000).astype(np.int16) for top in (32000, 90))
    pool, found = ResamplerPool(), {}
    with pool.borrow(44100, 16000) as one, pool.borrow(44100, 16000) as other:
        pairs = [(one, loud), (other, quiet)]
        for start in range(0, 5000, 1000):
            for number, (resampler, sound) in enumerate(pairs):
                block = resampler.convert(sound[start : start + 1000], start == 4000)
                found.setdefault(number, []).append(block)
    for number, sound in enumerate((loud, quiet)):
        alone = soxr.resample(sound.astype(np.float32), 44100, 16000, quality=QUALITY)
        assert np.array_equal(np.concatenate(found[number]), np.rint(alone).astype(np.int16))


def test_a_resampler_forgets_the_previous_sound() -> None:
    """The pool lends the same resampler again, also after a sound that was given up in the middle."""
    draw = np.random.RandomState(0)
    loud, quiet = (draw.randint(-top, top, 5000).astype(np.int16) for top in (32000, 90))
    pool = ResamplerPool()
    with pool.borrow(44100, 16000) as first:
        first.convert(loud, False)
    with pool.borrow(44100, 16000) as second:
        assert second is first
        assert np.array_equal(second.convert(quiet, True), resample(quiet, 44100, 16000))


def test_a_pool_keeps_a_bounded_number_of_resamplers() -> None:
    pool = ResamplerPool()
    for rate in range(8000, 8100):
        with pool.borrow(rate, 16000) as resampler:
            assert isinstance(resampler, Resampler)
    assert [resampler.rate for resampler in pool._idle] == list(range(8084, 8100))


def test_same_input_same_bytes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), 22050, subtype="PCM_16")
    clip = Recording(tmp_path / "a.wav", "a", ("x",))
    digests = []
    for run in ("one", "two"):
        settings = audio.AudioSettings((16000, 48000), 0.3)
        audio.prepare_clips([clip], tmp_path / run, settings)
        written = sorted((tmp_path / run).rglob("*.wav"))
        assert len(written) == 2
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in written])
    assert digests[0] == digests[1]


def test_clip_length_that_is_no_whole_number_of_frames(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(), 22050, subtype="PCM_16")
    settings = audio.AudioSettings((22050,), 0.81)  # 17860.5 frames, where the reference failed
    audio.prepare_clips([Recording(tmp_path / "a.wav", "a")], tmp_path / "out", settings)
    assert soundfile.info(tmp_path / "out/22050/train/a.wav").frames == 17860


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
@pytest.mark.parametrize("frames", [999, 1000, 1001, 4321, 6000])
def test_long_files_in_pieces_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, suffix: str
) -> None:
    """Reading, resampling and writing block by block, compared with all at once."""
    samples = np.random.RandomState(0).randint(-9000, 9000, (frames, 2)).astype(np.int16)
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, samples, 44100)
    clip = Recording(path, "a", start_frame=7)
    for duration_s in (None, 0.05, 0.2):
        written = []
        for block in (1 << 20, 1000):
            monkeypatch.setattr(audio, "BLOCK_FRAMES", block)
            monkeypatch.setattr(decode, "BLOCK_FRAMES", block)
            out = tmp_path / f"{block}-{duration_s}"
            settings = audio.AudioSettings((16000, 44100, 48000), duration_s)
            audio.prepare_clips([clip], out, settings)
            written.append({str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*.wav")})
        assert written[0] == written[1]
        assert len(written[0]) == 3


PREPARE = """
import pathlib, sys
from heareval.spec import Recording
from heareval.tasks import audio, decode
name, engine, duration = sys.argv[1:]
settings = audio.AudioSettings((16000, 44100, 48000), float(duration) or None, engine)
clips = [Recording(pathlib.Path(name), "a")]
audio.prepare_clips(clips, pathlib.Path("out"), settings)
print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def peak_kb(folder: Path, name: str, engine: str, duration_s: float = 0) -> int:
    """Return the peak memory in kB of a process that prepares a file."""
    command = [sys.executable, "-c", PREPARE, name, engine, str(duration_s)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert soundfile.info(folder / "out/16000/train/a.wav").frames == 16000 * 1200
    return int(done.stdout)


def write_twenty_minutes(path: Path, rate: int) -> None:
    second = np.random.RandomState(0).randint(-9000, 9000, (rate, 2)).astype(np.int16)
    with soundfile.SoundFile(path, "w", rate, 2, "PCM_16") as out:
        for _ in range(20 * 60):
            out.write(second)


reads_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc"
)


@reads_proc
def test_memory_of_a_twenty_minute_file(tmp_path: Path) -> None:
    """Stereo at 48 kHz to three rates in a process of its own."""
    write_twenty_minutes(tmp_path / "a.wav", 48000)
    assert peak_kb(tmp_path, "a.wav", "soxr") < 150_000


@reads_proc
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rate", "suffix"), [(4000, "wav"), (192000, "wav"), (48000, "mp3"), (48000, "webm")]
)
def test_memory_of_other_twenty_minute_files(tmp_path: Path, rate: int, suffix: str, engine: str) -> None:
    write_twenty_minutes(tmp_path / "a.wav", rate)
    if suffix != "wav":
        command = [find_ffmpeg(), "-v", "error", "-i", "a.wav", f"a.{suffix}"]
        subprocess.run(command, cwd=tmp_path, check=True)
    assert peak_kb(tmp_path, f"a.{suffix}", engine, 1200) < 150_000


@reads_proc
@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_memory_of_twenty_minutes_of_padding(tmp_path: Path, engine: str) -> None:
    audio.write_wav(tmp_path / "a.wav", noise()[:, 0].astype(np.int16), decode.HIGHEST_RATE_HZ)
    assert peak_kb(tmp_path, "a.wav", engine, 1200) < 150_000


def test_stretch_of_a_file(tmp_path: Path) -> None:
    samples = np.arange(1000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    clip = Recording(tmp_path / "a.wav", "a", start_frame=100, frames=50)
    audio.prepare_clip(clip, _folders(tmp_path), audio.AudioSettings((RATE,), None))
    written, _ = soundfile.read(tmp_path / str(RATE) / "train" / "a.wav", dtype="int16")
    assert written.tolist() == samples[100:150].tolist()


@pytest.mark.parametrize("channels", [1, 2])
def test_floor(tmp_path: Path, channels: int) -> None:
    """As for the gunshots: average the channels in single precision and floor to 16 bit."""
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


def test_more_than_a_wav_file_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4000 frames at 16 kHz are 24000 bytes at 48 kHz."""
    soundfile.write(tmp_path / "a.wav", noise(), RATE, subtype="PCM_16")
    clip, settings = Recording(tmp_path / "a.wav", "a"), audio.AudioSettings((RATE, 48000), None)
    monkeypatch.setattr(audio, "MAX_BYTES", 24000)
    audio.prepare_clips([clip], tmp_path / "fits", settings)
    monkeypatch.setattr(audio, "MAX_BYTES", 23999)
    with pytest.raises(audio.BadAudio, match=r"a\.wav: got more audio than a wav file can hold"):
        audio.prepare_clips([clip], tmp_path / "too long", settings)


def test_ffmpeg_is_one_with_soxr() -> None:
    assert audio.engine_version("ffmpeg")
    assert audio.engine_version("soxr")


NAMES = [
    *("-", "-x.mp3", "pipe:0", "concat:a|b.mp3", "a%03d.mp3", "a%d.wav", "http:x.wav", "[0:a];,'\"\\.mp3"),
    *("line\nbreak.mp3", "日本語 ü.wav", "n" * 251 + ".mp3", os.fsdecode(b"\xff\xfe.mp3")),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Source, folder and clip are the files of exactly these names, also at the beginning of a path."""
    monkeypatch.chdir(tmp_path)
    samples = np.random.RandomState(0).randint(-9999, 9999, (2000, 3)).astype(np.int16)
    soundfile.write("plain.wav", samples, RATE)
    shutil.copy("plain.wav", Path(name))
    settings = audio.AudioSettings((RATE, 8000), None, "ffmpeg")
    for source, clip_id, out in (("plain.wav", "a", "out"), (name, name[:240], name[:200] + " out")):
        audio.prepare_clips([Recording(Path(source), clip_id)], Path(out), settings)
    found = [Path(name[:200] + " out", rate, "train", f"{name[:240]}.wav") for rate in ("16000", "8000")]
    assert found[0].read_bytes() == Path("out/16000/train/a.wav").read_bytes()
    assert [path.stat().st_size for path in found] == [44 + 4000, 44 + 2000]


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe that nobody writes to and an endless device are refused at once."""
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "nowhere.wav").symlink_to("away.wav")
    for name, got in (("folder", "a folder"), ("pipe", "a pipe or a device"), ("zero", "a pipe or a device")):
        with pytest.raises(audio.BadAudio, match=rf"{name}\.wav: got {got}, expected a regular file"):
            audio.read_mono(tmp_path / f"{name}.wav", 0, everything)
    # A missing file may be a disk that is not mounted, so it is not bad audio.
    with pytest.raises(FileNotFoundError, match=r"nowhere\.wav"):
        audio.read_mono(tmp_path / "nowhere.wav", 0, everything)


def write_for_ffmpeg(path: Path) -> None:
    """Write a file that ffmpeg must decode, because it has three channels, with more than a pipe holds."""
    soundfile.write(path, np.zeros((4 * decode.BLOCK_FRAMES, 3), np.int16), RATE)


def ffmpeg_children() -> list[psutil.Process]:
    """The ffmpeg processes of this process, which may have other children."""
    # Linux keeps fifteen characters of a process's name.
    name = Path(find_ffmpeg()).name[:15]
    return [child for child in psutil.Process().children() if child.name().startswith(name)]


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGTERM])
def test_ffmpeg_killed_is_not_the_fault_of_the_file(tmp_path: Path, signal_sent: signal.Signals) -> None:
    write_for_ffmpeg(tmp_path / "a.wav")
    blocks = decode.read_blocks(tmp_path / "a.wav", 0, everything)
    next(blocks)
    (child,) = ffmpeg_children()
    child.send_signal(signal_sent)
    with pytest.raises(HearevalError, match=rf"ffmpeg on .*a\.wav: got .*signal {signal_sent}") as caught:
        list(blocks)
    assert not isinstance(caught.value, audio.BadAudio)


def test_no_ffmpeg_is_left_behind(tmp_path: Path) -> None:
    """Neither by a caller that needs only the beginning nor by one that is interrupted."""
    write_for_ffmpeg(tmp_path / "a.wav")
    assert len(audio.read_mono(tmp_path / "a.wav", 0, lambda rate: 10)[0]) == 10
    blocks = decode.read_blocks(tmp_path / "a.wav", 0, everything)
    next(blocks)
    blocks.close()
    assert not ffmpeg_children()


NOT_STARTING = ["", "#!/bin/sh\nexec no-such-program-anywhere\n", "#!/bin/sh\nexit 127\n", "#!/nowhere\n"]


@pytest.mark.parametrize("script", NOT_STARTING)
def test_ffmpeg_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "ffmpeg"
    if script:
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setattr(ffmpeg_command, "find_ffmpeg", lambda: str(program))
    write_for_ffmpeg(tmp_path / "a.wav")
    with pytest.raises(
        (HearevalError, OSError), match=r"no-such-program|exit code 127|No such file"
    ) as caught:
        audio.read_mono(tmp_path / "a.wav", 0, everything)
    assert not isinstance(caught.value, audio.BadAudio)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("seconds", [0.1, 60.0])
def test_full_disk_is_not_the_fault_of_the_file(tmp_path: Path, engine: str, seconds: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(round(seconds * 8000), np.int16), 8000)
    clip, settings = Recording(tmp_path / "a.wav", "a"), audio.AudioSettings((RATE,), None, engine)
    with small_disk(tmp_path / str(RATE), 1 << 12) as disk:
        (disk / "train").mkdir()
        (disk / "filler").write_bytes(bytes(1 << 12))
        with pytest.raises(OSError, match="No space left on device"):
            audio.prepare_clip(clip, tmp_path, settings)
        assert not list(disk.glob("train/*"))


def test_two_clips_of_one_name(tmp_path: Path) -> None:
    """As `Dog.wav` and `dog.wav` are on a case-insensitive file system."""
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.int16), 8000)
    clips = [Recording(tmp_path / "a.wav", "a")] * 2
    with pytest.raises(FileExistsError, match=r"a\.wav"):
        audio.prepare_clips(clips, tmp_path, audio.AudioSettings((8000,), None))


def test_disk_that_fills_up_in_mid_clip(tmp_path: Path) -> None:
    """The first write writes only a part and raises nothing."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            audio.write_wav(tmp_path / "a.wav", np.zeros(4000, np.int16), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_bad_clip_leaves_nothing_behind(tmp_path: Path) -> None:
    """The samples before the bad one were written already."""
    samples = np.zeros(3 * decode.BLOCK_FRAMES)
    samples[-1] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    for engine in ENGINES:
        settings = audio.AudioSettings((RATE, 8000), None, engine)
        with pytest.raises(audio.BadAudio, match=r"a\.wav: got NaN"):
            audio.prepare_clips([Recording(tmp_path / "a.wav", "a")], tmp_path, settings)
        assert not list(tmp_path.glob("*/train/*"))


def test_bad_audio_between_processes() -> None:
    error = pickle.loads(pickle.dumps(audio.BadAudio("a", got="b", expected="c", remedy="d")))
    assert type(error) is audio.BadAudio
    assert str(error) == "a: got b, expected c. d"
