"""Small corpora in the originals' layout, the very ones that the golden outputs were made from.

Sounds are two integer triangle waves and a little noise, drawn from the member's name; the goldens'
MD5s of samples hold only while every number in here stays as it is.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Tree = dict[str, bytes]
WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
OFFICE_SOUNDS = (
    *("clearthroat", "cough", "doorslam", "drawer", "keyboard", "keys"),
    *("knock", "laughter", "pageturn", "phone", "speech"),
)
FAMILIES = (
    *("bass_synthetic", "brass_acoustic", "flute_acoustic", "guitar_acoustic"),
    *("keyboard_electronic", "organ_electronic", "string_acoustic", "vocal_synthetic"),
)


def _generator(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def _triangle(frames: int, increment: int, peak: int) -> np.ndarray:
    phase = np.arange(frames, dtype=np.int64) * increment % 65536
    return (2 * np.abs(phase - 32768) - 32768) * peak >> 15


def sound(corpus: str, member: str, seconds: float, rate: int) -> bytes:
    """A mono 16-bit wav file that depends on the corpus' and the member's name alone."""
    draw, frames = _generator(f"{corpus}/{member}"), round(seconds * rate)
    low, high = draw.randint(80, 600), draw.randint(600, 4000)
    samples = _triangle(frames, low * 65536 // rate, 12000) + _triangle(frames, high * 65536 // rate, 4000)
    samples = samples + draw.randint(-200, 201, frames)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()


def speech_commands() -> dict[str, Tree]:
    """Ten words, three unknown ones, noise; `train` and `test` archives, and the small ones with a gap."""
    train: Tree = {}
    valid, testing = [], []
    for w, word in enumerate((*WORDS, "bed", "cat", "zero")):
        for n in range(8):
            speaker = hashlib.sha1(str((5 * w + n) % 37).encode()).hexdigest()[:8]
            name = f"{word}/{speaker}_nohash_{n % 2}.wav"
            if name in train:
                name = f"{word}/{speaker}_nohash_{n + 2}.wav"
            seconds = {3: 0.7, 5: 1.1}.get((w + n) % 7, 1.0)
            train[name] = sound("speech_commands", f"train/{name}", seconds, 16000)
            valid += [name] * (n in (1, 4))
            testing += [name] * (n == 6)
    noises = {"doing_the_dishes": 3.2, "dude_miaowing": 2.5, "exercise_bike": 3.0}
    for noise, seconds in {**noises, "pink_noise": 2.0, "running_tap": 3.7, "white_noise": 1.4}.items():
        name = f"_background_noise_/{noise}.wav"
        train[name] = sound("speech_commands", f"train/{name}", seconds, 16000)
    train["_background_noise_/README.md"] = b"Background noise.\n"
    train["validation_list.txt"] = "".join(f"{name}\n" for name in valid).encode()
    train["testing_list.txt"] = "".join(f"{name}\n" for name in testing).encode()
    test: Tree = {"LICENSE": b"Creative Commons BY 4.0\n"}
    for word in WORDS:
        for n in range(3):
            speaker = hashlib.sha1(f"test {word} {n}".encode()).hexdigest()[:8]
            name = f"{word}/{speaker}_nohash_{n}.wav"
            test[name] = sound("speech_commands", f"test/{name}", 0.8 if n == 2 else 1.0, 16000)
    for n in range(4):
        speaker = hashlib.sha1(f"unknown {n}".encode()).hexdigest()[:8]
        for name in (f"_unknown_/{speaker}_nohash_{n}.wav", f"_silence_/{n}.wav"):
            test[name] = sound("speech_commands", f"test/{name}", 1.0, 16000)
    return {
        "speech_commands_v0.02.tar.gz": train,
        "speech_commands_test_set_v0.02.tar.gz": test,
        "speech_commands_v0.02-small.zip": {k: v for k, v in train.items() if k != valid[0]},
        "speech_commands_test_set_v0.02-small.zip": test,
    }


def nsynth_pitch() -> dict[str, Tree]:
    """Thirty instruments, some notes out of range; the small archives lack most of the audio."""
    archives: dict[str, Tree] = {}
    sets = {"train": (range(20), 25), "valid": (range(20, 25), 6), "test": (range(25, 30), 6)}
    for split, (instruments, kept_small) in sets.items():
        tree: Tree = {}
        notes = {}
        for i in instruments:
            draw, instrument = _generator(f"nsynth {i}"), f"{FAMILIES[i % 8]}_{i:03d}"
            low = [21] * (i % 2 == 0 or split != "train")
            for pitch in [60, 100, *[9] * (i % 4 == 0), *[110] * (i % 5 == 0), *low]:
                velocity = int(draw.choice([25, 50, 75, 100, 127]))
                note = f"{instrument}-{pitch:03d}-{velocity:03d}"
                notes[note] = {"pitch": pitch, "note_str": note, "instrument_str": instrument}
                seconds = {0: 4.0, 1: 3.5, 2: 4.25}.get(i % 7, 4.0)
                name = f"nsynth-{split}/audio/{note}.wav"
                tree[name] = sound("nsynth_pitch", f"{split}/{name}", seconds, 16000)
        described = {f"nsynth-{split}/examples.json": json.dumps(notes).encode()}
        archives[f"nsynth-{split}.jsonwav.tar.gz"] = {**tree, **described}
        small = {name: tree[name] for name in sorted(tree)[:kept_small]}
        archives[f"nsynth-{split}-small.zip"] = {**small, **described}
    return archives


def dcase2016_task2() -> dict[str, Tree]:
    """Twenty mixtures of some seconds, one of them longer than two minutes, with doubled and late events."""
    names = [
        f"1_ebr_{ebr}_nec_{nec}_{kind}_{i}"
        for ebr in ("-6", "0", "6")
        for nec in (1, 2)
        for kind in ("mono", "poly")
        for i in (0, 1)
    ]
    inner = {
        "dev": ("dcase2016_task2_train_dev", "dcase2016_task2_train_dev/dcase2016_task2_dev", 8),
        "eval": ("dcase2016_task2_test_public", "dcase2016_task2_test_public", 12),
    }
    archives = {}
    for part, (archive, folder, count) in inner.items():
        tree: Tree = {}
        for n, name in enumerate(names[:count]):
            stem, is_long = f"{part}_{name}", (part, n) == ("eval", 3)
            member = f"{folder}/sound/{stem}.wav"
            tree[member] = sound(
                "dcase2016_task2", f"{part}/{member}", 121.5 if is_long else 4 + n % 3, 44100
            )
            labels = [OFFICE_SOUNDS[(n + 3 * k + (part == "eval")) % 11] for k in range(6)]
            tree[f"{folder}/annotation/{stem}.txt"] = _annotation(stem, labels, n, is_long)
        archives[f"{archive}.zip"] = tree
    return archives


def _annotation(stem: str, labels: list[str], n: int, is_long: bool) -> bytes:
    draw, rows, onset = _generator(stem), [], 0.25
    for label in labels:
        length = draw.randint(100000, 900000) / 1e6
        rows.append((onset, onset + length, label))
        onset += draw.randint(200000, 700000) / 1e6
    if is_long:
        rows += [(119.1, 120.4, "cough"), (120.0, 120.9, "keys"), (120.7, 121.2, "phone")]
        rows += [(119.1, 120.0, "speech"), (119.1, 119.6, "cough")]
    elif n % 2:
        rows.append(rows[0])
    return "".join(f"{start:.6f}\t{end:.6f}\t{label}\n" for start, end, label in rows).encode()


def spoken_digit() -> dict[str, Tree]:
    """Five digits of four speakers; every second file is in the small archive under its TFDS-like name."""
    root, tree, order = "free-spoken-digit-dataset-1.0.9", {}, []
    for digit in range(5):
        for n in range(13):
            speaker = ("jackson", "nicolas", "theo", "yweweler")[n % 4]
            name = f"{root}/recordings/{digit}_{speaker}_{n}.wav"
            seconds = {0: 0.56, 1: 1.2}.get(n % 6, 0.25 + n * 0.03)
            tree[name] = sound("spoken_digit", f"full/{name}", seconds, 8000)
            order.append((name, digit))
    small: Tree = {}
    rows = []
    for i, (name, digit) in enumerate(order[::2]):
        filename = f"tfds_id_spoken-digit-train-tfrecord-00000-of-00001-{i}.wav"
        small[f"audio/{filename}"] = tree[name]
        rows.append((filename, digit))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([("filename", "label"), *rows])
    return {
        "v1.0.9.tar.gz": tree,
        "spoken_digit-small.zip": {**small, "train_labels.csv": table.getvalue().encode()},
    }


CORPORA: dict[str, Callable[[], dict[str, Tree]]] = {
    f.__name__: f for f in (speech_commands, nsynth_pitch, dcase2016_task2, spoken_digit)
}


def write_tree(tree: Tree, folder: Path) -> Path:
    """The members as files below a folder."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def pack(tree: Tree, archive: Path) -> Path:
    """The members as an archive of the kind that its name says, the same bytes on every run."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as out:
            for name in sorted(tree):
                out.writestr(zipfile.ZipInfo(name), tree[name])
        return archive
    with gzip.GzipFile(archive, "wb", 1, mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as out:
        for name in sorted(tree):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(tree[name])
            out.addfile(info, io.BytesIO(tree[name]))
    return archive


def md5sums(folder: Path) -> Path:
    """An md5sum file of the archives in a folder."""
    lines = [f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.glob("*.*z*"))]
    (folder / "MD5SUMS").write_text("".join(lines))
    return folder / "MD5SUMS"
