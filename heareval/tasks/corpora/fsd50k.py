"""FSD50K: Freesound clips of different lengths, with several labels each.

Source: Fonseca et al., "FSD50K: An Open Dataset of Human-Labeled Sound Events", 2022.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from heareval.errors import HearevalError
from heareval.spec import Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks.sources import downsampled, read_table, zenodo

# Part of the corpus -> the archive with its audio.
PARTS = {"dev": "train", "eval": "test"}
SPLITS = {"train": "train", "val": "valid", "test": "test"}
# Clips of the development set that HEAR excludes.
_LEFT_OUT = (83299, 83298, 121426, 121351, 121472, 121471, 124796, 397150, 124797, 124800, 124834, 124858)
EXCLUDED = frozenset(map(str, _LEFT_OUT))


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the clips of `dev.csv`, which gives their split, and of `eval.csv`, which are all test."""
    excluded = set()
    for part, archive in PARTS.items():
        sounds = archives[archive] / f"FSD50K.{part}_audio"
        facts = archives["source_metadata"] / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
        uploaders = json.loads(facts.read_text(encoding="utf-8"))
        for row in read_table(archives["ground_truth"] / "FSD50K.ground_truth" / f"{part}.csv"):
            name = row["fname"]
            if part == "dev" and name in EXCLUDED:
                excluded.add(name)
                continue
            if name not in uploaders:
                raise HearevalError(f"clip {name} of {part}.csv", got="no entry", expected=f"one in {facts}")
            labels, split = tuple(row["labels"].split(",")), SPLITS[row.get("split", "test")]
            group = uploaders[name]["uploader"]
            yield Recording(sounds / f"{name}.wav", name, labels, split=split, group=group)
    if missing := EXCLUDED - excluded:
        raise HearevalError("dev.csv", got=f"no {min(missing)}", expected="the clips that HEAR leaves out")


RECORD = 4060432


def _in_volumes(part: str, split: str, *checksums: str) -> Download:
    """Return the download of a zip in volumes, `.z01` and so on; the last volume ends in `.zip`."""
    *earlier, last = checksums
    name = f"FSD50K.{part}_audio"
    volumes = tuple(zenodo(RECORD, f"{name}.z{i:02d}", md5) for i, md5 in enumerate(earlier, start=1))
    return zenodo(RECORD, f"{name}.zip", last, split, volumes=volumes)


_PUBLISHED = (
    _in_volumes(
        *("dev", "train", "faa7cf4cc076fc34a44a479a5ed862a3", "8f9b66153e68571164fb1315d00bc7bc"),
        *("1196ef47d267a993d30fa98af54b7159", "d088ac4e11ba53daf9f7574c11cccac9"),
        *("81356521aa159accd3c35de22da28c7f", "c480d119b8f7a7e32fdb58f3ea4d6c5a"),
    ),
    _in_volumes("eval", "test", "3090670eaeecc013ca1ff84fe4442aeb", "6fa47636c3a3ad5c7dfeba99f2637982"),
    zenodo(RECORD, "FSD50K.ground_truth.zip", "ca27382c195e37d2269c4c866dd73485", "", name="ground_truth"),
    zenodo(RECORD, "FSD50K.metadata.zip", "b9ea0c829a411c1d42adb9da539ed237", "", name="source_metadata"),
)
_DOWNSAMPLED = (
    downsampled("fsd50k-train-small.zip", "75fc0ae63467ada263ead31afff0978a", "train"),
    downsampled("fsd50k-test-small.zip", "1b3c32e6183b6f991b32ad2ee793a2c5", "test"),
    downsampled("fsd50k-ground_truth-small.zip", "e730b34c0d71a4607338c8fea1b3c3d2", "ground_truth"),
    downsampled("fsd50k-source_metadata-small.zip", "df52ffa58ffd99b3d2ac151b36c7e71c", "source_metadata"),
)

TASK = TaskSpec(
    name="fsd50k",
    version="v1.0",
    embedding_type="scene",
    prediction_type="multilabel",
    splits=Splits("trainvaltest"),
    clip_duration_s=None,
    metrics=("mAP", "d_prime", "aucroc", "top1_acc"),
    modes={
        "full": Mode(_PUBLISHED, clips=51185),
        "small": Mode(_DOWNSAMPLED, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
)
