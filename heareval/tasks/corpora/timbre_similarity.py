"""Timbre: how different do people find two sounds of musical instruments?

Twenty-one listening experiments from 1977 to 2020, in which people rated every pair of 11 to 24 sounds. Some
sounds and some sets of sounds were used in several experiments. Clips keep the length of the sounds, from
0.09 to 4.39 seconds.

No licence is stated, so sounds and ratings are fetched from the publisher at one commit, and no tarball is
packed from them.

Source: Tian et al., "Assessing the Alignment of Audio Representations with Timbre Similarity Ratings", 2025.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from heareval.errors import HearevalError
from heareval.spec import LISTED, Archives, Download, Mode, RatedPair, Ratings, Recording, Splits, TaskSpec

COMMIT = "c611b3a6a41872e5037a9e14099d15a70407c124"
ADDRESS = f"https://raw.githubusercontent.com/tiianhk/timbremetrics/{COMMIT}/timbremetrics/"
# The SHA-256 of `sounds/<set>/<file>.aiff` and `true_dissim/<set>_dissimilarity_matrix.txt` at this commit.
MANIFEST = Path(__file__).with_name("timbre_manifest.sha256")
MATRIX = "_dissimilarity_matrix.txt"
SOUND_DIGITS = 16  # of the SHA-256, which name a sound


def _read_manifest(suffix: str) -> Mapping[str, str]:
    """Return the SHA-256 of the files with a suffix, by their paths, which are sorted."""
    lines = MANIFEST.read_text(encoding="ascii").splitlines()
    checksums = {path: checksum for checksum, path in (line.split("  ") for line in lines)}
    return {path: checksums[path] for path in sorted(checksums) if path.endswith(suffix)}


def _name_sounds() -> Mapping[str, Sequence[str]]:
    """Return the paths of the sounds of each set, in the order of the rows of its matrix."""
    sets = defaultdict(list)
    for path in _read_manifest(".aiff"):
        sets[PurePosixPath(path).parent.name].append(path)
    return sets


def _list_matrices() -> tuple[Download, ...]:
    return tuple(
        Download(ADDRESS + path, checksum, key=PurePosixPath(path).name.removesuffix(MATRIX))
        for path, checksum in _read_manifest(MATRIX).items()
    )


def listed_files(archives: Archives) -> Iterator[Download]:
    """Yield the sounds; those of one name in several sets are the same file, which is fetched once."""
    by_name = {PurePosixPath(path).name: (path, sum_) for path, sum_ in _read_manifest(".aiff").items()}
    for path, checksum in by_name.values():
        yield Download(ADDRESS + quote(path), checksum)


def read_recordings(archives: Archives, mode: str) -> Iterator[Recording]:
    """Yield the 334 sounds of all sets; equal files have equal values of the attribute `sound`."""
    checksums = _read_manifest(".aiff")
    for name, paths in _name_sounds().items():
        for path in paths:
            attributes = {"set": name, "sound": checksums[path][:SOUND_DIGITS]}
            source = archives[LISTED] / PurePosixPath(path).name
            yield Recording(source, _name_clip(path), split="test", attributes=attributes)


def read_relation(archives: Archives, mode: str) -> Ratings:
    """Return the 2,614 rated pairs; intervals resample sounds.

    Raises:
        HearevalError: a matrix does not have a row and a column for each sound of its set.
    """
    pairs: list[RatedPair] = []
    for name, paths in _name_sounds().items():
        table = archives[name] / f"{name}{MATRIX}"
        rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()]
        if {len(rows), *map(len, rows)} != {len(paths)}:
            raise HearevalError(
                f"ratings {table}",
                got=f"{len(rows)} rows of {sorted({*map(len, rows)})} numbers",
                expected=f"{len(paths)} rows of {len(paths)} numbers",
                remedy="The file is damaged: fetch it again.",
            )
        clips = [_name_clip(path) for path in paths]
        # Only the upper triangle holds ratings.
        pairs += (
            RatedPair(clips[i], clips[j], float(rows[i][j]), group=name)
            for i, j in combinations(range(len(clips)), 2)
        )
    return Ratings(tuple(pairs), unit="sound")


def _name_clip(path: str) -> str:
    """Return the clip id of a sound.

    >>> _name_clip("sounds/McAdams1995/01_horn.aiff")
    'McAdams1995_01_horn'
    """
    return f"{PurePosixPath(path).parent.name}_{PurePosixPath(path).stem}"


_FULL = Mode(
    _list_matrices(), clips=334, mean_clip_s=1.05, listed_files=listed_files, listed_bytes=26_300_000
)
TASK = TaskSpec(
    name="timbre_similarity",
    version=COMMIT[:7],
    embedding_type="scene",
    prediction_type="pairwise",
    splits=Splits("test_only"),
    clip_duration_s=None,
    metrics=("spearman", "kendall", "triplet_agreement"),
    modes={"full": _FULL},
    default_mode="full",
    read_recordings=read_recordings,
    read_relation=read_relation,
)
