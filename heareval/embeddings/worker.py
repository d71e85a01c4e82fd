"""Runs a submission: `python worker.py JOB.json` describes a model or embeds the clips of one task.

This file runs in the submission's environment and needs only the standard library, numpy and what
the submission brings. It writes one JSON object per line to stdout: {"done", "total"} for progress,
{"result": ...} or {"error": {"what", "got", "expected", "remedy"}}. Whatever the submission
prints goes to stderr.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import importlib
import itertools
import json
import os
import signal
import sys
import sysconfig
import time
import traceback
import types
import wave
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
SIZES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
REPORT_S = 0.2


class SubmissionError(Exception):
    """Something about the submission or its input is wrong: what, got, expected, remedy."""

    def __init__(self, what: str, got: str = "", expected: str = "", remedy: str = "") -> None:
        super().__init__(what, got, expected, remedy)
        self.facts = {"what": what, "got": got, "expected": expected, "remedy": remedy}


# --------------------------------------------------------------------------- the submission


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """Tell an exception of the submission's own code in one line; the traceback goes to the log."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = (str(error).strip().splitlines() or [""])[0]
        raise SubmissionError(
            what,
            got=f"{type(error).__name__}: {told} (line {last.lineno} of {last.filename})",
            expected="no exception",
        ) from error


