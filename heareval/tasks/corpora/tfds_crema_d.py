"""CREMA-D: actors say sentences with six emotions; clip names of TensorFlow Datasets (TFDS).

Source: Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", 2014; TFDS crema_d 1.0.0.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator

from heareval.errors import HearevalError
from heareval.spec import LISTED, Archives, Download, Mode, Recording, Splits, TaskSpec
from heareval.tasks import tfds
from heareval.tasks.sources import SCENE_METRICS, downsampled

NATIVE_RATE_HZ = 16000
SUMMARY = "summaryTable.csv"
# Entries of the table that have no audio or are not used.
LEFT_OUT = ("FileName", "", "1040_ITH_SAD_XX", "1006_TIE_NEU_XX", "1013_WSI_DIS_XX", "1017_IWW_FEA_XX")
_TABLE = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master/processedResults/"
_SOUNDS = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/AudioWAV/"


def listed_files(archives: Archives) -> Iterator[Download]:
    """Yield the audio files of the summary table, with the checksums that TFDS publishes."""
    published = tfds.published_checksums(archives["checksums"] / "crema_d.txt")
    table = archives["summary"] / SUMMARY
    found = hashlib.sha256(table.read_bytes()).hexdigest()
    expected = published.get(SUMMARY, ("", found))[1]
    if found != expected:
        raise HearevalError(f"{SUMMARY} of crema_d", got=f"SHA-256 {found}", expected=expected)
    for name in _names(archives):
        yield Download(*published.get(f"{name}.wav", (f"{_SOUNDS}{name}.wav", "")))


def _names(archives: Archives) -> list[str]:
    with open(archives["summary"] / SUMMARY, encoding="utf-8", newline="") as stream:
        return [row[1] for row in csv.reader(stream) if row and row[1] not in LEFT_OUT]


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the three sets of TFDS; files are named `<speaker>_<sentence>_<emotion>_<level>.wav`."""
    if mode == "small":
        for split in ("train", "test", "valid"):
            yield from tfds.small_recordings(archives[split], split)
        return
    names = _names(archives)
    for split, speakers in tfds.draw_sets({name.split("_")[0] for name in names}).items():
        files = {n: archives[LISTED] / f"{n}.wav" for n in names if n.split("_")[0] in speakers}
        # With the audio, TFDS stores the four digits of the speaker, and not the file's name.
        ids = tfds.clip_ids("crema_d", split, files, NATIVE_RATE_HZ, {"speaker_id": 4})
        for path, clip_id in ids.items():
            yield Recording(path, clip_id, (path.stem.split("_")[2],))


_LIST = Download(
    "https://storage.googleapis.com/tfds-data/manual_checksums/crema_d.txt",
    "66b5d959dcee997321baf9080c80022a6937279419446db3a9d4827d839b0abb",
    key="checksums",
)
_DOWNSAMPLED = (
    downsampled("crema_d-train-small.zip", "a42147d0bed93d579250a064c6a46000", "train"),
    downsampled("crema_d-test-small.zip", "f7f9d662d43de2ecd6ed2cc75adcf315", "test"),
    downsampled("crema_d-valid-small.zip", "d1bdddb23004d421218533b72e64737c", "valid"),
)

TASK = TaskSpec(
    name="tfds_crema_d",
    version="1.0.0",
    embedding_type="scene",
    prediction_type="multiclass",
    splits=Splits("new_split_kfold", folds=5),
    clip_duration_s=5,
    labels=("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"),
    metrics=SCENE_METRICS,
    modes={
        "full": Mode(
            (_LIST, Download(_TABLE + SUMMARY, "", key="summary")), clips=7438, listed_files=listed_files
        ),
        "small": Mode(_DOWNSAMPLED, clip_duration_s=2, drop_missing_files=True),
    },
    default_mode="full",
    read_recordings=read_recordings,
    settings=tfds.settings("crema_d", "1.0.0", ["train", "test", "valid"]),
    lists_downloads=False,
)
