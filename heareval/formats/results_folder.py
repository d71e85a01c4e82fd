"""The results that an evaluation leaves in an embeddings folder: scores as JSON, predictions as NPZ.

`test.*predicted-scores.json` holds `Scores`. `test.*predictions.npz` has the members `fingerprint`, and
`<split>/clips`, `<split>/targets` and so on for every tested split. In pairwise tasks it holds what was
measured between the clips instead, such as `test/distances`.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heareval import files, layout
from heareval.errors import HearevalError, file_error
from heareval.formats.agreement import check_agreement
from heareval.formats.digests import check_unchanged
from heareval.formats.fields import read_fields
from heareval.formats.scores import FoldEntry, Scores, drop_intervals, parse_scores, scores_to_json

# Scores that are there count as complete, so evaluating again without removing them does nothing.
EVALUATE_AGAIN = "Remove the scores file of this protocol, and evaluate the task again."

# What numpy and zipfile raise for a damaged file. A RuntimeError is about encryption or compression.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(ValueError, EOFError, AttributeError, MemoryError, RuntimeError),
)

# The 2021 kit names every tested split at the top of its scores file.
KEY_OF_2021 = re.compile(r"test|fold\d+|aggregated_scores")


def write_scores(folder: Path, scores: Scores) -> Path:
    """Write a scores file whole or not at all, and return its path."""
    path = folder / layout.scores(scores.protocol)
    files.write_json(path, scores_to_json(scores))
    return path


def read_scores(path: Path) -> Scores:
    """Return the content of a scores file, without intervals that mean nothing, which heareval 0.1.0 wrote.

    Raises:
        HearevalError: the file is missing, can't be read, doesn't hold scores, or holds numbers that
            contradict each other.
    """
    fields = read_fields(path, remedy=EVALUATE_AGAIN)
    if "fingerprint" not in fields and any(KEY_OF_2021.fullmatch(key) for key in fields):
        raise HearevalError(
            f"{path}",
            got="scores of the 2021 kit",
            expected="scores of heareval, with the predictions for every clip",
            remedy="Move the folder away, then embed and evaluate the task again.",
        )
    scores = parse_scores(fields)
    check_agreement(fields, scores)
    return drop_intervals(scores)


def find_scores_fingerprint(folder: Path, protocol: str) -> str:
    """Return the fingerprint of a protocol's results; "" if they are missing, incomplete or damaged."""
    if not files.has_file(folder, layout.predictions(protocol)):
        return ""
    try:
        return read_fields(folder / layout.scores(protocol)).text("fingerprint", "")
    except HearevalError:
        return ""


def check_replaceable(folder: Path, protocol: str) -> None:
    """Raise HearevalError if the scores of a protocol are damaged, so that a new evaluation would lose them.

    Scores that can be read are replaced, for example by those of another seed.
    """
    if (path := folder / layout.scores(protocol)).exists():
        read_fields(path, remedy=EVALUATE_AGAIN).text("fingerprint")


# --------------------------------------------------------------------------- predictions


@dataclass(frozen=True)
class SplitPredictions:
    """The predictions for one tested split.

    Args:
        clips: file names of the clips, in the order of the rows.
        targets: `(clips, labels)`, or `(clips, timestamps, labels)` in event tasks, of 0 and 1.
        predictions: probabilities, `(seeds, *shape of targets)`.
        timestamps_ms: `(clips, timestamps)` milliseconds; None in scene tasks.
        postprocessing: by name what turned frames into events, `(seeds,)` each; {} in scene tasks.
    """

    clips: tuple[str, ...]
    targets: NDArray[np.uint8]
    predictions: NDArray[np.float32]
    timestamps_ms: NDArray[np.float64] | None = None
    postprocessing: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


# Members of a split in the NPZ file, beside the names of its postprocessing.
CLIPS, TARGETS, PREDICTIONS, TIMESTAMPS = "clips", "targets", "predictions", "timestamps_ms"


