"""What PyTorch and TensorFlow do differently."""

from __future__ import annotations

import abc
import contextlib
import gc
import os
import sys
import typing
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from heareval.embeddings.inside.errors import SubmissionError, blame_submission, is_out_of_memory
from heareval.embeddings.inside.rounding import set_rounding

GIB = 2**30

# Python 3.8 evaluates these and cannot subscript `tuple` and collections.abc.Callable.
# What a function of the API returns: embeddings, or embeddings and timestamps.
Arrays = typing.Tuple[np.ndarray, ...]
# Computes the embeddings of a batch `(clips, samples)`.
EmbedBatch = typing.Callable[[Any], Arrays]


class Framework(abc.ABC):
    """The framework of a model, on one device.

    Args:
        device: `cpu`, `cuda`, or `auto` for a GPU if there is one.
        precision: `float32`, `tf32` or `bf16`.

    Raises:
        SubmissionError: device is `cuda`, and the framework finds no GPU.
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
                expected="a GPU",
                remedy="Fix the driver, install a build with GPU support, or use --device cpu.",
                cause="no GPU",
            )

    def compute(self, name: str, function: Callable[..., Any], audio: Any, model: Any) -> Arrays:
        """Return the output of an API function on audio `(clips, samples)` as numpy arrays.

        Args:
            name: name of the function in the API: what stands for it in a submission may have none.
            function: the function.
            audio: `(clips, samples)`.
            model: the model.

        Raises:
            SubmissionError: the function raised an exception, or returned something else than tensors.
        """
        with blame_submission(f"{name} on audio of shape {tuple(audio.shape)}"):
            output = self.call(function, audio, model)
            if output is None:
                raise SubmissionError(
                    name,
                    got="None",
                    expected="embeddings",
                    remedy="End the function with a return statement.",
                )
            arrays = self.to_arrays(output)
        parts = output if isinstance(output, (tuple, list)) else (output,)
        for part, array in zip(parts, arrays):
            # numpy wraps what it can't convert, such as a dict or a generator.
            if array.dtype == object:
                raise SubmissionError(name, got=f"a {type(part).__name__}", expected="tensors")
        return arrays

    def to_arrays(self, output: Any) -> Arrays:
        """Return the output of an API function as numpy arrays."""
        return tuple(map(self.to_numpy, output if isinstance(output, (tuple, list)) else (output,)))

    @classmethod
    @abc.abstractmethod
    def is_framework_of(cls, model: Any) -> bool:
        """Return whether a model is made with this framework, which is loaded."""

    @abc.abstractmethod
    def has_gpu(self) -> bool:
        """Return whether the framework can use a GPU."""

    @abc.abstractmethod
    def prepare(self, model: Any) -> None:
        """Move a model to the device and set the precision."""

    @abc.abstractmethod
    def call(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """Return the output of an API function on audio `(clips, samples)`, unchanged."""

    @abc.abstractmethod
    def to_numpy(self, part: Any) -> np.ndarray:
        """Return a tensor as a new array: the model may reuse the memory of its output."""

    @abc.abstractmethod
    def list_weights(self, model: Any) -> typing.Iterable[tuple[str, Any]]:
        """Return the name and the tensor of each weight of a model, in the same order after each load."""

    def checksum_weights(self, model: Any) -> list[tuple[str, int]]:
        """Return the name and the checksum of each weight of a model that numpy can hold."""
        checksums = []
        for name, weight in self.list_weights(model):
            # Not quantized or sparse ones.
            with contextlib.suppress(TypeError, RuntimeError):
                checksums.append((name, zlib.crc32(np.ascontiguousarray(self.to_numpy(weight)).data)))
        return checksums

    @property
    @abc.abstractmethod
    def default_dtype(self) -> str:
        """The type that new tensors have if none is given, such as `float32`."""

    @property
    def copies_sent_audio(self) -> bool:
        """Whether `send_to_device` copies the audio, so that its array can be reused at once."""
        return False

    def send_to_device(self, audio: np.ndarray) -> Any:
        """Begin to copy audio to the device; can be called from any thread."""
        return audio

    def wait_for(self, sent: Any) -> Any:
        """Return what `send_to_device` sent, once the model may use it."""
        return sent

    def free_memory(self) -> None:
        """Release memory that is no longer used."""
        gc.collect()

    def describe_memory(self) -> str:
        """Return where the model is, and its free and total memory, to complete "the memory ..."."""
        if self.is_gpu:
            return "of the GPU"
        try:
            page = os.sysconf("SC_PAGE_SIZE")
            free, total = (os.sysconf(name) * page for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"))
        except (OSError, ValueError, AttributeError):
            return "of the CPU"
        return f"of the CPU, {free / GIB:.1f} of {total / GIB:.1f} GiB free"


class Torch(Framework):
    """PyTorch."""

    name = "torch"

    @classmethod
    def is_framework_of(cls, model: Any) -> bool:
        """Return whether a model is a torch.nn.Module."""
        return isinstance(model, sys.modules["torch"].nn.Module)

    def has_gpu(self) -> bool:
        """Return whether CUDA is available."""
        return bool(self.lib.cuda.is_available())

    @property
    def device(self) -> Any:
        """The device of the model and the audio."""
        return self.lib.device("cuda" if self.is_gpu else "cpu")

    def prepare(self, model: Any) -> None:
        """Move a model to the device; round float32 only if asked to, whatever the model's code did."""
        set_rounding(self.lib, to_tf32=self.precision == "tf32")
        model.to(self.device)
        model.eval()
        self.stream = self.lib.cuda.Stream(self.device) if self.is_gpu else None

    def call(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """Return the output of an API function on audio `(clips, samples)`, unchanged."""
        audio = self.lib.as_tensor(audio).to(self.device).contiguous()
        with self.lib.no_grad():
            if self.precision != "bf16":
                return function(audio, model)
            # `torch.autocast` exists since PyTorch 1.10; don't require it for float32.
            with self.lib.autocast(self.device.type, dtype=self.lib.bfloat16):
                return function(audio, model)

    def to_numpy(self, part: Any) -> np.ndarray:
        """Return a tensor as a new array; under bf16 as float32."""
        if isinstance(part, self.lib.Tensor):
            part = part.detach().cpu()
            part = (part.float() if self.precision == "bf16" else part).numpy()
        return np.array(part)

    def list_weights(self, model: Any) -> typing.Iterable[tuple[str, Any]]:
        """Return the parameters and buffers of a model."""
        for name, weight in (*model.named_parameters(), *model.named_buffers()):
            # numpy has neither bfloat16 nor the smaller types.
            yield name, weight.float() if weight.is_floating_point() and weight.element_size() < 4 else weight

    @property
    def default_dtype(self) -> str:
        """The type that new tensors have if none is given."""
        return str(self.lib.get_default_dtype()).replace("torch.", "")

    @property
    def copies_sent_audio(self) -> bool:
        """Whether `send_to_device` copies: on a CPU the tensor shares the array's memory."""
        return self.stream is not None

    def send_to_device(self, audio: np.ndarray) -> Any:
        """Begin to copy audio to a GPU from pinned memory, in a second stream, while the model works."""
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
            # `call` copies it to the GPU when the batches before have freed their memory.
            return here.clone(), None

    def wait_for(self, sent: Any) -> Any:
        """Return the tensor, after telling the model's stream to wait for its copy."""
        audio, event = sent
        if event is not None:
            current = self.lib.cuda.current_stream(self.device)
            event.wait(current)
            # The allocator must not reuse this memory while the model's stream still reads it.
            audio.record_stream(current)
        return audio

    def free_memory(self) -> None:
        """Release memory that is no longer used, also PyTorch's cache on the GPU."""
        gc.collect()
        if self.is_gpu:
            self.lib.cuda.empty_cache()

    def describe_memory(self) -> str:
        """Return where the model is, and its free and total memory, to complete "the memory ..."."""
        if not self.is_gpu:
            return super().describe_memory()
        free, total = self.lib.cuda.mem_get_info()
        return f"of the GPU, {free / GIB:.1f} of {total / GIB:.1f} GiB free"


class TensorFlow(Framework):
    """TensorFlow 2."""

    name = "tensorflow"

    @classmethod
    def is_framework_of(cls, model: Any) -> bool:
        """Return whether a model is a tf.Module, or trackable as Keras and SavedModel objects are."""
        lib = sys.modules["tensorflow"]
        return isinstance(model, (lib.Module, lib.__internal__.tracking.Trackable))

    def has_gpu(self) -> bool:
        """Return whether TensorFlow finds a GPU."""
        return bool(self.lib.config.list_physical_devices("GPU"))

    def prepare(self, model: Any) -> None:
        """Set the precision; TensorFlow has placed the variables when they were created."""
        if self.precision == "bf16":
            # Keras fixes the precision of a layer when the layer is created.
            raise SubmissionError(
                "precision bf16",
                got="a TensorFlow model",
                expected="float32 or tf32",
                remedy="Set Keras' mixed_bfloat16 policy in load_model.",
            )
        self.lib.config.experimental.enable_tensor_float_32_execution(self.precision == "tf32")

    def call(self, function: Callable[..., Any], audio: Any, model: Any) -> Any:
        """Return the output of an API function on audio `(clips, samples)`, unchanged."""
        with self.lib.device("/GPU:0" if self.is_gpu else "/CPU:0"):
            return function(self.lib.convert_to_tensor(audio), model)

    def to_numpy(self, part: Any) -> np.ndarray:
        """Return a tensor as a new array."""
        return np.array(part)

    def list_weights(self, model: Any) -> typing.Iterable[tuple[str, Any]]:
        """Return the variables of a module or layer, or those that the objects of a SavedModel hold."""
        variables = getattr(model, "variables", ())
        # Since TensorFlow 2.9.
        if not variables and hasattr(self.lib.train, "TrackableView"):
            parts = self.lib.train.TrackableView(model).descendants()
            variables = [part for part in parts if isinstance(part, self.lib.Variable)]
        return [(variable.name, variable) for variable in variables]

    @property
    def default_dtype(self) -> str:
        """The type that new layers of Keras have if none is given."""
        return str(self.lib.keras.backend.floatx())


FRAMEWORKS: tuple[type[Framework], ...] = (Torch, TensorFlow)


def find_framework(model: Any) -> type[Framework]:
    """Return the framework that a model is made with.

    Raises:
        SubmissionError: the model is neither a PyTorch nor a TensorFlow model.
    """
    if model is None:
        raise SubmissionError(
            "load_model",
            got="None",
            expected="a torch.nn.Module or a tf.Module",
            remedy="End it with `return model`.",
            cause="no model",
        )
    for framework in FRAMEWORKS:
        if framework.name in sys.modules and framework.is_framework_of(model):
            return framework
    raise SubmissionError(
        f"model {type(model).__name__}",
        got=f"a {type(model).__module__}.{type(model).__qualname__}",
        expected="a torch.nn.Module or a tf.Module",
        remedy="Return one from load_model.",
    )
