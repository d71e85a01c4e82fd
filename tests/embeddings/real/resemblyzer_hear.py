"""A speaker encoder as a submission: resemblyzer on windows of 1.6 s every 50 ms."""

from __future__ import annotations

import numpy as np
import resemblyzer
import torch
from resemblyzer.hparams import mel_window_step as step_ms
from resemblyzer.hparams import partials_n_frames as window
from torch import Tensor

RATE, HOP_MS = resemblyzer.sampling_rate, 50
# Windows at once.
BLOCK = 256


def load_model(model_file_path: str = "") -> torch.nn.Module:
    """The network with the weights that the package brings, or others."""
    model = resemblyzer.VoiceEncoder("cpu", verbose=False, weights_fpath=model_file_path or None)
    model.sample_rate = RATE
    model.scene_embedding_size = model.timestamp_embedding_size = model.linear.out_features
    return model.eval()


@torch.no_grad()
def get_timestamp_embeddings(audio: Tensor, model: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Embeddings `(sounds, timestamps, size)` and timestamps in ms: 0, 50, 100 ..."""
    beside = window // 2 * step_ms * RATE // 1000
    padded = np.pad(audio.cpu().numpy(), [(0, 0), (beside, beside)])
    mels = np.stack([resemblyzer.wav_to_mel_spectrogram(sound) for sound in padded])
    # The last column begins at the end of the sound.
    windows = torch.from_numpy(mels[:, :-1]).to(audio.device).unfold(1, window, HOP_MS // step_ms)
    blocks = windows.transpose(2, 3).reshape(-1, window, mels.shape[2]).split(BLOCK)
    embeddings = torch.cat([model(block) for block in blocks]).reshape(*windows.shape[:2], -1)
    times_ms = torch.arange(windows.shape[1], device=audio.device) * float(HOP_MS)
    return embeddings, times_ms.repeat(len(audio), 1)


@torch.no_grad()
def get_scene_embeddings(audio: Tensor, model: torch.nn.Module) -> Tensor:
    """The mean over time."""
    return get_timestamp_embeddings(audio, model)[0].mean(1)
