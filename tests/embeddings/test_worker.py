"""The worker with good and broken submissions, in this process."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings import worker  # noqa: E402
from heareval.tasks.audio import write_wav  # noqa: E402

CLIPS = {"train": [f"{i}.wav" for i in range(7)], "test": ["a.wav", "b.wav"]}
SECONDS, RATE, HOP_MS = 1.5, 16000, 50.0


class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = RATE, 4, 4


def timestamps(audio: torch.Tensor, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    frames = audio.unfold(1, 800, 800)
    values = torch.stack([frames.mean(2), frames.amax(2), frames.amin(2), frames.std(2)], dim=2)
    times = (torch.arange(frames.shape[1]) * HOP_MS + HOP_MS / 2).expand(len(audio), -1)
    return values, times


def scene(audio: torch.Tensor, model: Model) -> torch.Tensor:
    return timestamps(audio, model)[0].mean(1)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task folder of noise at 16 kHz."""
    draw = np.random.RandomState(0)
    for split, names in CLIPS.items():
        (tmp_path / "task" / str(RATE) / split).mkdir(parents=True)
        (tmp_path / "task" / f"{split}.json").write_text(json.dumps({name: ["x"] for name in names}))
        for name in names:
            samples = draw.randint(-9999, 9999, round(SECONDS * RATE)).astype(np.int16)
            write_wav(tmp_path / "task" / str(RATE) / split / name, samples, RATE)
    return tmp_path / "task"


def embed(
    monkeypatch: pytest.MonkeyPatch,
    task: Path,
    *,
    kind: str = "scene",
    budget: int = 60000,
    **changes: object,
) -> Path:
    """Embed with a submission that differs from a good one in some functions; returns the folder."""
    functions = {
        "load_model": lambda model_file_path="": Model(),
        "get_scene_embeddings": scene,
        "get_timestamp_embeddings": timestamps,
        **changes,
    }
    module = types.ModuleType("submitted")
    for name, function in functions.items():
        if function is not None:
            setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "submitted", module)
    out = task.parent / "out"
    out.mkdir(exist_ok=True)
    job = {"module": "submitted", "model": "", "options": {}, "task": str(task), "splits": list(CLIPS)}
    monkeypatch.setattr(worker, "say", lambda message: None)
    worker.embed({**job, "embedding_type": kind, "batch_samples": budget, "out": str(out)})
    return out


def read(task: Path, split: str) -> np.ndarray:
    return worker.read_batch([task / str(RATE) / split / name for name in CLIPS[split]], RATE)


