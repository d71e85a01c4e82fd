"""Build synthetic stand-ins for three corpora: small, learnable but not easy, with the same bytes everywhere.

Sines come from a rounded table and everything else uses + - * /, because the last bits of sin, exp and pow
differ between machines.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from heareval.errors import HearevalError
from heareval.files import building_folder, file_checksum, write_text
from heareval.spec import Progress, ignore_progress

Wave = NDArray[np.float64]

MD5SUMS = "MD5SUMS"
EPOCH_S = 1609459200  # 2021-01-01 00:00 UTC, the time of every archive member
SINE_STEPS = 1 << 14


@dataclass(frozen=True, order=True)
class Member:
    """A file in an archive."""

    name: str
    content: bytes


def random_for(name: str) -> RandomState:
    """Return a random generator that depends only on the name."""
    return RandomState(zlib.crc32(name.encode()))


@cache
def sine_table() -> Wave:
    """Return one period of a sine, rounded to 20 bits, as SINE_STEPS samples."""
    phase = 2 * np.pi * np.arange(SINE_STEPS) / SINE_STEPS
    return np.asarray(np.rint(np.sin(phase) * (1 << 20)) / (1 << 20))


def sine(cycles: Wave) -> Wave:
    """Return the sine of a phase given in cycles."""
    steps = (cycles * SINE_STEPS).astype(np.int64) & (SINE_STEPS - 1)
    return np.asarray(sine_table()[steps])


def tone(hz: Wave | float, frames: int, rate: int) -> Wave:
    """Return a sine whose frequency may change from frame to frame."""
    return sine(np.cumsum(np.broadcast_to(hz, frames)) / rate)


def noise(rng: RandomState, width_hz: float, frames: int, rate: int) -> Wave:
    """Return noise from 0 Hz to about `width_hz` with the power of a sine of amplitude 1."""
    span = max(1, int(rate / width_hz))
    total = np.cumsum(rng.uniform(-1, 1, frames + span))
    return np.asarray((total[span:] - total[:-span]) * np.sqrt(1.5 / span))


def curve(shares: Wave | tuple[float, ...], levels: Wave | tuple[float, ...], frames: int) -> Wave:
    """Return an envelope of straight lines; each level is reached at its share of the length."""
    return np.asarray(np.interp(np.arange(frames) / frames, shares, levels))


def wav_bytes(samples: Wave, rate: int) -> bytes:
    """Return a mono 16-bit WAV file of samples in [-1, 1]."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(2)
        target.setframerate(rate)
        target.writeframes(np.rint(samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return stream.getvalue()


# speech_commands: a word glides through the formants of its letters.

SPEECH_RATE = 16000
# For each letter: two formants of the voice in Hz, level of the voice, frequency in Hz and level of the hiss.
LETTERS = {
    "d": (300, 1700, 0.2, 3000, 0.2),
    "e": (550, 1850, 1.0, 4000, 0.0),
    "f": (400, 1400, 0.0, 3500, 0.2),
    "g": (280, 1300, 0.2, 2000, 0.2),
    "h": (500, 1500, 0.1, 1500, 0.1),
    "i": (320, 2300, 1.0, 4000, 0.0),
    "l": (380, 1150, 0.7, 4000, 0.0),
    "n": (260, 1500, 0.5, 4000, 0.0),
    "o": (480, 950, 1.0, 4000, 0.0),
    "p": (400, 1000, 0.0, 1500, 0.2),
    "r": (420, 1400, 0.7, 4000, 0.0),
    "s": (400, 1800, 0.0, 5500, 0.5),
    "t": (400, 1800, 0.0, 4500, 0.4),
    "u": (750, 1250, 1.0, 4000, 0.0),
    "w": (340, 750, 0.7, 4000, 0.0),
    "y": (280, 2100, 0.7, 4000, 0.0),
}
WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
UNKNOWN_WORDS = ("dog", "tree", "yellow", "three")
# Bandwidth of the background noises in Hz.
BACKGROUNDS = {"doing_the_dishes": 5000, "exercise_bike": 300, "pink_noise": 1500, "running_tap": 3000}
SPEAKERS = {"train": 14, "validation": 4, "testing": 2, "test": 12}


def spoken(word: str, speaker: str, rng: RandomState) -> Wave:
    """Return a word by a speaker, who has an individual pace, pitch and vocal tract."""
    person, at = random_for(speaker), (np.arange(len(word)) + 0.5) / len(word)
    frames = int(SPEECH_RATE * person.uniform(0.4, 0.6) * rng.uniform(0.85, 1.15))
    targets = np.array([LETTERS[letter] for letter in word])
    targets[:, :2] *= person.uniform(0.82, 1.2) * rng.uniform(0.92, 1.08, (len(word), 2))
    low_hz, high_hz, voice, hiss_hz, hiss = (curve(at, track, frames) for track in targets.T)
    pulses = (0.5 + 0.5 * tone(person.uniform(90, 230), frames, SPEECH_RATE)) ** 2
    vowels = tone(low_hz, frames, SPEECH_RATE) + 0.6 * tone(high_hz, frames, SPEECH_RATE)
    breath = noise(rng, 1000, frames, SPEECH_RATE) * tone(hiss_hz, frames, SPEECH_RATE)
    return (voice * pulses * vowels + hiss * breath) * curve((0, 0.1, 0.9, 1), (0, 1, 1, 0), frames)


def word_clip(word: str, speaker: str, name: str) -> bytes:
    """Return a wav file of about a second with a word somewhere in noise."""
    rng = random_for(name)
    frames = int(SPEECH_RATE * rng.choice([1, 1, 1, 1, 0.8, 1.15]))
    clip = rng.uniform(0.01, 0.12) * noise(rng, 2000, frames, SPEECH_RATE)
    sound = spoken(word, speaker, rng)
    start = rng.randint(0, frames - len(sound))
    clip[start : start + len(sound)] += rng.uniform(0.1, 0.4) * sound
    return wav_bytes(clip, SPEECH_RATE)


def background_clip(kind: str, seconds: float, name: str) -> bytes:
    """Return a wav file with noise that swells and fades."""
    rng, frames = random_for(name), int(seconds * SPEECH_RATE)
    levels = curve(np.linspace(0, 1, 8), rng.uniform(0.01, 0.2, 8), frames)
    return wav_bytes(noise(rng, BACKGROUNDS[kind], frames, SPEECH_RATE) * levels, SPEECH_RATE)


def utterances(part: str, words: Sequence[str]) -> Iterator[Member]:
    """Yield every word once by every speaker of a part; file names differ even without their folders."""
    for number, word in product(range(SPEAKERS[part]), words):
        speaker = f"{zlib.crc32(f'{part} {number}'.encode()):08x}"
        name = f"./{word}/{speaker}_nohash_{words.index(word)}.wav"
        yield Member(name, word_clip(word, speaker, name))


def speech_train() -> Iterator[Member]:
    """Yield words, the lists of those for validation and testing, and background noises."""
    yield from utterances("train", WORDS + UNKNOWN_WORDS)
    for part in ("validation", "testing"):
        members = list(utterances(part, WORDS + UNKNOWN_WORDS))
        lines = "".join(member.name.removeprefix("./") + "\n" for member in members)
        yield from (*members, Member(f"./{part}_list.txt", lines.encode()))
    for kind in BACKGROUNDS:
        name = f"./_background_noise_/{kind}.wav"
        yield Member(name, background_clip(kind, 7.3, name))


def speech_test() -> Iterator[Member]:
    """Yield the ten words, other words in one folder, and silence."""
    yield from utterances("test", WORDS)
    for member in islice(utterances("test", UNKNOWN_WORDS), 0, None, 3):
        yield Member(f"./_unknown_/{Path(member.name).name}", member.content)
    for number, kind in product(range(4), BACKGROUNDS):
        name = f"./_silence_/{kind}_{number}.wav"
        yield Member(name, background_clip(kind, 1, name))


# nsynth: a note is a harmonic series with the spectrum of its instrument.

NOTE_RATE = 16000
PITCHES = tuple(range(48, 60))
OUTSIDE_PITCHES = (15, 112)  # like the original, the stand-in has notes that the task excludes
FAMILIES = ("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "vocal")
SOURCES = ("acoustic", "electronic", "synthetic")
INSTRUMENTS = {"train": range(0, 8), "valid": range(8, 11), "test": range(11, 14)}
VELOCITIES = (25, 50, 75, 100, 127)
HARMONICS = np.arange(1, 13)


def note_clip(instrument: str, pitch: int, velocity: int) -> bytes:
    """Return a wav file with a note of four seconds or slightly less, which fades in the last quarter."""
    timbre, rng = random_for(instrument), random_for(f"{instrument} {pitch}")
    frames = int(NOTE_RATE * rng.choice([4, 4, 4, 4, 3.5]))
    weights = timbre.uniform(0.2, 1, len(HARMONICS)) / HARMONICS ** timbre.uniform(0.5, 2.5)
    # Rounded, because an error in the last bit would grow with the phase.
    middle_hz = round(440 * 2 ** ((pitch - 69 + rng.uniform(-0.4, 0.4)) / 12), 3)
    hz = middle_hz * (1 + timbre.uniform(0, 0.015) * tone(timbre.uniform(4, 7), frames, NOTE_RATE))
    cycles = np.cumsum(hz) / NOTE_RATE
    sound = rng.uniform(0.01, 0.3) * noise(rng, timbre.uniform(500, 4000), frames, NOTE_RATE)
    for harmonic, weight in zip(HARMONICS, weights / weights.sum(), strict=True):
        if harmonic * middle_hz < 0.45 * NOTE_RATE:
            sound += weight * sine(harmonic * cycles)
    levels = (0, 1, timbre.uniform(0.1, 1), 0)
    shape = curve((0, timbre.uniform(0.005, 0.05), 0.75, 1), levels, frames)
    return wav_bytes(sound * shape * (velocity / 254), NOTE_RATE)


def note_entry(instrument: int, pitch: int, velocity: int) -> dict[str, Any]:
    """Return the entry of a note in examples.json, with the keys of the original."""
    family, source = instrument % len(FAMILIES), instrument % len(SOURCES)
    name = f"{FAMILIES[family]}_{SOURCES[source]}_{instrument:03d}"
    return {
        "note": 1000 * instrument + pitch,
        "note_str": f"{name}-{pitch:03d}-{velocity:03d}",
        "instrument": instrument,
        "instrument_str": name,
        "instrument_family": family,
        "instrument_family_str": FAMILIES[family],
        "instrument_source": source,
        "instrument_source_str": SOURCES[source],
        "pitch": pitch,
        "velocity": velocity,
        "sample_rate": NOTE_RATE,
        "qualities": [0] * 10,
        "qualities_str": [],
    }


def notes(split: str) -> Iterator[Member]:
    """Yield every pitch of every instrument of a set once, and some pitches that the task excludes."""
    examples = {}
    for instrument in INSTRUMENTS[split]:
        outside = OUTSIDE_PITCHES if instrument == INSTRUMENTS[split][0] else ()
        for pitch in PITCHES + outside:
            velocity = VELOCITIES[(instrument + pitch) % len(VELOCITIES)]
            entry = note_entry(instrument, pitch, velocity)
            examples[entry["note_str"]] = entry
            content = note_clip(entry["instrument_str"], pitch, velocity)
            yield Member(f"nsynth-{split}/audio/{entry['note_str']}.wav", content)
    yield Member(f"nsynth-{split}/examples.json", json.dumps(examples, indent=1).encode())


# dcase2016_task2: an event is a tone with a band of noise, repeated in strokes.

SCENE_RATE = 44100
# For each event: frequency of the tone in Hz, share of the tone, frequency of the noise in Hz, strokes per
# second, length in seconds.
EVENTS = {
    "clearthroat": (160, 0.5, 900, 3, 0.7),
    "cough": (300, 0.3, 1300, 4, 0.5),
    "doorslam": (90, 0.3, 200, 0, 0.6),
    "drawer": (250, 0.1, 600, 2, 1.0),
    "keyboard": (1800, 0.1, 3500, 8, 1.0),
    "keys": (5200, 0.5, 6500, 12, 0.8),
    "knock": (220, 0.6, 400, 5, 0.7),
    "laughter": (420, 0.6, 1500, 5, 1.1),
    "pageturn": (2500, 0.0, 4500, 1, 0.7),
    "phone": (1400, 0.9, 3000, 15, 1.2),
    "speech": (190, 0.7, 1700, 3, 1.1),
}
# Event-to-background ratio in dB, as in the file names -> the amplitude factor.
RATIOS = {-6: 0.5, 0: 1.0, 6: 2.0}
# (events per label, whether they overlap, length in seconds)
SCENES = ((1, "mono", 20.0), (1, "poly", 19.4), (2, "poly", 20.7))


def event_sound(label: str, rng: RandomState) -> Wave:
    """Return an event with random pitch, pace, length and level."""
    tone_hz, tonal, noise_hz, strokes_hz, seconds = EVENTS[label] * rng.uniform(
        (0.8, 1, 0.75, 0.8, 0.7), (1.25, 1, 1.3, 1.25, 1.3)
    )
    frames = int(SCENE_RATE * seconds)
    hiss = noise(rng, noise_hz / 2, frames, SCENE_RATE) * tone(noise_hz, frames, SCENE_RATE)
    sound = tonal * tone(tone_hz, frames, SCENE_RATE) + (1 - tonal) * hiss
    decay = 1 - np.arange(frames) / SCENE_RATE * strokes_hz % 1
    return sound * decay * curve((0, 0.03, 0.6, 1), (0, 1, 0.8, 0), frames) * rng.uniform(0.5, 1)


def add_events(clip: Wave, count: int, kind: str, level: float, rng: RandomState) -> list[str]:
    """Mix `count` events of each label into the clip; return their annotation lines."""
    labels = rng.permutation([*EVENTS] * count)
    # In monophonic scenes, events do not overlap: each has a separate stretch of the clip.
    stretches = len(labels) if kind == "mono" else 1
    length = len(clip) // stretches
    lines = []
    for place, label in enumerate(labels):
        sound = event_sound(label, rng)
        start = place % stretches * length + rng.randint(0, length - len(sound))
        clip[start : start + len(sound)] += level * sound
        lines.append(f"{start / SCENE_RATE:.6f}\t{(start + len(sound)) / SCENE_RATE:.6f}\t{label}\n")
    return lines


def scenes(part: str, folder: str) -> Iterator[Member]:
    """Yield every kind of scene at every ratio."""
    for decibel, (count, kind, seconds) in product(RATIOS, SCENES):
        stem = f"{part}_1_ebr_{decibel}_nec_{count}_{kind}_0"
        rng = random_for(stem)
        clip = 0.05 * noise(rng, 2000, int(seconds * SCENE_RATE), SCENE_RATE)
        lines = add_events(clip, count, kind, 0.15 * RATIOS[decibel], rng)
        yield Member(f"{folder}/sound/{stem}.wav", wav_bytes(clip, SCENE_RATE))
        yield Member(f"{folder}/annotation/{stem}.txt", "".join(lines).encode())


ARCHIVES: dict[str, Callable[[], Iterator[Member]]] = {
    "speech_commands_v0.02.tar.gz": speech_train,
    "speech_commands_test_set_v0.02.tar.gz": speech_test,
    "nsynth-train.jsonwav.tar.gz": partial(notes, "train"),
    "nsynth-valid.jsonwav.tar.gz": partial(notes, "valid"),
    "nsynth-test.jsonwav.tar.gz": partial(notes, "test"),
    "dcase2016_task2_train_dev.zip": partial(scenes, "dev", "dcase2016_task2_train_dev/dcase2016_task2_dev"),
    "dcase2016_task2_test_public.zip": partial(scenes, "eval", "dcase2016_task2_test_public"),
}


def write_tar_gz(path: Path, members: Iterable[Member]) -> None:
    """Write a gzipped tar whose bytes depend only on the members."""
    with (
        open(path, "wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, EPOCH_S) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as target,
    ):
        for member in sorted(members):
            info = tarfile.TarInfo(member.name)
            info.size, info.mtime = len(member.content), EPOCH_S
            target.addfile(info, io.BytesIO(member.content))


def write_zip(path: Path, members: Iterable[Member]) -> None:
    """Write a zip whose bytes depend only on the members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for member in sorted(members):
            info = zipfile.ZipInfo(member.name, (2021, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            target.writestr(info, member.content, zipfile.ZIP_DEFLATED, 1)


def write_archive(folder: Path, name: str) -> None:
    """Write an archive of ARCHIVES into a folder."""
    write = write_zip if name.endswith(".zip") else write_tar_gz
    write(folder / name, ARCHIVES[name]())


def build_demo_corpora(folder: Path, progress: Progress = ignore_progress) -> None:
    """Write the archives of the demo corpora and their MD5SUMS into one folder.

    Args:
        folder: a new or empty folder; one with MD5SUMS is complete and is left as it is.
        progress: called with the number of finished archives, and of all archives.

    Raises:
        HearevalError: the folder holds other files.
    """
    if (folder / MD5SUMS).exists():
        return
    if folder.exists() and any(folder.iterdir()):
        raise HearevalError(
            f"folder {folder}", got="other files in it", expected="a new folder", remedy="Name another one."
        )
    with building_folder(folder) as scratch:
        for done, name in enumerate(ARCHIVES):
            progress(done, len(ARCHIVES))
            write_archive(scratch, name)
        lines = (f"{file_checksum(scratch / name, 'md5')}  {name}\n" for name in sorted(ARCHIVES))
        write_text(scratch / MD5SUMS, "".join(lines))
    progress(len(ARCHIVES), len(ARCHIVES))
