"""`heareval.wrap`, and the encoders of X-ARES: the HEAR API from one function or one class."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

import heareval
from heareval.embeddings.adapters import xares_encoders
from heareval.embeddings.adapters.errors import AdapterError
from heareval.embeddings.inside.submission import find_default_weights
from heareval.embeddings.submission import Model


class Net(torch.nn.Module):
    """Means of 20 ms at 16 kHz, times a weight; counts the samples that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(3.0))
        self.seen: list[int] = []

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        self.seen.append(waves.shape[1])
        assert not self.training
        return waves.unfold(1, 320, 320).mean(2)[..., None] * self.weight


def load_net(path: str = "best.pt", *, gain: float = 1.0) -> Net:
    net = Net()
    net.weight.data *= gain
    return net


TIMES = {"sample_rate": 16000, "hop_ms": 20, "first_ms": 10}


def test_a_module_alone_is_enough() -> None:
    api = heareval.wrap(frames=Net(), **TIMES)
    model = api.load_model()
    assert (model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size) == (16000, 3, 3)
    waves = torch.randn(2, 3210)
    frames, times = api.get_timestamp_embeddings(waves, model)
    assert frames.shape == (2, 10, 3)
    assert times.tolist() == [[10.0 + 20 * i for i in range(10)]] * 2
    assert torch.equal(api.get_scene_embeddings(waves, model), frames.mean(1))
    # Its weights move to the device with it.
    assert [name for name, _ in model.named_parameters()] == ["network.weight"]


def test_the_model_is_loaded_like_any_other() -> None:
    api = heareval.wrap(load=load_net, frames=lambda net, waves: net(waves), **TIMES)
    assert inspect.signature(api.load_model) == inspect.signature(load_net)
    # The weights that it loads by default are known.
    assert find_default_weights({"weights_path": "", "options": {}}, api) == []
    assert torch.equal(api.load_model("w.pt", gain=2.0).network.weight, 2 * torch.arange(3.0))


def test_scenes_may_have_their_own_function_and_size() -> None:
    api = heareval.wrap(
        load=load_net,
        frames=lambda net, waves: net(waves),
        scene=lambda net, waves: net(waves).flatten(1)[:, :2],
        **TIMES,
    )
    model = api.load_model()
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (2, 3)
    assert api.get_scene_embeddings(torch.ones(4, 640), model).shape == (4, 2)


def test_short_clips_are_padded_and_long_ones_cut() -> None:
    api = heareval.wrap(frames=Net(), shortest_ms=20, **TIMES)
    model = api.load_model()
    frames, times = api.get_timestamp_embeddings(torch.ones(1, 80), model)
    assert torch.equal(frames[0, 0], 0.25 * torch.arange(3.0))
    assert times.tolist() == [[2.5]]
    net = Net()
    api = heareval.wrap(frames=net, window_ms=1000, **TIMES)
    model = api.load_model()
    net.seen.clear()
    waves = torch.randn(1, 40000)
    frames, times = api.get_timestamp_embeddings(waves, model)
    assert net.seen == [16000, 16000, 16000]
    assert torch.equal(frames, Net().eval()(waves))
    assert times.max() == 2490


@pytest.mark.parametrize("window_ms", [1000, 200])
def test_pieces_follow_where_the_frames_of_a_window_end(window_ms: float) -> None:
    """A window of 1 s has 49 frames of 25 ms, 20 ms apart, not 50."""
    seen = []

    def embed(waves: torch.Tensor) -> torch.Tensor:
        seen.append(waves.shape[1])
        return waves.unfold(1, 400, 320)

    api = heareval.wrap(frames=embed, sample_rate=16000, hop_ms=20, first_ms=12.5, window_ms=window_ms)
    model, waves = api.load_model(), torch.randn(1, 48000)
    frames, times = api.get_timestamp_embeddings(waves, model)
    assert {*seen} == {16 * window_ms}
    expected = waves.unfold(1, 400, 320)
    assert torch.equal(frames[:, : expected.shape[1]], expected)
    assert times[0].tolist() == [12.5 + 20 * i for i in range(150)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"load": lambda: "no module", "frames": lambda net, waves: waves}, "got a str"),
        ({"frames": lambda waves: waves}, r"frames of waves of shape \(1, 16000\): got \(1, 16000\)"),
        ({"frames": lambda waves: None}, "got NoneType"),
        ({"frames": lambda waves: torch.zeros(len(waves), 0, 8)}, r"got \(1, 0, 8\)"),
    ],
)
def test_what_is_no_model_is_one_line(given: dict[str, object], expected: str) -> None:
    with pytest.raises(AdapterError, match=expected):
        heareval.wrap(**given, **TIMES).load_model()