def load_submission(module_name: str, model_file: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """The imported module and its model, both checked against the HEAR API."""
    with blaming(f"import of {module_name}"):
        module = importlib.import_module(module_name)
    for name in API:
        if not callable(getattr(module, name, None)):
            raise SubmissionError(
                f"submission {module_name}",
                got=f"no function {name}",
                expected=", ".join(API),
                remedy="See the HEAR API in docs/protocol.md, and heareval/embeddings/baseline.py to copy.",
            )
    with blaming(f"load_model of {module_name}"):
        model = module.load_model(model_file, **options)
    for name in SIZES:
        value = getattr(model, name, None)
        if not isinstance(value, int) or value <= 0:
            raise SubmissionError(
                f"model of {module_name}",
                got=f"{name} = {value!r}",
                expected=f"an attribute {name}, a positive int",
            )
    if model.sample_rate not in SAMPLE_RATES:
        raise SubmissionError(
            f"model of {module_name}",
            got=f"sample_rate = {model.sample_rate}",
            expected=f"one of {', '.join(map(str, SAMPLE_RATES))}",
        )
    return module, model


def framework_of(model: Any) -> str:
    """`torch`; other frameworks are refused with one line."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return "torch"
    raise SubmissionError(
        f"model {type(model).__name__}",
        got=f"a {type(model).__module__}.{type(model).__qualname__}",
        expected="a torch.nn.Module",
        remedy="Let load_model return a torch.nn.Module.",
    )


def describe(job: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline must know before it plans: sample rate and embedding sizes."""
    module, model = load_submission(job["module"], job["model"], job["options"])
    device = to_device(model)
    # A second of silence shows what a submission imports only when it embeds.
    for function in (module.get_scene_embeddings, module.get_timestamp_embeddings):
        call(function, np.zeros((1, model.sample_rate), np.float32), model, device)
    facts = {name: getattr(model, name) for name in SIZES}
    return {
        **facts,
        "framework": framework_of(model),
        "sources": loaded_sources(),
        "versions": loaded_versions(),
    }


def loaded_sources() -> list[str]:
    """Files of the loaded modules that belong neither to Python nor to an installed package."""
    installed = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = {names.get("__file__") for name, names in loaded_names() if name != "__main__"}
    paths = (path for path in found if isinstance(path, str))
    return sorted(path for path in paths if path.endswith(".py") and not path.startswith(installed))


def loaded_versions() -> dict[str, str]:
    """Versions of the loaded packages that tell theirs."""
    versions = {name: names.get("__version__") for name, names in loaded_names() if "." not in name}
    return {name: version for name, version in sorted(versions.items()) if isinstance(version, str)}


def loaded_names() -> list[tuple[str, dict[str, Any]]]:
    """Name and namespace of every loaded module; a lazy one stays unloaded."""
    loaded = [
        (name, module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)
    ]
    return [(name, object.__getattribute__(module, "__dict__")) for name, module in loaded]


# --------------------------------------------------------------------------- embedding


def embed(job: dict[str, Any]) -> dict[str, Any]:
    """Embed every clip of every split into `<out>/<split>.npy`, rows in the order of `<split>.json`."""
    module, model = load_submission(job["module"], job["model"], job["options"])
    device = to_device(model)
    is_event = job["embedding_type"] == "event"
    function = module.get_timestamp_embeddings if is_event else module.get_scene_embeddings
    size = model.timestamp_embedding_size if is_event else model.scene_embedding_size
    names = {split: list(read_json(Path(job["task"]) / f"{split}.json")) for split in job["splits"]}
    total = sum(map(len, names.values()))
    report, done = Reporter(total), 0
    for split, clips in names.items():
        folder = Path(job["task"]) / str(model.sample_rate) / split
        store = Store(Path(job["out"]), split, clips, size, is_event)
        for start, audio in read_ahead(batches(folder, clips, job["batch_samples"]), model.sample_rate):
            answer = call(function, audio, model, device)
            store.put(start, len(audio), answer, audio.shape[1] / model.sample_rate * 1000)
            done += len(audio)
            report(done)
        store.close()
    return {"clips": total, "device": str(device)}


def to_device(model: Any) -> Any:
    """Move the model to the GPU if there is one, ready to embed."""
    framework_of(model)
    torch = sys.modules["torch"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    model.eval()
    return device


def call(function: Callable[..., Any], audio: np.ndarray, model: Any, device: Any) -> tuple[np.ndarray, ...]:
    """The model's answer as a tuple of numpy arrays."""
    torch = sys.modules["torch"]
    with torch.no_grad(), blaming(f"{function.__name__} on audio of shape {audio.shape}"):
        answer = function(torch.from_numpy(audio).to(device), model)
    parts = answer if isinstance(answer, tuple) else (answer,)
    return tuple(
        part.detach().cpu().numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts
    )


def batches(folder: Path, clips: list[str], batch_samples: int) -> Iterator[tuple[int, list[Path]]]:
    """(index, paths) of consecutive clips of one length, as many as the budget of samples allows.

    Clips of different length never share a batch: padding would change a model's answer.
    """
    if not folder.is_dir():
        have = sorted(path.name for path in folder.parent.parent.iterdir() if path.name.isdigit())
        raise SubmissionError(
            f"task folder {folder.parent.parent}",
            got=f"sample rates {', '.join(have) or 'none'}",
            expected=f"{folder.parent.name}, which the model asks for",
            remedy=f"Run `python -m heareval.tasks.runner` with --sample-rate {folder.parent.name}.",
        )
    lengths = ((i, folder / name, frames_of(folder / name)) for i, name in enumerate(clips))
    for frames, group in itertools.groupby(lengths, key=lambda item: item[2]):
        size = max(1, batch_samples // frames)
        while chunk := list(itertools.islice(group, size)):
            yield chunk[0][0], [path for _, path, _ in chunk]


def frames_of(path: Path) -> int:
    """Number of frames of a wav file."""
    try:
        with wave.open(str(path)) as sound:
            frames: int = sound.getnframes()
    except (OSError, EOFError, wave.Error) as error:
        raise SubmissionError(f"clip {path}", got=str(error), expected="a wav file of the task") from error
    if not frames:
        raise SubmissionError(f"clip {path}", got="no samples", expected="at least one")
    return frames


def read_ahead(plan: Iterable[tuple[int, list[Path]]], sample_rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """Audio of each batch, float32 `(clips, samples)`; the next one is read while this one is used."""
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        waiting = None
        for start, paths in plan:
            coming = (start, reader.submit(read_batch, paths, sample_rate))
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting:
            yield waiting[0], waiting[1].result()


def read_batch(paths: list[Path], sample_rate: int) -> np.ndarray:
    """Clips of one length as float32, `(clips, samples)`."""
    sounds = []
    for path in paths:
        with wave.open(str(path)) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            if kind != (1, 2, sample_rate):
                raise SubmissionError(
                    f"clip {path}",
                    got="{} channels, {} bytes a sample, {} Hz".format(*kind),
                    expected=f"1 channel, 2 bytes, {sample_rate} Hz",
                )
            sounds.append(np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2"))
    return np.stack(sounds).astype(np.float32) / np.float32(32768)


class Store:
    """Checks each answer and writes it in place into the arrays of one split."""

    def __init__(self, folder: Path, split: str, clips: list[str], size: int, is_event: bool) -> None:
        self.folder, self.split, self.clips, self.size, self.is_event = folder, split, clips, size, is_event
        self.embeddings: np.memmap | None = None
        self.timestamps: np.memmap | None = None

    def put(self, start: int, count: int, answer: tuple[np.ndarray, ...], duration_ms: float) -> None:
        """Store the answer for the `count` clips that begin at index `start`."""
        clips = self.clips[start : start + count]
        if len(answer) != (2 if self.is_event else 1):
            raise self.error(
                clips, f"{len(answer)} arrays", "embeddings and timestamps" if self.is_event else "one"
            )
        embeddings = self.checked_embeddings(clips, answer[0])
        if self.is_event:
            times = self.checked_timestamps(clips, answer[1], embeddings.shape[1], duration_ms)
            if self.timestamps is None:
                self.timestamps = self.array(".timestamps.npy", times.shape[1:])
            self.timestamps[start : start + len(times)] = times
        if self.embeddings is None:
            self.embeddings = self.array(".npy", embeddings.shape[1:])
        self.embeddings[start : start + len(embeddings)] = embeddings

    def array(self, suffix: str, shape: tuple[int, ...]) -> np.memmap:
        """A new array on disk with one row per clip of the split."""
        path = self.folder / f"{self.split}{suffix}"
        return np.lib.format.open_memmap(path, "w+", np.float32, (len(self.clips), *shape))

    def checked_embeddings(self, clips: list[str], embeddings: np.ndarray) -> np.ndarray:
        """The embeddings, if their shape and values are right."""
        good = embeddings.ndim == (3 if self.is_event else 2) and embeddings.shape[-1] == self.size
        if good and self.embeddings is not None:
            good = embeddings.shape[1:] == self.embeddings.shape[1:]
        if not good or len(embeddings) != len(clips):
            shape = (
                f"({len(clips)}, timestamps, {self.size})"
                if self.is_event
                else f"({len(clips)}, {self.size})"
            )
            raise self.error(
                clips, f"embeddings of shape {embeddings.shape}", f"{shape}, a row for each clip"
            )
        if embeddings.dtype != np.float32:
            raise self.error(clips, f"embeddings of type {embeddings.dtype}", "float32")
        bad = ~np.isfinite(embeddings).reshape(len(embeddings), -1).all(axis=1)
        if bad.any():
            raise self.error(
                [clips[int(np.argmax(bad))]], "NaN or infinity in the embeddings", "finite numbers"
            )
        return embeddings

    def checked_timestamps(
        self, clips: list[str], times: np.ndarray, count: int, duration_ms: float
    ) -> np.ndarray:
        """The timestamps, if they are increasing milliseconds inside the clip."""
        if times.shape != (len(clips), count):
            raise self.error(clips, f"timestamps of shape {times.shape}", f"{(len(clips), count)}")
        if not np.isfinite(times).all() or (count > 1 and (np.diff(times, axis=1) <= 0).any()):
            raise self.error(clips, "timestamps that are not increasing numbers", "increasing milliseconds")
        last = float(times.max())
        # The last embedding of a clip may be centred a little before or beyond its end, not at a thousandth.
        if count > 1 and last * 10 < duration_ms:
            raise self.error(
                clips,
                f"a last timestamp of {last:g} for clips of {duration_ms:g} ms",
                "timestamps up to the end of the clip, in milliseconds",
                "They look like seconds: multiply them by 1000.",
            )
        if last > 2 * duration_ms or times.min() < -duration_ms:
            raise self.error(
                clips, f"timestamps from {times.min():g} to {last:g} ms", f"0 to {duration_ms:g} ms"
            )
        return times

    def error(self, clips: list[str], got: str, expected: str, remedy: str = "") -> SubmissionError:
        """The error for an answer, naming the first clip of it."""
        return SubmissionError(f"embedding {self.split}/{clips[0] if clips else '?'}", got, expected, remedy)

    def close(self) -> None:
        """Bring the arrays to disk."""
        for array in (self.embeddings, self.timestamps):
            if array is not None:
                array.flush()


# --------------------------------------------------------------------------- the conversation


class Reporter:
    """Tells the progress a few times a second, and at the end."""

    def __init__(self, total: int) -> None:
        self.total, self.last = total, 0.0

    def __call__(self, done: int) -> None:
        if done == self.total or time.monotonic() - self.last > REPORT_S:
            self.last = time.monotonic()
            say({"done": done, "total": self.total})


def say(message: dict[str, Any]) -> None:
    """One line to the process that started this one."""
    CHANNEL.write(json.dumps(message) + "\n")
    CHANNEL.flush()


CHANNEL = sys.stdout


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main(job_file: str) -> int:
    """Do the job; returns the exit code."""
    global CHANNEL
    die_with_parent()
    CHANNEL = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The folder the user works in, not this file's, is where a submission may lie.
    sys.path[0] = str(Path.cwd())
    job = read_json(Path(job_file))
    if os.getppid() != job.get("parent", os.getppid()):
        return 1  # the parent died before it could be asked to take this process along
    try:
        say({"result": {"describe": describe, "embed": embed}[job["do"]](job)})
    except SubmissionError as error:
        say({"error": error.facts})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
