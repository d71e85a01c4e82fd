"""The HEAR API from one function: `heareval.wrap`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Callable

import torch
from torch import Tensor

from heareval.embeddings.adapters.encoder import (
    Encoder,
    HearModel,
    check_shape,
    get_scene_embeddings,
    get_timestamp_embeddings,
)
from heareval.embeddings.adapters.errors import AdapterError

__version__ = "2"


class HearApi:
    """The three functions of the HEAR API.

    Args:
        load_model: returns the model.
    """

    def __init__(self, load_model: Callable[..., HearModel]) -> None:
        self.load_model = load_model
        self.get_scene_embeddings = get_scene_embeddings
        self.get_timestamp_embeddings = get_timestamp_embeddings


class _Function(torch.nn.Module):
    """A function in place of a model."""


def wrap(
    *,
    frames: Callable[..., Tensor],
    sample_rate: int,
    hop_ms: float,
    first_ms: float,
    scene: Callable[..., Tensor] | None = None,
    load: Callable[..., torch.nn.Module] | None = None,
    shortest_ms: float = 0.0,
    window_ms: float = 0.0,
) -> HearApi:
    """Return the HEAR API of a model, made from a function that returns its frames.

    Frame `i` of a clip must be centred at `first_ms + i * hop_ms`; `heareval validate` checks that with
    clicks. All clips of a call have the same length, so no function needs a mask, or has to pad a clip to the
    length of another one.

    Args:
        frames: returns `(clips, frames, size)` for waves `(clips, samples)` in [-1, 1]. With `load` it gets
            the model first: `frames(model, waves)`. A torch.nn.Module may be given as it is.
        sample_rate: of the waves, in Hz: 16000, 22050, 32000, 44100 or 48000.
        hop_ms: distance of two frames.
        first_ms: centre of the first frame.
        scene: returns `(clips, size)`, with the arguments of `frames`; None = the mean of the frames.
        load: returns the model, a torch.nn.Module, on the CPU. Its parameters are those of `load_model`: the
            path that `--model` gives comes first, `--model-options` follow by their names.
        shortest_ms: shorter clips are padded with zeros to it, for models with a receptive field.
        window_ms: longer clips are embedded in pieces of this length, for models that take no longer input;
            0 = never. Shorter ones are padded with zeros to it.

    Raises:
        AdapterError: when the model is loaded: `load` returns no module, or `frames` no frames.

    Example, the whole of `my_model.py`; then `heareval evaluate my_model.py:model --model weights.pt`:

        import heareval, torch

        def load(path: str):
            return torch.jit.load(path)

        def frames(net, waves):
            return net(waves)

        model = heareval.wrap(load=load, frames=frames, sample_rate=16000, hop_ms=20, first_ms=12.5)
    """
    shortest, window = (round(ms * sample_rate / 1000) for ms in (shortest_ms, window_ms))

    def load_model(*args: Any, **options: Any) -> HearModel:
        network = (
            load(*args, **options) if load else frames if isinstance(frames, torch.nn.Module) else _Function()
        )
        if not isinstance(network, torch.nn.Module):
            raise AdapterError("load of heareval.wrap", f"a {type(network).__name__}", "a torch.nn.Module")
        network.eval()

        def embed_with(function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
            def embed(waves: Tensor) -> Tensor:
                waves = torch.nn.functional.pad(waves, (0, max(0, window - waves.shape[1])))
                return function(network, waves) if load else function(waves)

            return embed

        embed_frames = embed_with(frames)
        encoder = Encoder(
            network=network,
            frames=embed_frames,
            sample_rate=sample_rate,
            hop_ms=hop_ms,
            first_ms=first_ms,
            size=0,
            scene=embed_with(scene) if scene else None,
            shortest=max(1, shortest),
            window=window,
        )
        return HearModel(_measure(encoder, embed_frames, window_ms))

    # The weights that `load` uses by default stay visible to heareval.
    load_model.__signature__ = inspect.signature(load) if load else inspect.Signature()  # type: ignore[attr-defined]
    return HearApi(load_model)


def wrap_scenes(function: Callable[[Tensor], Any], sample_rate: int) -> HearApi:
    """Return the HEAR API, without timestamp embeddings, of a function that returns scene embeddings.

    Args:
        function: returns `(clips, size)` for waves `(clips, samples)`, as a tensor or an array. It may be a
            torch.nn.Module.
        sample_rate: of the waves, in Hz.

    Raises:
        AdapterError: when the model is loaded: the function returns no scene embeddings.
    """

    def embed(waves: Tensor) -> Tensor:
        scenes = torch.as_tensor(function(waves))
        if scenes.ndim != 2 or len(scenes) != len(waves):
            got, expected = f"{tuple(scenes.shape)}", f"a tensor of shape ({len(waves)}, size)"
            remedy = "Return one embedding for each wave."
            if scenes.ndim == 3:
                remedy = "Frames need heareval.wrap(frames=model, sample_rate=..., hop_ms=..., first_ms=...)."
            raise AdapterError(f"embeddings of waves of shape {tuple(waves.shape)}", got, expected, remedy)
        return scenes

    def load_model() -> HearModel:
        network = function if isinstance(function, torch.nn.Module) else _Function()
        place = next((each.device for each in network.parameters()), torch.device("cpu"))
        with torch.no_grad():
            size = embed(torch.zeros(1, sample_rate, device=place)).shape[1]
        return HearModel(
            Encoder(
                network=network,
                frames=None,
                sample_rate=sample_rate,
                hop_ms=0.0,
                first_ms=0.0,
                size=size,
                scene=embed,
                scene_size=size,
            )
        )

    return HearApi(load_model)


def _measure(encoder: Encoder, embed: Callable[[Tensor], Tensor], window_ms: float) -> Encoder:
    """Return an encoder with the sizes of what its functions return for silence, and the frames of a window.

    Convolutions without padding have fewer frames in a window than it has hops: the next piece begins where
    they end.
    """
    waves = torch.zeros(1, encoder.window or max(encoder.sample_rate, encoder.shortest))
    with torch.no_grad():
        found = embed(waves)
        check_shape(found, waves)
        if encoder.window:
            most = max(1, int(window_ms / encoder.hop_ms + 1e-6))
            encoder = replace(encoder, window_frames=min(most, found.shape[1]))
        scene = encoder.embed_scene(waves)
    return replace(encoder, size=found.shape[2], scene_size=scene.shape[1])
