"""Runs a submission: `python worker.py JOB.json` describes a model or embeds the clips of one task.

This file runs in the submission's environment and needs only Python 3.8, numpy and what the submission
brings. It writes one JSON object per line to stdout: {"done", "total"} for progress, what happens to each
batch ({"begun"}, {"fitted"} or {"too_large"}), and at last {"result": ...} or {"error": {"what", "got",
"expected", "remedy"}}. Whatever the submission prints goes to stderr.

It is longer than other files of this house because it is all that an environment gets to see of us.
"""

from __future__ import annotations

import abc
import collections
import concurrent.futures
import contextlib
import ctypes
import errno
import faulthandler
import functools
import gc
import importlib
import itertools
import json
import os
import signal
import struct
import sys
import sysconfig
import threading
import time
import traceback
import types
import typing
import wave
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATES = (16000, 22050, 32000, 44100, 48000)
API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
SIZES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
REPORT_S = 0.2
# Bytes before the samples of a wav file as tasks have them.
HEADER = 44
# Threads that read, and blocks of clips that may wait to be embedded.
READERS, BLOCKS_AHEAD = 2, 4
# Batches in a row that must fit before a larger one is tried.
GROW_AFTER = 8
OUT_OF_MEMORY = {"OutOfMemoryError", "MemoryError", "ResourceExhaustedError"}
OUT_OF_MEMORY_WORDS = ("out of memory", "not enough memory", "allocate memory", "alloc_failed")
# The part of a chunk that its neighbours have, too: half of it at each end is context only.
OVERLAP = 0.2
# What float16 holds.
LARGEST = 65504.0
EMBEDDINGS, TIMESTAMPS = ".npy", ".timestamps.npy"

GIB = 2**30

# Python 3.8 evaluates these, and has no generic tuple and Callable of its own.
Answer = typing.Tuple[np.ndarray, ...]
Ask = typing.Callable[[Any], Answer]


class SubmissionError(Exception):
    """Something about the submission or its input is wrong: what, got, expected, remedy."""

    def __init__(self, what: str, got: str = "", expected: str = "", remedy: str = "") -> None:
        super().__init__(what, got, expected, remedy)
        self.facts = {"what": what, "got": got, "expected": expected, "remedy": remedy}


# --------------------------------------------------------------------------- the submission


class Submission(typing.NamedTuple):
    """An imported module, its model on the device, and what the model is made with."""

    module: Any
    model: Any
    framework: Framework


@contextlib.contextmanager
def blaming(what: str) -> Iterator[None]:
    """Tell an exception of the submission's own code in one line; the traceback goes to the log."""
    try:
        yield
    except SubmissionError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        told = (str(error).strip().splitlines() or [""])[0]
        raise SubmissionError(
            what,
            got=f"{type(error).__name__}: {told} (line {last.lineno} of {last.filename})",
            expected="no exception",
        ) from error


def load_submission(job: dict[str, Any]) -> Submission:
    """The submission on its device, ready to embed and checked against the HEAR API."""
    prepare_environment(job["device"])
    name = job["module"]
    with blaming(f"import of {name}"):
        module = importlib.import_module(name)
    for function in API:
        if not callable(getattr(module, function, None)):
            raise SubmissionError(
                f"submission {name}",
                got=f"no function {function}",
                expected=", ".join(API),
                remedy="See the HEAR API in docs/protocol.md, and heareval/embeddings/baseline.py to copy.",
            )
    with blaming(f"load_model of {name}"):
        model = module.load_model(job["model"], **job["options"])
    for attribute in SIZES:
        value = getattr(model, attribute, None)
        if not isinstance(value, int) or value <= 0:
            raise SubmissionError(
                f"model of {name}",
                got=f"{attribute} = {value!r}",
                expected=f"an attribute {attribute}, a positive int",
            )
    if model.sample_rate not in SAMPLE_RATES:
        raise SubmissionError(
            f"model of {name}",
            got=f"sample_rate = {model.sample_rate}",
            expected=f"one of {', '.join(map(str, SAMPLE_RATES))}",
        )
    framework = framework_of(model)(job["device"], job["precision"])
    with blaming(f"moving the model of {name} to its device"):
        framework.settle(model)
    return Submission(module, model, framework)


