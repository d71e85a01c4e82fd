"""Corpora of what else there is to hear: offices, beehives, the street."""

from __future__ import annotations

from tests.stand_ins.sounds import generator, sound
from tests.stand_ins.trees import Tree, as_json, table

OFFICE_SOUNDS = (
    *("clearthroat", "cough", "doorslam", "drawer", "keyboard", "keys"),
    *("knock", "laughter", "pageturn", "phone", "speech"),
)
HIVES = {
    "Hive1_12_06_2018": ("QueenBee_H1", 18),
    "Hive1_31_05_2018": ("NO_QueenBee_H1", 16),
    "Hive3_14_07_2017": ("NO_QueenBee_H3", 15),
    "Hive3_28_07_2017": ("QueenBee_H3", 17),
}
ESC_TARGETS = {
    "dog": 0,
    "chirping_birds": 14,
    "vacuum_cleaner": 36,
    "thunderstorm": 19,
    "door_wood_knock": 30,
    "can_opening": 34,
}
FSD_CLASSES = (
    *("Accelerating_and_revving_and_vroom", "Bark", "Dog", "Domestic_animals_and_pets", "Animal"),
    *("Water_tap_and_faucet", "Liquid"),
)
# What a clip is labelled with, by places in FSD_CLASSES.
FSD_GROUPS = ((0,), (1, 2, 3, 4), (5, 6), (2, 3, 4), (6,), (4,))
# Dev clips that 2021 left out because of their length.
FSD_TOO_LONG = (
    *(83299, 83298, 121426, 121351, 121472, 121471),
    *(124796, 397150, 124797, 124800, 124834, 124858),
)


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
    draw, rows, onset = generator(stem), [], 0.25
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


def beehive() -> dict[str, Tree]:
    """Two hives with and without their queen, a rar archive each; the small ones are zips of the same."""
    archives: dict[str, Tree] = {}
    for folder, (state, count) in HIVES.items():
        tree: Tree = {}
        for n in range(count):
            name = f"{folder}/{folder}_{state}_audio___{6 + n // 6:02d}_{n % 6}0_00.wav"
            seconds = {0: 30.0, 1: 31.25}.get(n % 9, 1 + n % 3)
            tree[name] = sound("beehive", f"{folder}/{name}", seconds, 44100)
        hive, _, date = folder.lower().partition("_")
        archives[f"{folder}.rar"] = archives[f"{hive}_{date.replace('_', '')}.zip"] = tree
    return archives


def esc50() -> dict[str, Tree]:
    """Six categories in five folds; the small archive lacks most second takes."""
    root, rows = "ESC-50-master", []
    tree: Tree = {f"{root}/README.md": b"ESC-50\n"}
    for fold in range(1, 6):
        for category, target in ESC_TARGETS.items():
            for take in "AB":
                source = 100000 * fold + 37 * target + ord(take)
                name = f"{fold}-{source}-{take}-{target}.wav"
                seconds = {2: 4.0, 3: 5.5}.get(fold, 5.0) if take == "B" else 5.0
                member = f"{root}/audio/{name}"
                tree[member] = sound("esc50", f"full/{member}", seconds, 44100)
                rows.append((name, fold, target, category, target < 20, source, take))
    header = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    tree[f"{root}/meta/esc50.csv"] = table(header, rows)
    gone = sorted(name for name in tree if "-B-" in name)[3:]
    small = {name: content for name, content in tree.items() if name not in gone}
    return {"master.zip": tree, "esc50-all_folds-small.zip": small}


def fsd50k() -> dict[str, Tree]:
    """Clips of free length with several labels each, twelve of them too long; the small zips are whole."""
    parts = {"dev": _fsd_dev(), "eval": [(1720 + 7 * n, 0.3 + n % 4 * 0.4, n, "") for n in range(16)]}
    mids = {name: f"/m/0{i}abc{i}" for i, name in enumerate(FSD_CLASSES)}
    rows = [(i, name, mids[name]) for i, name in enumerate(FSD_CLASSES)]
    truth: Tree = {"FSD50K.ground_truth/vocabulary.csv": table(("0", "x", "y"), rows)}
    facts: Tree = {}
    audio: dict[str, Tree] = {}
    for part, clips in parts.items():
        audio[part], told, about = {}, [], {}
        for number, seconds, n, split in clips:
            name = f"FSD50K.{part}_audio/{number}.wav"
            audio[part][name] = sound("fsd50k", f"{part}/{name}", seconds, 44100)
            labels = [FSD_CLASSES[i] for i in FSD_GROUPS[n % 6]]
            told.append((number, ",".join(labels), ",".join(mids[x] for x in labels), *[split] * bool(split)))
            about[str(number)] = _fsd_facts(number, labels)
        header = ("fname", "labels", "mids", *["split"] * (part == "dev"))
        truth[f"FSD50K.ground_truth/{part}.csv"] = table(header, told)
        facts[f"FSD50K.metadata/{part}_clips_info_FSD50K.json"] = as_json(about)
    published = {"FSD50K.dev_audio.zip": audio["dev"], "FSD50K.eval_audio.zip": audio["eval"]}
    small = {"fsd50k-train-small.zip": audio["dev"], "fsd50k-test-small.zip": audio["eval"]}
    truths = {f"{name}.zip": truth for name in ("FSD50K.ground_truth", "fsd50k-ground_truth-small")}
    metadata = {f"{name}.zip": facts for name in ("FSD50K.metadata", "fsd50k-source_metadata-small")}
    return {**published, **small, **truths, **metadata}


def _fsd_dev() -> list[tuple[int, float, int, str]]:
    """(clip, seconds, group, split)"""
    short = [(64760 + 13 * n, 0.3 + n % 5 * 0.35, n, "val" if n % 5 == 3 else "train") for n in range(40)]
    return short + [(clip, 30.5, n, "train" if n % 3 else "val") for n, clip in enumerate(FSD_TOO_LONG)]


def _fsd_facts(number: int, labels: list[str]) -> dict[str, object]:
    return {
        "title": f"Clip {number} \N{EN DASH} été",
        "description": 'A, "sound"\nwith lines',
        "tags": labels,
        "license": "http://creativecommons.org/licenses/by/3.0/",
        "uploader": f"user{number % 9}",
    }