@dataclass(frozen=True)
class SplitDistances:
    """What was measured between the clips of the tested split of a pairwise task.

    Args:
        clips: file names of the clips, sorted.
        arrays: what was measured, by name.
    """

    clips: tuple[str, ...]
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class StoredArray:
    """What an array of a predictions file must be.

    Args:
        dtypes: letters of the numpy kinds of types.
        shape: None is an axis of any length.
    """

    dtypes: str
    shape: tuple[int | None, ...]


def write_predictions(
    folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, SplitPredictions]
) -> None:
    """Write a predictions file whole or not at all.

    Args:
        fingerprint: fingerprint of the results, as in the scores file.
        splits: the predictions by tested split.
    """
    members: dict[str, NDArray[Any]] = {"fingerprint": np.array(fingerprint)}
    for split, predictions in splits.items():
        members |= {f"{split}/{name}": value for name, value in _members(predictions)}
    _write_members(folder / layout.predictions(protocol), members)


def write_distances(
    folder: Path, protocol: str, fingerprint: str, splits: Mapping[str, SplitDistances]
) -> None:
    """Write the predictions file of a pairwise task whole or not at all.

    Args:
        fingerprint: fingerprint of the results, as in the scores file.
        splits: what was measured, by tested split.
    """
    members: dict[str, NDArray[Any]] = {"fingerprint": np.array(fingerprint)}
    for split, measured in splits.items():
        members[f"{split}/{CLIPS}"] = np.array(measured.clips, dtype=np.str_)
        members |= {f"{split}/{name}": array for name, array in measured.arrays.items()}
    _write_members(folder / layout.predictions(protocol), members)


def _write_members(path: Path, members: Mapping[str, NDArray[Any]]) -> None:
    with files.building_file(path) as scratch, open(scratch, "wb") as stream:
        np.savez_compressed(stream, **members)  # type: ignore[arg-type]


def _members(predictions: SplitPredictions) -> Iterator[tuple[str, NDArray[Any]]]:
    yield CLIPS, np.array(predictions.clips, dtype=np.str_)
    yield TARGETS, predictions.targets
    yield PREDICTIONS, _without_single_seed(predictions.predictions)
    if predictions.timestamps_ms is not None:
        yield TIMESTAMPS, predictions.timestamps_ms
    for name, values in predictions.postprocessing.items():
        yield name, _without_single_seed(values)


def _without_single_seed(values: NDArray[Any]) -> NDArray[Any]:
    # Files of one seed have no axis for seeds, as in the first version of this format.
    return np.asarray(values[0] if len(values) == 1 else values)


def read_predictions(
    folder: Path, scores: Scores, shapes: Mapping[str, tuple[int | None, ...]]
) -> dict[str, SplitPredictions]:
    """Return the predictions that belong to a scores file, by tested split.

    Args:
        shapes: shape of the targets of every tested split; None is an axis of any length.

    Raises:
        HearevalError: the file is missing, can't be read, belongs to other scores or has other shapes, or
            another program has changed it.
    """
    path = folder / layout.predictions(scores.protocol)
    with _open_members(path, scores) as members:
        return {
            folds[0].test: _read_split(path, members, folds, shapes[folds[0].test])
            for folds in zip(*(run.folds for run in scores.runs), strict=True)
        }


def read_distances(
    folder: Path, scores: Scores, clips: int, arrays: Mapping[str, StoredArray]
) -> dict[str, SplitDistances]:
    """Return what was measured of a pairwise task, from the file that belongs to its scores, by tested split.

    Args:
        clips: number of clips.
        arrays: what each array must be, by name.

    Raises:
        HearevalError: the file is missing, can't be read, belongs to other scores or has other shapes, or
            another program has changed it.
    """
    path = folder / layout.predictions(scores.protocol)
    found = {}
    with _open_members(path, scores) as members:
        for fold in scores.runs[0].folds:
            names = _read_member(path, members, f"{fold.test}/{CLIPS}", "U", (clips,))
            found[fold.test] = SplitDistances(
                tuple(map(str, names)),
                {
                    name: _read_member(path, members, f"{fold.test}/{name}", array.dtypes, array.shape)
                    for name, array in arrays.items()
                },
            )
    return found


