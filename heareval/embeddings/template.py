"""MODEL_NAME: an audio embedding for heareval. Put your network in place of the one below.

heareval validate MODEL_NAME                                     # checks everything that would cost points
heareval evaluate MODEL_NAME --mode demo --probe linear          # all steps, on small synthetic corpora
heareval evaluate MODEL_NAME --model weights.pt --tasks esc50    # a task of the benchmark
"""

from __future__ import annotations

import torch
from torch import Tensor

import heareval

SAMPLE_RATE = 16000  # Hz: 16000, 22050, 32000, 44100 or 48000; the clips come at this rate
HOP_MS = 20.0  # distance between two frames
WINDOW_MS = 50.0  # length of sound that a frame is computed from
SIZE = 64  # numbers in an embedding


class Network(torch.nn.Module):
    """A spectrogram and a linear layer with random weights: a place for your network."""

    def __init__(self) -> None:
        super().__init__()
        self.n_fft = round(SAMPLE_RATE * WINDOW_MS / 1000)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)
        self.project = torch.nn.Linear(self.n_fft // 2 + 1, SIZE)

    def forward(self, waves: Tensor) -> Tensor:
        """Return frames `(clips, frames, SIZE)` of waves `(clips, samples)` in [-1, 1]."""
        spectrum = torch.stft(
            waves,
            self.n_fft,
            hop_length=round(SAMPLE_RATE * HOP_MS / 1000),
            window=self.window,
            # Frame i is centred at sample i * hop_length. Very short clips can be padded, but not mirrored.
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return self.project(torch.log(spectrum.abs() + 1e-3).transpose(1, 2))


def load(path: str = "") -> Network:
    """Return the network, with the weights that `--model` names.

    Further parameters get what `--model-options '{"name": value}'` says.
    """
    with torch.random.fork_rng(devices=[]):
        # Without weights the model must be the same each time it is loaded.
        torch.manual_seed(0)
        network = Network()
    if path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def frames(network: Network, waves: Tensor) -> Tensor:
    """Return frames `(clips, frames, size)` of waves `(clips, samples)`; all clips have the same length."""
    return network(waves)


# The scene embedding is the mean of the frames, unless `scene=` names a function of its own.
_api = heareval.wrap(
    load=load,
    frames=frames,
    sample_rate=SAMPLE_RATE,
    hop_ms=HOP_MS,
    first_ms=0.0,  # centre of the first frame; `heareval validate` measures it with clicks
)
load_model = _api.load_model
get_scene_embeddings = _api.get_scene_embeddings
get_timestamp_embeddings = _api.get_timestamp_embeddings
