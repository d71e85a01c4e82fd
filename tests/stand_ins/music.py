"""Corpora of music: notes, strokes, pieces and genres."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import PurePosixPath

import numpy as np
import soundfile

from heareval.tasks.corpora import timbre_similarity as timbre_module
from tests.stand_ins import midi
from tests.stand_ins.sounds import generator, sound, tones
from tests.stand_ins.trees import Tree, as_json, like_tfds, table

FAMILIES = (
    *("bass_synthetic", "brass_acoustic", "flute_acoustic", "guitar_acoustic"),
    *("keyboard_electronic", "organ_electronic", "string_acoustic", "vocal_synthetic"),
)
STEMS = {
    "music": ("bagpipe", "ballad", "bartok", "beat", "beatles", "bigband"),
    "speech": ("allison", "amal", "austria", "charles", "chant", "conversion"),
}
WORKS = (
    ("Alban Berg", "Sonata Op. 1"),
    ("Frédéric Chopin", "Étude Op. 25, No. 11"),
    ("Franz Schubert / Franz Liszt", '"Erlkönig"'),
    ("Claude Debussy", "Prélude, Livre II"),
    ("César Franck", "Prélude, Choral et Fugue"),
)
# Tonics with the folders that their strokes are in.
TONICS = {"b": "B", "c": "C", "csh": "C#", "d": "D", "dsh": "D#", "e": "E"}


def nsynth_pitch() -> dict[str, Tree]:
    """Thirty instruments, some notes out of range; the small archives lack most of the audio."""
    archives: dict[str, Tree] = {}
    sets = {"train": (range(20), 25), "valid": (range(20, 25), 6), "test": (range(25, 30), 6)}
    for split, (instruments, kept_small) in sets.items():
        tree: Tree = {}
        notes = {}
        for i in instruments:
            draw, instrument = generator(f"nsynth {i}"), f"{FAMILIES[i % 8]}_{i:03d}"
            low = [21] * (i % 2 == 0 or split != "train")
            for pitch in [60, 100, *[9] * (i % 4 == 0), *[110] * (i % 5 == 0), *low]:
                velocity = int(draw.choice([25, 50, 75, 100, 127]))
                note = f"{instrument}-{pitch:03d}-{velocity:03d}"
                notes[note] = {"pitch": pitch, "note_str": note, "instrument_str": instrument}
                seconds = {0: 4.0, 1: 3.5, 2: 4.25}.get(i % 7, 4.0)
                name = f"nsynth-{split}/audio/{note}.wav"
                tree[name] = sound("nsynth_pitch", f"{split}/{name}", seconds, 16000)
        described = {f"nsynth-{split}/examples.json": as_json(notes)}
        archives[f"nsynth-{split}.jsonwav.tar.gz"] = {**tree, **described}
        small = {name: tree[name] for name in sorted(tree)[:kept_small]}
        archives[f"nsynth-{split}-small.zip"] = {**small, **described}
    return archives


def beijing_opera() -> dict[str, Tree]:
    """Four percussion instruments in stereo, every fifth file in 24 bits."""
    root = "beijing_opera_percussion_instrument_1.0"
    tree: Tree = {f"{root}/README.txt": b"Percussion.\n"}
    for i, instrument in enumerate(("bangu", "daluo", "naobo", "xiaoluo")):
        for n in range(14):
            name = f"{root}/{205900 + 40 * i + n}__ajaysm__{instrument}-{n}.wav"
            seconds = {0: 4.77, 1: 8.9, 2: 0.07}.get(n % 8, 0.2 + n * 0.2)
            subtype = "PCM_24" if n % 5 == 4 else "PCM_16"
            tree[name] = sound("beijing_opera", f"full/{name}", seconds, 44100, 2, subtype)
    return {f"{root}.zip": tree, "beijing_opera-train-small.zip": tree}


def timbre_similarity() -> dict[str, Tree]:
    """The listed sounds of all experiments, with drawn ratings above the diagonal."""
    names = [line.split("  ")[1] for line in timbre_module.MANIFEST.read_text().splitlines()]
    sounds: Tree = {}
    sets: dict[str, int] = Counter()
    for path in (PurePosixPath(name) for name in names if name.endswith(".aiff")):
        sets[path.parent.name] += 1
        sounds[path.name] = _aiff(f"timbre_similarity/{path.name}")
    archives = {"sounds": sounds}
    for name, count in sets.items():
        matrix = np.triu(generator(f"timbre_similarity/{name}").randint(1, 100, (count, count)), 1)
        file_name = f"{name}_dissimilarity_matrix.txt"
        text = "".join("\t".join(map(str, row)) + "\n" for row in matrix)
        archives[file_name] = {file_name: text.encode()}
    return archives


def _aiff(name: str) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, tones(name, 4410, 44100).astype(np.int16), 44100, "PCM_16", format="AIFF")
    return content.getvalue()


def gtzan() -> dict[str, Tree]:
    """Three genres; every second file is in the small archive under its TFDS-like name."""
    tree: Tree = {}
    order = []
    for g, genre in enumerate(("blues", "classical", "country")):
        for n in range(25):
            name = f"genres/{genre}/{genre}.{n:05d}.wav"
            seconds = {0: 30.0, 1: 30.01}.get(n % 12, 0.5 + (n + g) % 4 * 0.25)
            tree[name] = sound("gtzan", f"full/{name}", seconds, 22050)
            order.append((tree[name], genre))
    return {"genres.tar.gz": tree, "gtzan-small.zip": like_tfds("gtzan", order[::2])}


def gtzan_music_speech() -> dict[str, Tree]:
    """Music and speech; every second file is in the small archive under its TFDS-like name."""
    tree: Tree = {}
    order = []
    for label, stems in STEMS.items():
        for n in range(24):
            name = f"music_speech/{label}_wav/{stems[n % 6]}{n // 6 or ''}.wav"
            seconds = {0: 30.0, 1: 30.2}.get(n % 10, 0.5 + n % 4 * 0.25)
            tree[name] = sound("gtzan_music_speech", f"full/{name}", seconds, 22050)
            order.append((tree[name], label))
    small = like_tfds("gtzan_music_speech", order[::2])
    return {"music_speech.tar.gz": tree, "gtzan_music_speech-small.zip": small}


def maestro() -> dict[str, Tree]:
    """Fifteen piano pieces in stereo with their MIDI, one of two minutes; six have audio in small."""
    root, rows = "maestro-v3.0.0", []
    tree: Tree = {f"{root}/LICENSE": b"CC BY-NC-SA 4.0\n"}
    for n in range(15):
        year = (2004, 2006, 2009, 2018)[n % 4]
        track = f"R1_{year}_0{n % 3 + 1}-06_ORIG_MID--AUDIO_{n + 1:02d}_R1_{year}_Track{n:02d}_wav"
        stem = f"MIDI-Unprocessed_{n + 1:02d}_{track}"
        seconds = 123.0 if n == 7 else 6.0 + n % 4
        tree[f"{root}/{year}/{stem}.midi"] = midi.piece(stem, seconds, repeats_tempo=n % 2 == 1)
        name, rate = f"{root}/{year}/{stem}.wav", 44100 if n % 3 else 48000
        tree[name] = sound("maestro", f"full/{name}", seconds + n % 3 * 0.5, rate, 2)
        split = ("train", "train", "validation", "test")[n % 4]
        rows.append(
            (*WORKS[n % 5], split, year, f"{year}/{stem}.midi", f"{year}/{stem}.wav", f"{seconds:.6f}")
        )
    header = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename")
    tree[f"{root}/{root}.csv"] = table((*header, "duration"), rows)
    without_audio = sorted(name for name in tree if name.endswith(".wav"))[6:]
    small = {name: content for name, content in tree.items() if name not in without_audio}
    return {f"{root}.zip": tree, f"{root}-small.zip": small}


def mridangam() -> dict[str, Tree]:
    """Five strokes at six tonics, two or three of each."""
    tree: Tree = {}
    number = 224000
    for stroke in ("bheem", "cha", "tha", "tham", "thi"):
        for tonic, folder in TONICS.items():
            for n in range(1, 4 if tonic in ("b", "d") else 3):
                number += 1
                name = f"{folder}/{number}__akshaylaya__{stroke}-{tonic}-{n:03d}.wav"
                seconds = {0: 0.81, 1: 1.3, 2: 0.02}.get(number % 9, 0.2 + number % 5 * 0.1)
                name = f"mridangam_stroke_1.5/{name}"
                tree[name] = sound("mridangam", f"full/{name}", seconds, 44100)
    return {"mridangam_stroke_1.5.zip": tree, "mridangam-train-small.zip": tree}
