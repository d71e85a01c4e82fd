"""What is in an archive: members by name, and the tables and checksum lists that go with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

Tree = dict[str, bytes]
Row = Sequence[object]


def table(header: Row, rows: Iterable[Row], delimiter: str = ",") -> bytes:
    """A table as text, quoted where needed."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def as_json(value: object) -> bytes:
    """A value as JSON that keeps letters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False).encode()


def like_tfds(dataset: str, clips: Iterable[tuple[bytes, object]], split: str = "train") -> Tree:
    """A small archive of a TensorFlow dataset: (sound, label) pairs under names that tell neither."""
    tree: Tree = {}
    rows = []
    for i, (content, label) in enumerate(clips):
        name = f"tfds_id_{dataset.replace('_', '-')}-{split}-tfrecord-00000-of-00001-{i}.wav"
        tree[f"audio/{name}"] = content
        rows.append((name, label))
    return {**tree, f"{split}_labels.csv": table(("filename", "label"), rows)}


def write_tree(tree: Tree, folder: Path) -> Path:
    """The members as files below a folder."""
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def md5sums(folder: Path) -> Path:
    """An md5sum file of everything below a folder."""
    target = folder / "MD5SUMS"
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != target)
    sums = [f"{hashlib.md5(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in paths]
    target.write_text("".join(sums))
    return target
