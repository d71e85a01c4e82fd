"""Broken submissions: one good one, and for each check a small change that only this check may notice."""

from __future__ import annotations

from dataclasses import dataclass

# 8 bands of the spectrum in windows of 50 ms, hop 50 ms; short audio is padded to one window.
GOOD = """
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(8))

def load_model(model_file_path=""):
    model = Model()
    if model_file_path:
        model.load_state_dict(torch.load(model_file_path, weights_only=True))
    return model

def get_timestamp_embeddings(audio, model):
    length = audio.shape[1]
    audio = torch.nn.functional.pad(audio, (0, max(0, 800 - length)))
    frames = audio.unfold(1, 800, 800)
    spectrum = torch.fft.rfft(frames).abs()[..., 1:393].reshape(*frames.shape[:2], 8, 49).mean(-1)
    values = torch.log(spectrum + 1e-3) * model.scale
    times = torch.arange(frames.shape[1], device=audio.device) * 50.0 + min(25.0, length / 32)
    return values, times.expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
VALUES, TIMES = "    return values, times", "times.expand(len(audio), -1)"
START, FRAMES = "    length = audio.shape[1]", "    frames = audio.unfold(1, 800, 800)"
# All values depend on the loudest sound within 1.5 s.
BY_BLOCK = """
    gap = -values.shape[1] % 30
    blocks = torch.nn.functional.pad(values, (0, 0, 0, gap)).unflatten(1, (-1, 30))
    values = (blocks - 9 * blocks.amax(2, keepdim=True)).flatten(1, 2)[:, :len(times)]
"""
# Scene embeddings alone, and no size for others.
ONLY_SCENES = (
    "def get_scene_embeddings(audio, model):\n    return get_timestamp_embeddings(",
    "frames_of = get_timestamp_embeddings\nModel.timestamp_embedding_size = None\n\n"
    "def get_timestamp_embeddings(audio, model):\n    raise NotImplementedError('scenes only')\n\n"
    "def get_scene_embeddings(audio, model):\n    return frames_of(",
)
LOAD = "        model.load_state_dict(torch.load(model_file_path, weights_only=True))"


@dataclass(frozen=True)
class Broken:
    """A change of the good submission, the check that must notice it, and the result that it must have."""

    check: str
    old: str
    new: str
    result: str = "failed"
    good: str = GOOD

    @property
    def source(self) -> str:
        """The submission's code."""
        assert self.old in self.good
        return self.good.replace(self.old, self.new)


ZOO = {
    "no_function": Broken("functions", "def load_model", "def load_weights"),
    "import_fails": Broken("functions", "import torch", "import torch, no_such_module"),
    "ignores_weights": Broken("weights", LOAD, "        pass"),
    "no_module": Broken("model", "    return model\n", "    return 'a model'\n"),
    "load_fails": Broken("model", "    model = Model()", "    raise OSError('no cloud')"),
    "float_size": Broken("attributes", "= 16000, 8, 8", "= 16000, 8.0, 8"),
    "odd_rate": Broken("sample rate", "16000, 8, 8", "16001, 8, 8", "warning"),
    "no_scenes": Broken("embeddings", "def get_scene_embeddings", "def get_scenes", "warning"),
    "refuses_timestamps": Broken("embeddings", *ONLY_SCENES, "warning"),
    "lacks_an_operator": Broken(
        "types",
        ONLY_SCENES[0],
        ONLY_SCENES[1]
        .replace("Model.timestamp_embedding_size = None\n", "")
        .replace("'scenes only'", "'Could not run aten::stft'"),
    ),
    "refuses_both": Broken("embeddings", START, "    raise NotImplementedError\n" + START),
    "doubles": Broken("types", VALUES, "    return values.double(), times"),
    "arrays": Broken("types", VALUES, "    return values.numpy(), times", "warning"),
    "alone": Broken("types", VALUES + ".expand(len(audio), -1)", "    return values"),
    "whole_times": Broken("types", TIMES, TIMES + ".int()", "warning"),
    "elsewhere": Broken("device", TIMES, TIMES + ".to('meta')"),
    "squeezes": Broken("scene shape", ".mean(1)\n", ".mean(1).squeeze(0)\n"),
    "one_for_all": Broken("timestamp shape", TIMES, "times"),
    "nan": Broken("finite", "* model.scale", "* model.scale * float('nan')"),
    "log_of_zero": Broken("silence", "spectrum + 1e-3", "spectrum"),
    "full_scale": Broken("clipping", START, START + "\n    audio = torch.atanh(audio)"),
    "window_too_long": Broken("short audio", "max(0, 800 - length)", "0", "warning"),
    "half_a_second": Broken(
        "short audio", START, START + "\n    if length < 8000: raise ValueError('too short')"
    ),
    "dead": Broken("dimensions", "* model.scale", "* (torch.arange(8) > 0)", "warning"),
    "twice": Broken("dimensions", VALUES, "    values[..., 0] = values[..., 1]\n" + VALUES, "warning"),
    "collapsed": Broken("dimensions", ".mean(1)\n", ".mean(1) * 0 + 1\n"),
    "overwrites": Broken("input", START, START + "\n    audio *= 0.5", "warning"),
    "dropout": Broken("determinism", "* model.scale", "* torch.nn.functional.dropout(model.scale)"),
    "unseeded": Broken("reload", "torch.ones(8)", "torch.randn(8)"),
    "by_place": Broken(
        "order", VALUES, "    values = values + torch.arange(len(audio))[:, None, None]\n" + VALUES
    ),
    "by_batch": Broken(
        "batch", VALUES, "    values = values - 0.5 * values.mean(0, keepdim=True)\n" + VALUES
    ),
    "backwards": Broken("increasing", TIMES, TIMES + ".flip(1)"),
    "seconds": Broken("milliseconds", TIMES, TIMES + " / 1000"),
    "jitter": Broken("regular", TIMES, TIMES + " + 10 * (torch.arange(len(times)) % 2)"),
    "late": Broken("inside", TIMES, TIMES + " + 500"),
    "only_ten_seconds": Broken("coverage", FRAMES, "    audio = audio[:, :160000]\n" + FRAMES),
    "coarse": Broken("hop", VALUES, "    values, times = values[:, ::2], times[::2]\n" + VALUES, "warning"),
    "off_centre": Broken("centring", FRAMES, "    audio = torch.roll(audio, 2400, 1)\n" + FRAMES),
    "blurs_all": Broken(
        "centring", VALUES, "    values = values + 200 * values.mean(1, True)\n" + VALUES, "warning"
    ),
    "by_block": Broken("centring", VALUES, BY_BLOCK + VALUES, "warning"),
    "no_minute": Broken(
        "long audio", START, START + "\n    if length > 50 * 16000: raise ValueError('too long')"
    ),
    "drifts": Broken("drift", TIMES, TIMES + " * 1.003"),
    "greedy": Broken("memory", START, START + "\n    length > 16000 * 50 and torch.zeros(2**27).add_(1)"),
    "slow": Broken(
        "speed", START, START + "\n    if length > 50 * 16000: import time; time.sleep(0.4)", "warning"
    ),
}