SUBMISSION = """
import sys
import heareval, torch

assert "luigi" not in sys.modules
net = torch.nn.Linear(160, 4)
torch.nn.init.ones_(net.weight)

def frames(waves):
    return net(waves.unfold(1, 160, 160))

model = heareval.wrap(frames=frames, sample_rate=16000, hop_ms=10, first_ms=5)
"""


def test_it_works_where_heareval_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment that has what lies beside heareval, such as torch, but not heareval."""
    monkeypatch.chdir(tmp_path)
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    # A folder that a .pth file adds is not searched for others, as of editable installations.
    (packages / "beside.pth").write_text(sysconfig.get_path("purelib"))
    python = str(tmp_path / "venv" / "bin" / "python")
    if not subprocess.run([python, "-c", "import heareval"], capture_output=True, check=False).returncode:
        pytest.skip("heareval is installed among its dependencies")
    (tmp_path / "mine.py").write_text(SUBMISSION)
    model = Model("mine", file=str(tmp_path / "mine.py"), api_object="model", python=python)
    job = {"do": "describe", "device": "cpu", "precision": "float32", "embedding_type": "event"}
    result = model.run(job, tmp_path / "log")
    assert result["sample_rate"] == 16000
    assert result["versions"]["heareval.embeddings.adapters.wrapping"].isdecimal()
    # The version and the code of heareval do not matter to it.
    assert "heareval" not in result["versions"]
    ours = str(Path(heareval.__file__).parent)
    assert [path for path in result["sources"] if path.startswith((ours, str(tmp_path)))] == [model.file]
    facts = json.loads(result["facts"])
    assert (facts["hop_ms"], facts["first_ms"], facts["timestamp_embedding_size"]) == (10, 5, 4)


XARES = """
import torch
from neighbour import SIZE

class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sampling_rate, self.output_dim, self.hop_size_in_ms = {rate}, SIZE, 40
        self.net = torch.nn.Linear(int({rate} * 0.04), SIZE)

    def forward(self, audio):
        return self.net(audio.unfold(1, self.net.in_features, self.net.in_features))

class Bare(torch.nn.Module):
    pass
"""


@pytest.mark.parametrize(("rate", "expected"), [(16000, 16000), (24000, 48000)])
def test_encoders_of_xares(rate: int, expected: int, tmp_path: Path) -> None:
    (tmp_path / "their_encoder.py").write_text(XARES.format(rate=rate))
    (tmp_path / "neighbour.py").write_text("SIZE = 5")
    file = str(tmp_path / "their_encoder.py")
    model = xares_encoders.load_model(file=file, encoder="Encoder")
    assert (model.sample_rate, model.timestamp_embedding_size) == (expected, 5)
    with torch.no_grad():
        frames, times = xares_encoders.get_timestamp_embeddings(torch.randn(2, expected), model)
    assert frames.shape == (2, 25, 5)
    assert times[0, :2].tolist() == [20.0, 60.0]
    with pytest.raises(AdapterError, match="no class Other in the file"):
        xares_encoders.load_model(file=file, encoder="Other")
    with pytest.raises(AdapterError, match="no class SIZE in the file"):
        xares_encoders.load_model(file=file, encoder="SIZE")
    with pytest.raises(AdapterError, match="a Bare without sampling_rate, output_dim, hop_size_in_ms"):
        xares_encoders.load_model(file=file, encoder="Bare")
    for name in ("their_encoder", "neighbour"):
        sys.modules.pop(name)
