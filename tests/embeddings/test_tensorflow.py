"""Submissions of TensorFlow 2, each in another process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from heareval.embeddings.inside.reading import ClipBlock, read_block
from heareval.embeddings.opening import open_submission
from heareval.embeddings.submission import Model
from heareval.errors import HearevalError
from tests.embeddings.clips import RATE, embed, manifest, write_task

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="needs TensorFlow: pip install 'heareval[tensorflow]'",
)

HEAD = """
import tensorflow as tf
"""
# What load_model returns: a tf.Module, a Keras model, and one loaded from disk.
MODULE = """
class Model(tf.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

def load_model(model_file_path="", fits=10**9):
    model = Model()
    model.weight, model.fits = tf.Variable(2.0), fits
    return model
"""
KERAS = """
class Model(tf.keras.Model):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8
    weight = 2.0

def load_model(model_file_path="", fits=10**9):
    model = Model()
    model.fits = fits
    return model
"""
SAVED = """
import tempfile

def load_model(model_file_path="", fits=10**9):
    plain = tf.Module()
    plain.weight = tf.Variable(2.0)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(plain, folder)
        model = tf.saved_model.load(folder)
    model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size = 16000, 8, 8
    model.fits = fits
    return model
"""
FUNCTIONS = """
def get_timestamp_embeddings(audio, model):
    with open("calls", "a") as calls:
        calls.write(f"{audio.shape[0]}\\n")
    if audio.shape[0] * audio.shape[1] > model.fits:
        tf.zeros([10**6, 10**9])
    frames = tf.signal.frame(audio, 800, 800)
    values = tf.reduce_mean(tf.reshape(frames, [*frames.shape[:2], 8, 100]), -1) * model.weight
    times = tf.range(frames.shape[1], dtype=tf.float32) * 50.0 + 25.0
    return values, tf.repeat(times[None], audio.shape[0], 0)

def get_scene_embeddings(audio, model):
    return tf.reduce_mean(get_timestamp_embeddings(audio, model)[0], 1)
"""


def write_model(folder: Path, kind: str) -> None:
    (folder / "my_model.py").write_text(HEAD + kind + FUNCTIONS)


def expected(task: Path, clips: int, samples: int) -> np.ndarray:
    paths = [str(task / str(RATE) / "a" / f"{i}.wav") for i in range(clips)]
    audio = read_block(ClipBlock("a", list(range(clips)), paths, samples))
    return audio.reshape(clips, -1, 8, 100).mean(-1) * 2


@pytest.mark.parametrize("kind", [MODULE, KERAS, SAVED], ids=["module", "keras", "saved"])
def test_scene_embeddings(tmp_path: Path, kind: str) -> None:
    write_model(tmp_path, kind)
    task = write_task(tmp_path / "task", {"a": [8000] * 7})
    assert not embed(tmp_path, task, budget=24000)
    stored = np.load(tmp_path / "out" / "a.npy")
    np.testing.assert_allclose(stored, expected(task, 7, 8000).mean(1), rtol=1e-4, atol=1e-6)
    assert (manifest(tmp_path)["framework"], manifest(tmp_path)["device"]) == ("tensorflow", "cpu")


def test_timestamp_embeddings_in_chunks(tmp_path: Path) -> None:
    write_model(tmp_path, MODULE)
    task = write_task(tmp_path / "task", {"a": [32000] * 3}, "event")
    assert not embed(tmp_path, task, budget=10**6, form={"chunk_s": 1.0})
    stored = np.load(tmp_path / "out" / "a.npy")
    np.testing.assert_allclose(stored, expected(task, 3, 32000), rtol=1e-4, atol=1e-6)
    times = np.load(tmp_path / "out" / "a.timestamps.npy")
    np.testing.assert_allclose(times[1], np.arange(40) * 50 + 25)


def test_resource_exhausted_halves_the_batch(tmp_path: Path) -> None:
    """TensorFlow's own error, from an allocation that no machine can give."""
    write_model(tmp_path, MODULE)
    task = write_task(tmp_path / "task", {"a": [800] * 40})
    assert not embed(tmp_path, task, budget=16000, options={"fits": 6400})
    calls = [int(line) for line in (tmp_path / "calls").read_text().split()]
    assert calls[:3] == [20, 10, 5]
    np.testing.assert_allclose(
        np.load(tmp_path / "out" / "a.npy"), expected(task, 40, 800).mean(1), rtol=1e-4, atol=1e-6
    )


def test_bf16_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, MODULE)
    task = write_task(tmp_path / "task", {"a": [800]})
    told = embed(tmp_path, task, budget=16000, form={"precision": "bf16"})
    assert "precision bf16: got a TensorFlow model" in told


def test_a_description_does_not_import_the_submission_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path, KERAS)
    assert open_submission(Model("my_model"), "scene", tmp_path / "cache").sample_rate == RATE
    write_model(tmp_path, MODULE.replace("tf.Module", "object"))
    with pytest.raises(HearevalError, match=r"my_model\.Model, expected a torch\.nn\.Module or a tf\.Module"):
        open_submission(Model("my_model"), "scene", tmp_path / "cache")