@pytest.mark.parametrize("budget", [1, 60000, 10**9])
def test_scene_embeddings_in_the_order_of_the_json(
    monkeypatch: pytest.MonkeyPatch, task: Path, budget: int
) -> None:
    out = embed(monkeypatch, task, budget=budget)
    for split in CLIPS:
        expected = scene(torch.from_numpy(read(task, split)), Model()).numpy()
        stored = np.load(out / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        np.testing.assert_allclose(stored, expected, rtol=1e-6)


def test_timestamp_embeddings(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    out = embed(monkeypatch, task, kind="event")
    expected, times = timestamps(torch.from_numpy(read(task, "train")), Model())
    np.testing.assert_allclose(np.load(out / "train.npy"), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(np.load(out / "train.timestamps.npy"), times.numpy())


def test_clips_of_different_length_never_share_a_batch(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    seen = []

    def watching(audio: torch.Tensor, model: Model) -> torch.Tensor:
        seen.append(tuple(audio.shape))
        return scene(audio, model)

    write_wav(task / str(RATE) / "train" / "2.wav", np.ones(8000, np.int16), RATE)
    embed(monkeypatch, task, budget=10**9, get_scene_embeddings=watching)
    assert seen == [(2, 24000), (1, 8000), (4, 24000), (2, 24000)]


def changed(answer: object) -> object:
    """A function of the API whose answer goes through `answer`."""

    def function(audio: torch.Tensor, model: Model) -> object:
        return answer(*timestamps(audio, model))

    return function


def model_with(**attributes: object) -> object:
    """A load_model whose model has other attributes."""

    def load_model(model_file_path: str = "") -> Model:
        model = Model()
        for name, value in attributes.items():
            setattr(model, name, value)
        return model

    return load_model


SCENE_BUGS = {
    "no load_model": ({"load_model": None}, "no function load_model"),
    "no scene function": ({"get_scene_embeddings": None}, "no function get_scene_embeddings"),
    "no module": (
        {"load_model": lambda model_file_path="": types.SimpleNamespace(**vars(Model))},
        "torch.nn.Module",
    ),
    "rate as text": ({"load_model": model_with(sample_rate="16000")}, "sample_rate = '16000'"),
    "odd rate": ({"load_model": model_with(sample_rate=12345)}, "'one of 16000, 22050"),
    "rate not prepared": ({"load_model": model_with(sample_rate=48000)}, "--sample-rate 48000"),
    "wrong size": ({"load_model": model_with(scene_embedding_size=5)}, r"\(2, 5\), a row for each clip"),
    "frames instead of a scene": ({"get_scene_embeddings": changed(lambda e, t: e)}, "embeddings of shape"),
    "no rows": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1)[:0])}, r"shape \(0, 4\)"),
    "one row": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1)[:1])}, "a row for each clip"),
    "a row too few": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1)[1:])}, "a row for each clip"),
    "a row too many": (
        {"get_scene_embeddings": changed(lambda e, t: torch.cat([e, e[:1]]).mean(1))},
        "a row for each clip",
    ),
    "exception": (
        {"get_scene_embeddings": changed(lambda e, t: e.mean(7))},
        r"IndexError: Dimension .*\(line",
    ),
    "no such weights": (
        {"load_model": lambda model_file_path="": open("/nowhere")},  # noqa: SIM115
        "load_model of submitted.*FileNotFoundError",
    ),
    "too many rows": (
        {"get_scene_embeddings": changed(lambda e, t: e.mean(1).repeat(9, 1))},
        "embeddings of shape",
    ),
    "double": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1).double())}, "float64"),
    "NaN": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1) / 0 * 0)}, "NaN or infinity"),
    "with timestamps": ({"get_scene_embeddings": changed(lambda e, t: (e.mean(1), t))}, "2 arrays"),
}
EVENT_BUGS = {
    "seconds": (lambda e, t: (e, t / 1000), "look like seconds: multiply them by 1000"),
    "decreasing": (lambda e, t: (e, t.flip(1)), "not increasing"),
    "NaN time": (lambda e, t: (e, t * float("nan")), "not increasing"),
    "far beyond the end": (lambda e, t: (e, t * 1000), "0 to 1500 ms"),
    "one time for all": (lambda e, t: (e, t[:, :1]), "timestamps of shape"),
    "no times": (lambda e, t: e, "1 arrays"),
    "NaN": (lambda e, t: (e * float("inf"), t), "NaN or infinity"),
}


@pytest.mark.parametrize("bug", SCENE_BUGS)
def test_broken_submission(monkeypatch: pytest.MonkeyPatch, task: Path, bug: str) -> None:
    changes, complaint = SCENE_BUGS[bug]
    with pytest.raises(worker.SubmissionError, match=complaint):
        embed(monkeypatch, task, **changes)


@pytest.mark.parametrize("bug", EVENT_BUGS)
def test_broken_timestamps(monkeypatch: pytest.MonkeyPatch, task: Path, bug: str) -> None:
    answer, complaint = EVENT_BUGS[bug]
    with pytest.raises(worker.SubmissionError, match=complaint):
        embed(monkeypatch, task, kind="event", get_timestamp_embeddings=changed(answer))


def test_error_names_the_clip(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    def silent_about_one(audio: torch.Tensor, model: Model) -> torch.Tensor:
        answer = scene(audio, model)
        answer[(audio == 0).all(1)] = float("nan")
        return answer

    write_wav(task / str(RATE) / "train" / "4.wav", np.zeros(round(SECONDS * RATE), np.int16), RATE)
    with pytest.raises(worker.SubmissionError, match=r"train/4\.wav"):
        embed(monkeypatch, task, get_scene_embeddings=silent_about_one)


def test_missing_and_wrong_clips(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    clip = task / str(RATE) / "train" / "3.wav"
    write_wav(clip, np.ones(round(SECONDS * RATE), np.int16), 8000)
    with pytest.raises(worker.SubmissionError, match=r"3\.wav.*8000 Hz"):
        embed(monkeypatch, task)
    clip.unlink()
    with pytest.raises(worker.SubmissionError, match=r"3\.wav.*No such file"):
        embed(monkeypatch, task)
