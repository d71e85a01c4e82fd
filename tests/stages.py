"""The code of each stage and the version it had; `python -m tests.stages` records both as they are."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

from heareval.archives.unpack import extract
from heareval.embeddings import environment, store, submission
from heareval.predictions import protocol
from heareval.tasks import adopt, audio, metadata, tarball
from heareval.tasks.own import task as own

PACKAGE = Path(__file__).parent.parent / "heareval"
RECORD = Path(__file__).with_name("stages.json")
# Stage -> its version, and the files whose code decides its output.
STAGES = {
    "extract": (
        extract.VERSION,
        [f"archives/unpack/{name}.py" for name in ("extract", "members", "parts", "rar", "volumes")],
    ),
    "adopt": (adopt.VERSION, ["tasks/adopt.py"]),
    "own": (own.VERSION, ["tasks/own/task.py", "tasks/own/sounds.py"]),
    "clips": (
        metadata.VERSION,
        [f"tasks/{name}.py" for name in ("metadata", "splits", "sources", "tfds", "midi", "shots")],
    ),
    "audio": (audio.VERSION, ["tasks/audio.py", "tasks/decode.py"]),
    "tar": (tarball.VERSION, ["tasks/tarball.py"]),
    "environment": (environment.VERSION, ["embeddings/environment.py", "embeddings/source.py"]),
    "submission": (submission.VERSION, ["embeddings/submission.py"]),
    "embed": (store.VERSION, [f"embeddings/{name}.py" for name in ("store", "worker", "journal")]),
    "predict": (
        protocol.PREDICTOR_VERSION,
        [
            *(
                f"predictions/{name}.py"
                for name in ("protocol", "data", "rows", "network", "training", "events")
            ),
            *(f"predictions/{name}.py" for name in ("scoring", "selection", "results", "bootstrap")),
            *(f"predictions/metrics/{name}.py" for name in ("__init__", "clip", "drawn", "event")),
        ],
    ),
}


def code_digest(names: list[str]) -> str:
    """Digest of some files' code; comments, docstrings and layout don't count."""
    digest = hashlib.sha256()
    for name in names:
        tree = ast.parse((PACKAGE / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def current() -> dict[str, list[object]]:
    """Version and code digest of every stage, now."""
    return {stage: [version, code_digest(names)] for stage, (version, names) in STAGES.items()}


if __name__ == "__main__":
    RECORD.write_text(json.dumps(current(), indent=1) + "\n")