def prepare_environment(device: str) -> None:
    """What frameworks read from the environment when they start."""
    # Else TensorFlow takes all memory of a GPU at once, also what others need.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    if device == "cpu":
        # Models that look for a GPU themselves must not find one.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def describe(job: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline must know before it plans: sample rate and embedding sizes."""
    module, model, framework = load_submission(job)
    # A second of silence shows what a submission imports only when it embeds.
    for function in (module.get_scene_embeddings, module.get_timestamp_embeddings):
        framework.call(function, np.zeros((1, model.sample_rate), np.float32), model)
    facts = {name: getattr(model, name) for name in SIZES}
    return {
        **facts,
        "framework": framework.name,
        "sources": loaded_sources(),
        "versions": loaded_versions(),
    }


def loaded_sources() -> list[str]:
    """Files of the loaded modules that belong neither to Python nor to an installed package."""
    installed = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = {names.get("__file__") for _, names in loaded_names()}
    # This one has a second name, __mp_main__, as soon as multiprocessing is loaded.
    paths = (path for path in found if isinstance(path, str) and path != __file__)
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


# --------------------------------------------------------------------------- the frameworks


class Framework(abc.ABC):
    """What PyTorch and TensorFlow do differently.

    Args:
        device: where models shall be: `auto` is a GPU if there is one, else the CPU.
        precision: `float32`; `tf32` and `bf16` only when asked for.
    """

    name = ""

    def __init__(self, device: str, precision: str) -> None:
        self.lib: Any = sys.modules[self.name]
        self.precision = precision
        self.is_gpu = device != "cpu" and self.has_gpu()
        if device == "cuda" and not self.is_gpu:
            raise SubmissionError(
                "device cuda",
                got=f"no GPU that {self.name} {self.lib.__version__} can use",
                expected="one",
                remedy="Mend the driver, install a build for GPUs, or take --device cpu.",
            )

    def call(self, function: Callable[..., Any], audio: Any, model: Any) -> Answer:
        """The model's answer to audio `(clips, samples)` as numpy arrays."""
        with blaming(f"{function.__name__} on audio of shape {tuple(audio.shape)}"):
            answer = self.ask(function, audio, model)
            return tuple(map(self.to_numpy, answer if isinstance(answer, (tuple, list)) else (answer,)))

    @classmethod
    @abc.abstractmethod
    def owns(cls, model: Any) -> bool:
        """Whether a model is made with this framework."""

    @abc.abstractmethod
    def has_gpu(self) -> bool:
        """Whether there is a GPU to use."""

    @abc.abstractmethod
    def settle(self, model: Any) -> None:
        """Bring a model to the device, ready to embed in the precision that was asked for."""

    @abc.abstractmethod
    def ask(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """The model's answer as it comes."""

    @abc.abstractmethod
    def to_numpy(self, part: Any) -> np.ndarray:
        """A part of an answer as an array of its own: the model may use the memory of its answer again."""

    def send(self, audio: np.ndarray) -> Any:
        """Begin to bring audio to the device, in any thread."""
        return audio

    def arrived(self, sent: Any) -> Any:
        """What was sent, once the model may use it."""
        return sent

    def free(self) -> None:
        """Let go of memory that nobody uses any more."""
        gc.collect()

    def memory(self) -> str:
        """Where the model is, and free and whole memory there, in words."""
        if self.is_gpu:
            return "of the GPU"
        try:
            unit = os.sysconf("SC_PAGE_SIZE")
            free, total = (os.sysconf(name) * unit for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        except (OSError, ValueError, AttributeError):
            return "of the CPU"
        return f"of the CPU, {free / GIB:.1f} of {total / GIB:.1f} GiB free"


class Torch(Framework):
    """PyTorch."""

    name = "torch"

    @classmethod
    def owns(cls, model: Any) -> bool:
        """Whether a model is a torch.nn.Module."""
        return isinstance(model, sys.modules["torch"].nn.Module)

    def has_gpu(self) -> bool:
        """Whether CUDA is there."""
        return bool(self.lib.cuda.is_available())

    @property
    def device(self) -> Any:
        """Where the model and the audio are."""
        return self.lib.device("cuda" if self.is_gpu else "cpu")

    def settle(self, model: Any) -> None:
        """Move the model; also what its own code may have allowed is off unless asked for."""
        self.lib.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        self.lib.backends.cudnn.allow_tf32 = self.precision == "tf32"
        model.to(self.device)
        model.eval()
        self.stream = self.lib.cuda.Stream(self.device) if self.is_gpu else None

    def ask(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """The model's answer as it comes."""
        audio = self.lib.as_tensor(audio).to(self.device).contiguous()
        with self.lib.no_grad():
            if self.precision != "bf16":
                return function(audio, model)
            # Not switched off but left out: PyTorch has it since 1.10.
            with self.lib.autocast(self.device.type, dtype=self.lib.bfloat16):
                return function(audio, model)

    def to_numpy(self, part: Any) -> np.ndarray:
        """A tensor as an array; of 16 bits only if that was asked for, and then of 32."""
        if isinstance(part, self.lib.Tensor):
            part = part.detach().cpu()
            part = (part.float() if self.precision == "bf16" else part).numpy()
        return np.array(part)

    def send(self, audio: np.ndarray) -> Any:
        """Copy audio to a GPU while the model works there: from pinned memory, in a stream of its own."""
        here = self.lib.from_numpy(audio)
        if self.stream is None:
            return here, None
        try:
            with self.lib.cuda.stream(self.stream):
                there = here.pin_memory().to(self.device, non_blocking=True)
                return there, self.stream.record_event()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return here, None

    def arrived(self, sent: Any) -> Any:
        """The tensor, once the model's stream knows to wait for it."""
        audio, event = sent
        if event is not None:
            current = self.lib.cuda.current_stream(self.device)
            event.wait(current)
            # Its memory must not be given away while the model's stream still reads it.
            audio.record_stream(current)
        return audio

    def free(self) -> None:
        """Let go of memory that nobody uses any more."""
        gc.collect()
        if self.is_gpu:
            self.lib.cuda.empty_cache()

    def memory(self) -> str:
        """Where the model is, and free and whole memory there, in words."""
        if not self.is_gpu:
            return super().memory()
        free, total = self.lib.cuda.mem_get_info()
        return f"of the GPU, {free / GIB:.1f} of {total / GIB:.1f} GiB free"


class TensorFlow(Framework):
    """TensorFlow 2."""

    name = "tensorflow"

    @classmethod
    def owns(cls, model: Any) -> bool:
        """Whether a model is a tf.Module, or trackable as Keras models and loaded ones are."""
        lib = sys.modules["tensorflow"]
        return isinstance(model, (lib.Module, lib.__internal__.tracking.Trackable))

    def has_gpu(self) -> bool:
        """Whether TensorFlow sees a GPU."""
        return bool(self.lib.config.list_physical_devices("GPU"))

    def settle(self, model: Any) -> None:
        """TensorFlow puts variables where they are made, and asks for precision where layers are made."""
        if self.precision == "bf16":
            raise SubmissionError(
                "precision bf16",
                got="a TensorFlow model",
                expected="float32 or tf32",
                remedy="Let load_model set Keras' mixed_bfloat16 policy.",
            )
        self.lib.config.experimental.enable_tensor_float_32_execution(self.precision == "tf32")

    def ask(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """The model's answer as it comes."""
        with self.lib.device("/GPU:0" if self.is_gpu else "/CPU:0"):
            return function(self.lib.convert_to_tensor(audio), model)

    def to_numpy(self, part: Any) -> np.ndarray:
        """A tensor as an array."""
        return np.array(part)


FRAMEWORKS: tuple[type[Framework], ...] = (Torch, TensorFlow)


def framework_of(model: Any) -> type[Framework]:
    """The framework that a model is made with."""
    for framework in FRAMEWORKS:
        if framework.name in sys.modules and framework.owns(model):
            return framework
    raise SubmissionError(
        f"model {type(model).__name__}",
        got=f"a {type(model).__module__}.{type(model).__qualname__}",
        expected="a torch.nn.Module or a tf.Module",
        remedy="Let load_model return one.",
    )


# --------------------------------------------------------------------------- embedding


def embed(job: dict[str, Any]) -> dict[str, Any]:
    """Embed the clips of every split into `<out>/<split>.npy`, rows in the order of `<split>.json`.

    A job that is gone on with tells how many clips of the plan are `done` and the `history` of its batches:
    [what happened, samples].
    """
    module, model, framework = load_submission(job)
    is_event, rate = job["embedding_type"] == "event", model.sample_rate
    function = module.get_timestamp_embeddings if is_event else module.get_scene_embeddings
    size = model.timestamp_embedding_size if is_event else model.scene_embedding_size
    ask: Ask = functools.partial(framework.call, function, model=model)
    if is_event and job["chunk_s"]:
        ask = functools.partial(in_chunks, ask, round(job["chunk_s"] * rate), rate)
    clips = {split: list(read_json(Path(job["task"]) / f"{split}.json")) for split in job["splits"]}
    stores = {
        split: Store(Path(job["out"]), split, names, size, is_event, job["dtype"])
        for split, names in clips.items()
    }
    plan = plan_blocks(Path(job["task"]), clips, rate, job["batch_samples"])
    left, batch = unfinished(plan, job["done"], stores), BatchSize(job["batch_samples"], job["history"])
    total, done = sum(map(len, clips.values())), job["done"]
    report = Reporter(total)
    report(done)
    with Writer(behind=framework.is_gpu) as writer:
        for block, audio in read_ahead(left, framework, job["batch_samples"]):
            for rows, answer in answers(ask, block, audio, framework, batch, rate):
                if answer is None:
                    # In its turn: the order of what happened decides how large batches are.
                    writer.put(say, {"too_large": len(rows) * block.frames})
                    continue
                done += len(rows)
                writer.put(store_answer, stores[block.split], block, rows, answer, rate)
                report(done)
    device = "cuda" if framework.is_gpu else "cpu"
    return {"clips": total, "device": device, "framework": framework.name, "versions": loaded_versions()}


def store_answer(store: Store, block: Block, rows: Sequence[int], answer: Answer, rate: int) -> None:
    """Write an answer into its place, and then tell."""
    store.put(rows, answer, 1000 * block.frames / rate)
    say({"fitted": len(rows) * block.frames, "clips": len(rows)})


# --------------------------------------------------------------------------- batches


class Block(typing.NamedTuple):
    """Clips of one split and one length that are read together: their rows in the array, and their files.

    Clips of different length never share a block: padding would change a model's answer.
    """

    split: str
    rows: list[int]
    paths: list[str]
    frames: int


def plan_blocks(task: Path, clips: dict[str, list[str]], sample_rate: int, budget: int) -> list[Block]:
    """All clips as blocks of one length each, as many clips as the budget of samples allows.

    The longest come first: what does not fit into memory is known at once, not after a day.
    """
    found = task / str(sample_rate)
    if not found.is_dir():
        have = sorted(path.name for path in task.iterdir() if path.name.isdigit())
        raise SubmissionError(
            f"task folder {task}",
            got=f"sample rates {', '.join(have) or 'none'}",
            expected=f"{sample_rate}, which the model asks for",
            remedy=f"Run `python -m heareval.tasks.runner` with --sample-rate {sample_rate}.",
        )
    plan = []
    for split, names in clips.items():
        if not names:
            raise SubmissionError(f"{task / split}.json", got="no clips", expected="at least one")
        # As text: paths would take longer than the reading.
        paths = [f"{found}/{split}/{name}" for name in names]
        by_length: dict[int, list[int]] = {}
        for row, frames in enumerate(lengths_of(paths, sample_rate)):
            by_length.setdefault(frames, []).append(row)
        for frames, rows in by_length.items():
            size = max(1, budget // frames)
            for chunk in (rows[start : start + size] for start in range(0, len(rows), size)):
                plan.append(Block(split, chunk, [paths[row] for row in chunk], frames))
    return sorted(plan, key=lambda block: -block.frames)


def unfinished(plan: list[Block], done: int, stores: dict[str, Store]) -> list[Block]:
    """What is left of a plan after so many clips; the arrays that have some of them are opened."""
    left = []
    for block in plan:
        here, done = min(done, len(block.rows)), max(0, done - len(block.rows))
        if here:
            stores[block.split].open()
        if here < len(block.rows):
            left.append(block._replace(rows=block.rows[here:], paths=block.paths[here:]))
    return left


class BatchSize:
    """How many samples a batch may have: halved when memory runs out, grown again with care.

    It follows from what fitted and what did not, in this order, and from nothing else: a run that goes on
    cuts the same batches.
    """

    def __init__(self, budget: int, history: Iterable[tuple[str, int]] = ()) -> None:
        self.budget, self.limit = budget, budget
        self.fitted, self.in_a_row, self.patience = 0, 0, GROW_AFTER
        for happened, samples in history:
            (self.did_fit if happened == "fitted" else self.did_not_fit)(samples)

    def clips(self, frames: int, left: int) -> int:
        """How many of the clips that are left in a block make the next batch."""
        return max(1, min(left, self.limit // frames))

    def did_fit(self, samples: int) -> None:
        """After enough batches in a row, allow a quarter more."""
        self.fitted = max(self.fitted, samples)
        # The few clips at the end of a block say little.
        self.in_a_row += 2 * samples > self.limit
        if self.in_a_row >= self.patience and self.limit < self.budget:
            self.limit, self.in_a_row = min(self.budget, self.limit + self.limit // 4 + 1), 0

    def did_not_fit(self, samples: int) -> None:
        """Go back to what fitted, or to a half; if growing was the fault, be slower to grow again."""
        self.in_a_row, self.patience = 0, self.patience * (2 if self.fitted else 1)
        if self.fitted >= samples:
            self.fitted = 0  # there is less memory now than there was
        self.limit = max(self.fitted, samples // 2)


def answers(
    ask: Ask, block: Block, audio: Any, framework: Framework, batch: BatchSize, rate: int
) -> Iterator[tuple[list[int], Answer | None]]:
    """Rows and answer of each batch that a block is cut into; no answer if memory ran out."""
    start = 0
    while start < len(block.rows):
        count = batch.clips(block.frames, len(block.rows) - start)
        samples, part = count * block.frames, slice(start, start + count)
        say({"begun": samples, "clips": count, "clip": block.paths[start]})
        answer, told = within_memory(ask, audio[part], framework)
        if answer is not None:
            batch.did_fit(samples)
            yield block.rows[part], answer
            start += count
        elif count == 1:
            raise alone_too_large(block.paths[start], told, block.frames / rate, framework.memory())
        else:
            yield block.rows[part], None
            batch.did_not_fit(samples)
            # The model may have changed its input before it failed.
            audio = framework.arrived(framework.send(read_block(block)))


def within_memory(ask: Ask, audio: Any, framework: Framework) -> tuple[Answer | None, str]:
    """The model's answer; or None, and what was told when memory ran out."""
    try:
        return ask(audio), ""
    except SubmissionError as error:
        if not is_out_of_memory(error.__cause__):
            raise
        told = error.facts["got"]
    sys.stderr.write("memory ran out for this batch: going on with a smaller one\n")
    # Only now the exception is gone, and with it the last hold on the arrays of the failed call.
    framework.free()
    return None, told


def alone_too_large(clip: str, told: str, seconds: float, memory: str) -> SubmissionError:
    """The error for a clip that has a batch of its own and still does not fit."""
    return SubmissionError(
        f"clip {clip}",
        got=f"{told}, on this clip of {seconds:g} s alone",
        expected=f"a clip that fits into the memory {memory}",
        remedy="Take a device with more memory, a model that works through long audio in pieces, or for "
        "timestamp embeddings --chunk-seconds.",
    )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, tells of too little memory."""
    while error is not None:
        names = {kind.__name__ for kind in type(error).__mro__}
        text = str(error).lower()
        if names & OUT_OF_MEMORY:
            return True
        if isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def in_chunks(ask: Ask, chunk: int, rate: int, audio: Any) -> Answer:
    """Timestamp embeddings of long clips, from chunks of so many samples that overlap.

    Of what two neighbours both have, each gives the half that is farther from its own edge. Chunks begin a
    whole number of timestamps apart, so that timestamps stay as regular as the model gives them.
    """
    frames = audio.shape[1]
    if frames <= chunk:
        return ask(audio)
    answer = ask_chunk(ask, audio, 0, chunk, rate)
    times = answer[1]
    hop = float(times[0, -1] - times[0, 0]) / max(1, times.shape[1] - 1) * rate / 1000
    # In timestamps: how far apart chunks begin, and where in the next one the first hands over to it.
    apart, edge = (int(share * chunk / hop) if hop else 0 for share in (1 - OVERLAP, OVERLAP / 2))
    if edge < 1 or times.shape[1] < apart + edge:
        raise SubmissionError(
            "--chunk-seconds",
            got=f"{times.shape[1]} timestamps in a chunk of {chunk / rate:g} s",
            expected=f"at least {max(apart + edge, round(2 / OVERLAP))}, from its beginning to its end",
            remedy="Take longer chunks.",
        )
    parts = [tuple(each[:, : apart + edge] for each in answer)]
    for start in (round(k * apart * hop) for k in itertools.count(1)):
        embeddings, times = ask_chunk(ask, audio, start, chunk, rate)
        times = (times + np.float64(1000 * start / rate)).astype(times.dtype)
        kept = slice(edge, None if start + chunk >= frames else apart + edge)
        parts.append((embeddings[:, kept], times[:, kept]))
        if start + chunk >= frames:
            break
    return tuple(np.concatenate([part[i] for part in parts], axis=1) for i in range(2))


def ask_chunk(ask: Ask, audio: Any, start: int, chunk: int, rate: int) -> Answer:
    """The answer to a chunk, with timestamps that may be reckoned with."""
    part = audio[:, start : start + chunk]
    # A copy: the model may change its input, of which the next chunk has a part.
    answer = ask(part.clone() if hasattr(part, "clone") else part.copy())
    shapes = [each.shape for each in answer]
    if [len(shape) for shape in shapes] != [3, 2] or shapes[0][:2] != shapes[1]:
        raise SubmissionError(
            "timestamp embeddings",
            got=f"shapes {', '.join(map(str, shapes))}",
            expected="(clips, timestamps, size) and (clips, timestamps)",
        )
    wrong = wrong_times(answer[1], 1000 * part.shape[1] / rate)
    if wrong:
        raise SubmissionError(f"timestamps of a chunk that begins at {start / rate:g} s", *wrong)
    return answer


# --------------------------------------------------------------------------- reading


def lengths_of(paths: list[str], sample_rate: int) -> list[int]:
    """Number of frames of each wav file; many threads hide how slow a file server is."""
    parts = [paths[start : start + 256] for start in range(0, len(paths), 256)]
    with concurrent.futures.ThreadPoolExecutor(4 * READERS) as readers:
        lengths = readers.map(lambda part: [frames_of(path, sample_rate) for path in part], parts)
        return list(itertools.chain.from_iterable(lengths))


def frames_of(path: str, sample_rate: int) -> int:
    """Number of frames of a wav file, which must be one of a task."""
    try:
        with open(path, "rb", buffering=0) as file:
            frames, *kind = plain_header(file.read(HEADER)) or any_header(path)
    except (OSError, EOFError, wave.Error) as error:
        raise SubmissionError(f"clip {path}", got=str(error), expected="a wav file of the task") from error
    if kind != [1, 2, sample_rate]:
        got = "{} channels, {} bytes a sample, {} Hz".format(*kind)
        raise SubmissionError(f"clip {path}", got=got, expected=f"1 channel, 2 bytes, {sample_rate} Hz")
    if not frames:
        raise SubmissionError(f"clip {path}", got="no samples", expected="at least one")
    return frames


def plain_header(content: bytes) -> tuple[int, int, int, int] | None:
    """Frames, channels, bytes a sample and rate of a wav file as tasks have them; None for other files."""
    if len(content) < HEADER or content[8:20] != b"WAVEfmt \x10\0\0\0" or content[36:40] != b"data":
        return None
    kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[20:36])
    (size,) = struct.unpack("<I", content[40:44])
    return (size // 2, channels, bits // 8, rate) if (kind, channels, bits) == (1, 1, 16) else None


def any_header(path: str) -> tuple[int, int, int, int]:
    """The same of any wav file."""
    with wave.open(path) as sound:
        return sound.getnframes(), sound.getnchannels(), sound.getsampwidth(), sound.getframerate()


def read_clip(path: str, scratch: np.ndarray, out: np.ndarray) -> None:
    """Read a clip as float32 into `out`, whose size it must have; `scratch` has room for its file."""
    try:
        with open(path, "rb", buffering=0) as file:
            length = file.readinto(scratch.data)
            known = plain_header(scratch[:HEADER].tobytes())
            if known:
                read = scratch[HEADER : min(length, HEADER + 2 * known[0])]
            else:
                with wave.open(path) as sound:
                    read = np.frombuffer(sound.readframes(sound.getnframes()), np.uint8)
    except (OSError, EOFError, wave.Error) as error:
        raise SubmissionError(f"clip {path}", got=str(error), expected="a wav file of the task") from error
    if len(read) != 2 * len(out):
        raise SubmissionError(f"clip {path}", got=f"{len(read) // 2} samples", expected=f"{len(out)}")
    out[:] = read.view("<i2")
    out *= np.float32(1 / 32768)


def read_block(block: Block, room: Room | None = None) -> np.ndarray:
    """Clips of one length as float32, `(clips, samples)`."""
    audio = (room or Room(0)).take(len(block.paths), block.frames)
    scratch = np.empty(HEADER + 2 * block.frames, np.uint8)
    for path, row in zip(block.paths, audio):  # Python 3.8 has no strict
        read_clip(path, scratch, row)
    return audio


class Room:
    """Memory for blocks, used again when nobody holds the block any more: fresh pages take their time.

    Args:
        count: pieces of memory to keep.
    """

    def __init__(self, count: int) -> None:
        self.count, self.lock = count, threading.Lock()
        self.pieces = [np.empty(1, np.float32)]
        self.unheld = self.holders(0)
        self.pieces = []

    def holders(self, i: int) -> int:
        """References to a piece; every array and tensor on it has one, through whichever others."""
        return sys.getrefcount(self.pieces[i])

    def take(self, clips: int, frames: int) -> np.ndarray:
        """An array `(clips, frames)` of anything."""
        size = clips * frames
        with self.lock:
            for i in range(len(self.pieces)):
                if self.holders(i) == self.unheld and self.pieces[i].size >= size:
                    return self.pieces[i][:size].reshape(clips, frames)
            piece = np.empty(size, np.float32)
            # The longest come first, so later blocks fit into earlier pieces.
            self.pieces = [*self.pieces, piece][: self.count]
            return piece[:size].reshape(clips, frames)


def read_ahead(plan: Iterable[Block], framework: Framework, budget: int) -> Iterator[tuple[Block, Any]]:
    """Each block with its audio, `(clips, samples)` on the device; the next ones are being read."""
    waiting: collections.deque[tuple[Block, Any]] = collections.deque()
    coming, room = collections.deque(plan), Room(BLOCKS_AHEAD + 2)

    def samples_ahead() -> int:
        return sum(len(block.rows) * block.frames for block, _ in waiting)

    with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
        try:
            while coming or waiting:
                # One clip may be longer than a batch should be: then only the next is read ahead.
                while coming and (len(waiting) < 2 or samples_ahead() < BLOCKS_AHEAD * budget):
                    block = coming.popleft()
                    sending = readers.submit(lambda each: framework.send(read_block(each, room)), block)
                    waiting.append((block, sending))
                block, sending = waiting.popleft()
                yield block, framework.arrived(sending.result())
        finally:
            for _, sending in waiting:
                sending.cancel()


# --------------------------------------------------------------------------- writing


class Writer:
    """Does what there is to write, in order.

    Args:
        behind: in a thread of its own, while the model is at the next batch. On a CPU the model needs all
            cores itself.
    """

    def __init__(self, *, behind: bool) -> None:
        self.behind, self.thread = behind, concurrent.futures.ThreadPoolExecutor(1)
        self.last: Any = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self.thread.shutdown()

    def put(self, work: Callable[..., None], *arguments: Any) -> None:
        """Begin to do some work when the one before is done."""
        self.wait()
        self.last = self.thread.submit(work, *arguments)
        if not self.behind:
            self.wait()

    def wait(self) -> None:
        """Return when all is done."""
        last, self.last = self.last, None
        if last is not None:
            last.result()


class Store:
    """Checks each answer and writes it in place into the arrays of one split."""

    def __init__(
        self, folder: Path, split: str, clips: list[str], size: int, is_event: bool, dtype: str
    ) -> None:
        self.folder, self.split, self.clips, self.size = folder, split, clips, size
        self.is_event, self.dtype = is_event, dtype
        self.embeddings: np.ndarray | None = None
        self.timestamps: np.ndarray | None = None

    def put(self, rows: Sequence[int], answer: Answer, duration_ms: float) -> None:
        """Store the answer for the clips of these rows."""
        clips = [self.clips[row] for row in rows]
        if len(answer) != (2 if self.is_event else 1):
            expected = "embeddings and timestamps" if self.is_event else "one"
            raise self.error(clips, f"{len(answer)} arrays", expected)
        embeddings = self.checked_embeddings(clips, answer[0])
        if self.is_event:
            times = self.checked_timestamps(clips, answer[1], embeddings.shape[1], duration_ms)
            if self.timestamps is None:
                self.timestamps = self.new_array(TIMESTAMPS, "float32", times.shape[1:])
            self.timestamps[rows] = times
        if self.embeddings is None:
            self.embeddings = self.new_array(EMBEDDINGS, self.dtype, embeddings.shape[1:])
        self.embeddings[rows] = embeddings

    def new_array(self, suffix: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """A new array with one row per clip of the split, and all its room on the disk."""
        path, whole = self.folder / f"{self.split}{suffix}", (len(self.clips), *shape)
        array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), whole)
        say({"array": path.name, "size": path.stat().st_size})
        try:
            # Without it a full disk would end this process in the middle of a batch.
            with open(path, "r+b") as file:
                getattr(os, "posix_fallocate", lambda *_: None)(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return array
            path.unlink()
            got = f"{error.strerror} for {array.nbytes / 1e9:.3g} GB"
            raise SubmissionError(f"array {path}", got=got, expected="room for all embeddings") from error
        return array

    def open(self) -> None:
        """Go on with the arrays that a killed run left."""
        if self.embeddings is None:
            self.embeddings = np.lib.format.open_memmap(self.folder / f"{self.split}{EMBEDDINGS}", "r+")
            if self.is_event:
                self.timestamps = np.lib.format.open_memmap(self.folder / f"{self.split}{TIMESTAMPS}", "r+")

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
        if self.dtype == "float16" and abs(embeddings).max() > LARGEST:
            got, expected = (
                f"a value of {abs(embeddings).max():g}",
                f"at most {LARGEST:g}, to fit into 16 bits",
            )
            raise self.error(clips, got, expected, "Embed without --dtype float16.")
        return embeddings

    def checked_timestamps(
        self, clips: list[str], times: np.ndarray, count: int, duration_ms: float
    ) -> np.ndarray:
        """The timestamps, if they are increasing milliseconds inside the clip."""
        if times.shape != (len(clips), count):
            raise self.error(clips, f"timestamps of shape {times.shape}", f"{(len(clips), count)}")
        wrong = wrong_times(times, duration_ms)
        if wrong:
            raise self.error(clips, *wrong)
        return times

    def error(self, clips: list[str], got: str, expected: str, remedy: str = "") -> SubmissionError:
        """The error for an answer, naming the first clip of it."""
        return SubmissionError(f"embedding {self.split}/{clips[0] if clips else '?'}", got, expected, remedy)


def wrong_times(times: np.ndarray, duration_ms: float) -> tuple[str, ...]:
    """What is wrong with timestamps `(clips, timestamps)`, if anything: got, expected, perhaps a remedy."""
    if not times.size:
        return "no timestamps", "at least one for a clip"
    if times.dtype.kind not in "iuf":
        return f"timestamps of type {times.dtype}", "numbers"
    if not np.isfinite(times).all() or (np.diff(times, axis=1) <= 0).any():
        return "timestamps that are not increasing numbers", "increasing milliseconds"
    first, last = float(times.min()), float(times.max())
    # The last embedding of a clip may be centred a little before or beyond its end, not at a thousandth.
    if times.shape[1] > 1 and last * 10 < duration_ms:
        return (
            f"a last timestamp of {last:g} for clips of {duration_ms:g} ms",
            "timestamps up to the end of the clip, in milliseconds",
            "They look like seconds: multiply them by 1000.",
        )
    if last > 2 * duration_ms or first < -duration_ms:
        return f"timestamps from {first:g} to {last:g} ms", f"0 to {duration_ms:g} ms"
    return ()


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
    """One line to the process that started this one, from any thread."""
    with SPEAKING:
        CHANNEL.write(json.dumps(message) + "\n")
        CHANNEL.flush()


CHANNEL, SPEAKING = sys.stdout, threading.Lock()


def read_json(path: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere do nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def begin_conversation() -> None:
    """From here on only `say` writes to stdout; what others print goes to stderr."""
    global CHANNEL
    die_with_parent()
    # A crash in native code leaves a traceback in the log, too.
    faulthandler.enable()
    CHANNEL = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A child that a submission leaves behind must not keep the conversation open, nor tell a line twice. By
    # number: a thread may hold the stream's lock at the fork.
    number = CHANNEL.fileno()
    os.register_at_fork(after_in_child=lambda: os.dup2(2, number))


def main(job_file: str) -> int:
    """Do the job; returns the exit code."""
    begin_conversation()
    job = read_json(Path(job_file))
    # The folder the user works in, not this file's, is where a submission may lie that is not installed.
    if sys.path[:1] == [str(Path(__file__).resolve().parent)]:
        del sys.path[0]
    if not job.get("is_installed"):
        sys.path.insert(0, str(Path.cwd()))
    if os.getppid() != job.get("parent", os.getppid()):
        return 1  # the parent died before it could be asked to take this process along
    try:
        say({"result": {"describe": describe, "embed": embed}[job["do"]](job)})
        return 0
    except SubmissionError as error:
        say({"error": error.facts})
    except OSError as error:
        # What is wrong with the submission's own files was told above.
        traceback.print_exc()
        what, got = f"file {error.filename or job.get('out', '')}", error.strerror or str(error)
        say({"error": {"what": what, "got": got, "expected": "", "remedy": ""}})
    return 1


if __name__ == "__main__":
    code = 1
    try:
        code = main(sys.argv[1])
    except BaseException:
        traceback.print_exc()
    # A thread that a submission left behind must not keep this process.
    sys.stderr.flush()
    os._exit(code)
