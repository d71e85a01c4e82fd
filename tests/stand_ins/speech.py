"""Corpora of speech and other sounds of the voice."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

from tests.stand_ins.sounds import sound, tones, wav
from tests.stand_ins.trees import Row, Tree, as_json, like_tfds, table, write_tree

WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
# Files by language; the two rarest are dropped.
LANGUAGES = {
    "ar": 13,
    "da": 14,
    "de": 13,
    "en": 15,
    "et": 16,
    "fi": 13,
    "fr": 14,
    "no": 15,
    "ru": 17,
    "sv": 13,
    "zh": 5,
    "sl": 3,
}
IMITATED = (
    "002Animal_Domestic animals_ pets_Cat_Growling.wav",
    "013Animal_Wild animals_Bird_Owl_Hoot.wav",
    "094Human sounds_Human group actions_Clapping.wav",
    "120Music_Musical instrument_Plucked string instrument_Banjo.wav",
    "210Sounds of things_Vehicle_Car_Skidding, (tyres) & brakes.wav",
    "301Source-ambiguous sounds_Onomatopoeia_Boing.wav",
)
RECORDED_IN = (
    *((44100, 1, "PCM_16"), (48000, 1, "PCM_16"), (44100, 2, "PCM_16"), (44100, 1, "PCM_24")),
    *((22050, 1, "PCM_16"), (16000, 1, "PCM_16"), (48000, 1, "FLOAT")),
)


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


def spoken_digit() -> dict[str, Tree]:
    """Five digits of four speakers; every second file is in the small archive under its TFDS-like name."""
    root, tree, order = "free-spoken-digit-dataset-1.0.9", {}, []
    for digit in range(5):
        for n in range(13):
            speaker = ("jackson", "nicolas", "theo", "yweweler")[n % 4]
            name = f"{root}/recordings/{digit}_{speaker}_{n}.wav"
            seconds = {0: 0.56, 1: 1.2}.get(n % 6, 0.25 + n * 0.03)
            tree[name] = sound("spoken_digit", f"full/{name}", seconds, 8000)
            order.append((tree[name], digit))
    return {"v1.0.9.tar.gz": tree, "spoken_digit-small.zip": like_tfds("spoken_digit", order[::2])}


def crema_d() -> dict[str, Tree]:
    """Twelve speakers with six emotions each, published as single files; small archives of three splits."""
    sentences, clips = ("IEO", "TIE", "IOM", "IWW"), {}
    for speaker in range(1001, 1013):
        for e, emotion in enumerate(EMOTIONS):
            name = f"{speaker}_{sentences[(speaker + e) % 4]}_{emotion}_XX"
            seconds = {0: 5.0, 1: 5.5}.get((speaker + e) % 11, 1.2 + e * 0.3)
            clips[name] = sound("crema_d", f"AudioWAV/{name}.wav", seconds, 16000)
    votes = [f"{kind}{what}" for kind in ("Voice", "Face", "MultiModal") for what in ("Vote", "Level")]
    listed = enumerate([*clips, "1040_ITH_SAD_XX"], start=1)
    rows = [(n, name, "A", 0.9, 60, "A", 0.8, 50) for n, name in listed]
    archives = {
        "summaryTable.csv": {"summaryTable.csv": table(("", "FileName", *votes), rows)},
        "crema_d.txt": {"crema_d.txt": b"# No checksums.\n"},
        "AudioWAV": {f"{name}.wav": content for name, content in clips.items()},
    }
    splits = {"train": range(1001, 1009), "valid": range(1009, 1010), "test": range(1010, 1013)}
    for split, speakers in splits.items():
        chosen = [(clips[name], name.split("_")[2]) for name in clips if int(name[:4]) in speakers]
        archives[f"crema_d-{split}-small.zip"] = like_tfds("crema_d", chosen, split)
    return archives


def libricount() -> dict[str, Tree]:
    """Mixtures of up to ten speakers, with descriptions that no task reads."""
    tree: Tree = {}
    for speakers in (0, 1, 2, 3, 9, 10):
        for n in range(11):
            stem = f"test/{speakers}_{hashlib.sha1(f'{speakers} {n}'.encode()).hexdigest()[:12]}"
            seconds = {0: 4.5, 1: 5.2}.get(n % 6, 5.0)
            tree[f"{stem}.wav"] = sound("libricount", f"full/{stem}.wav", seconds, 16000)
            tree[f"{stem}.json"] = as_json([{"sex": "F", "activity": [[0, 100]], "speaker_id": n}])
    return {"LibriCount10-0dB.zip": tree, "libricount-train-small.zip": tree}


def vox_lingua_top10() -> dict[str, Tree]:
    """Twelve languages; one video of each has a name that starts with a dash."""
    tree: Tree = {}
    for language, files in LANGUAGES.items():
        for n in range(files):
            video = "-" * (n == 2) + hashlib.sha1(f"{language} {n}".encode()).hexdigest()[:10]
            start = n * 17.25
            name = f"dev/{language}/{video}__U__S{n}---{start:08.3f}-{start + 7:08.3f}.wav"
            seconds = {0: 18.64, 1: 19.5}.get((n + files) % 11, 0.5 + n % 4 * 0.3)
            tree[name] = sound("vox_lingua_top10", f"full/{name}", seconds, 16000)
    return {"dev.zip": tree, "vox_lingua-train-small.zip": tree}


def vocal_imitation() -> dict[str, Tree]:
    """Imitations of six sounds in seven formats, some of them not included."""
    root, number, rows = "VocalImitationSet", 0, []
    tree: Tree = {f"{root}/readme.txt": b"Vocal imitations.\n"}
    for reference in IMITATED:
        for n in range(8):
            number += 1
            name, is_included = f"{number:03d}_{reference}", n != 7
            rate, channels, subtype = RECORDED_IN[number % 7 if is_included else 0]
            seconds = {0: 11.26, 1: 13.0}.get(number % 9, 0.5 + n * 0.4)
            samples = tones(f"vocal_imitation/{name}", round(seconds * rate), rate, channels)
            member = f"{root}/vocal_imitations/{'included' if is_included else 'excluded'}/{name}"
            tree[member] = wav(f"vocal_imitation/full/{member}", samples, rate, subtype)
            kind = "draft" if n % 2 else "nothing"
            rows.append((name, 1000 + number % 11, reference, kind, int(is_included), 60 + n))
    for r, reference in enumerate(IMITATED):
        tree |= _original("reference", reference)
        # The last class has no other recording.
        for n in range(3 if r < len(IMITATED) - 1 else 0):
            tree |= _original("non_reference", reference.replace(".wav", f"_{n}.wav"))
    header = ("imitation_filename", "participant_id", "reference_filename")
    described = table((*header, "recording_type", "included", "score"), rows, "\t")
    tree[f"{root}/vocal_imitations.txt"] = described
    return {"VocalImitationSet_v1.1.3.zip": tree, "vocal_imitation-train-small.zip": tree}


def _original(kind: str, name: str) -> Tree:
    member = f"VocalImitationSet/original_recordings/{kind}/{name}"
    return {member: sound("vocal_imitation", f"full/{member}", 0.9, 44100)}


def coughvid() -> dict[str, Tree]:
    """Coughs as Opus in WebM and Ogg, some of them unlikely or without status.

    The samples depend on the encoder, hence on the edition of ffmpeg: goldens hold for lengths, not for MD5s.
    """
    sounds: Tree = {}
    tree: Tree = {}
    rows: list[Row] = []
    for n in range(45):
        digest = hashlib.sha1(f"cough {n}".encode()).hexdigest()
        uuid = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:32]))
        status = ("COVID-19", "healthy", "symptomatic")[n % 3] if n % 9 != 8 else ""
        cough = {0: 0.8, 1: 0.31}.get(n % 13, 0.81 + n % 10 * 0.01)
        name = f"public_dataset/{uuid}.{'webm' if n % 4 else 'ogg'}"
        frames = int({0: 10.3, 1: 10.19}.get(n % 10, 1.9 + n % 5 * 0.4) * 48000)
        sounds[name] = wav(name, tones(f"coughvid/full/{name}", frames, 48000), 48000)
        facts = {"datetime": "2020-04-13T21:30:59+00:00", "status": status}
        tree[f"public_dataset/{uuid}.json"] = as_json(facts)
        when, illness = "2020-04-13T21:30:59.801831+00:00", (n % 2 == 0, n % 3 == 0)
        rows.append((uuid, when, f"{cough:.4f}", 16.15, "", "", 15 + n, "female", *illness, status))
    header = ("uuid", "datetime", "cough_detected", "SNR", "latitude", "longitude", "age", "gender")
    described = table((*header, "respiratory_condition", "fever_muscle_pain", "status"), rows)
    tree["public_dataset/metadata_compiled.csv"] = described
    return {"public_dataset.zip": {**tree, **_opus(sounds)}}


def _opus(sounds: Tree) -> Tree:
    """Wav files encoded as their suffixes say, by one process."""
    with tempfile.TemporaryDirectory() as folder:
        words = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error"]
        for i, content in enumerate(sounds.values()):
            write_tree({f"{i}.wav": content}, Path(folder))
            words += ["-i", f"{folder}/{i}.wav"]
        write_tree(dict.fromkeys(sounds, b""), Path(folder))
        how = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-c:a", "libopus"]
        for i, name in enumerate(sounds):
            words += ["-map", f"{i}:a", *how, "-b:a", "64k", "-y", f"{folder}/{name}"]
        subprocess.run(words, check=True)
        return {name: (Path(folder) / name).read_bytes() for name in sounds}