@contextlib.contextmanager
def _open_members(path: Path, scores: Scores) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Open a predictions file and yield its members by name.

    Raises:
        HearevalError: the file is missing, can't be read, or belongs to other scores, or another program has
            changed it.
    """
    if scores.predictions and path.exists():
        check_unchanged(path.parent, {path.name: scores.predictions}, EVALUATE_AGAIN)
    try:
        with np.load(path, allow_pickle=False) as members:
            # Files of the first version have no fingerprint inside.
            found = str(members.get("fingerprint", scores.fingerprint))
            if found != scores.fingerprint:
                raise HearevalError(
                    f"{path}",
                    got=f"predictions with fingerprint {found}",
                    expected=f"{scores.fingerprint}, as in the scores",
                    remedy=EVALUATE_AGAIN,
                )
            yield members
    except FileNotFoundError:
        raise HearevalError(
            f"{path}", got="no such file", expected="the predictions of the scores", remedy=EVALUATE_AGAIN
        ) from None
    except _UNREADABLE as error:
        raise HearevalError(f"{path} can't be read", got=str(error), remedy=EVALUATE_AGAIN) from None
    except OSError as error:
        raise file_error(error) from None


def _read_split(
    path: Path,
    members: Mapping[str, NDArray[Any]],
    folds: Sequence[FoldEntry],
    expected: tuple[int | None, ...],
) -> SplitPredictions:
    """Return the predictions for one split, which was tested by one fold of each seed."""
    fold, seeds = folds[0], len(folds)

    def read(name: str, kinds: str, *shapes: tuple[int | None, ...]) -> NDArray[Any]:
        return _read_member(path, members, f"{fold.test}/{name}", kinds, *shapes)

    targets = read(TARGETS, "iufb", expected)
    shape = targets.shape
    predictions = read(PREDICTIONS, "f", *_with_seeds(seeds, shape))
    timestamps_ms = None
    postprocessing: dict[str, NDArray[np.float64]] = {}
    if fold.model.postprocessing is not None:
        timestamps_ms = read(TIMESTAMPS, "f", shape[:2])
        for name in fold.model.postprocessing:
            values = np.broadcast_to(read(name, "f", (seeds,), ()), (seeds,))
            recorded = [(each.model.postprocessing or {}).get(name) for each in folds]
            if values.tolist() != recorded:
                raise _wrong_member(
                    path, f"{fold.test}/{name}", f"{values.tolist()}", f"{recorded}, as in the scores"
                )
            postprocessing[name] = values
    clips = tuple(map(str, read(CLIPS, "U", shape[:1])))
    if predictions.dtype == np.float16:
        # As cards store them. Metrics would add them up as float16.
        predictions = predictions.astype(np.float32)
    return SplitPredictions(clips, targets, predictions.reshape(seeds, *shape), timestamps_ms, postprocessing)


def _read_member(
    path: Path, members: Mapping[str, NDArray[Any]], member: str, kinds: str, *shapes: tuple[int | None, ...]
) -> NDArray[Any]:
    # Every access unpacks the member again, so each is read once.
    if member not in members:
        raise _wrong_member(path, member, "nothing", f"an array {shapes[0]}")
    array = members[member]
    if array.dtype.kind not in kinds or not any(_matches(array.shape, shape) for shape in shapes):
        raise _wrong_member(path, member, f"{array.dtype} {array.shape}", f"an array {shapes[0]}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _wrong_member(path, member, "NaN or infinity", "finite numbers")
    return array


def _with_seeds(seeds: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (shape, (seeds, *shape)) if seeds == 1 else ((seeds, *shape),)


def _matches(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, length) for length, wanted in zip(shape, expected, strict=True)
    )


def _wrong_member(path: Path, member: str, got: str, expected: str) -> HearevalError:
    return HearevalError(f"{path}: {member}", got=got, expected=expected, remedy=EVALUATE_AGAIN)
