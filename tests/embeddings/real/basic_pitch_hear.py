"""A transcriber as a submission of TensorFlow: the saved model of basic-pitch, for windows of two seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import tensorflow as tf

# Loading a model with the state of an old optimizer needs the Keras that knows it.
import tf_keras  # noqa: F401

RATE, WINDOW, STEP = 22050, 43844, 256
PARTS, SIZE = ("note", "onset", "contour"), 88 + 88 + 264
# Of the 172 frames of a window those in its middle are used, as many as make whole embeddings.
BEFORE, FRAMES, POOLED = 22, 128, 4
# Windows at once.
BLOCK = 16


def load_model(model_file_path: str = "") -> Any:
    """The saved model that the package brings, or another."""
    package = importlib.util.find_spec("basic_pitch")
    inside = Path(package.origin).parent / "saved_models" / "icassp_2022" / "nmp"
    model = tf.saved_model.load(model_file_path or str(inside))
    model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size = RATE, SIZE, SIZE
    return model


def get_timestamp_embeddings(audio: tf.Tensor, model: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """What it finds of notes, onsets and pitch, for each 46 ms, and timestamps in ms."""
    sounds, length = audio.shape
    count = max(1, length // (POOLED * STEP))
    windows = -(-count * POOLED // FRAMES)
    whole = (windows - 1) * FRAMES * STEP + WINDOW
    padded = tf.pad(audio, [[0, 0], [BEFORE * STEP, max(0, whole - BEFORE * STEP - length)]])
    cut = tf.reshape(tf.signal.frame(padded[:, :whole], WINDOW, FRAMES * STEP), [-1, WINDOW, 1])
    frames = tf.concat([asked(cut[i : i + BLOCK], model) for i in range(0, len(cut), BLOCK)], 0)
    pooled = tf.reduce_mean(tf.reshape(frames, [sounds, -1, POOLED, SIZE]), 2)[:, :count]
    times_ms = (tf.range(count, dtype=tf.float32) * POOLED + (POOLED - 1) / 2) * (1000 * STEP / RATE)
    return pooled, tf.repeat(times_ms[None], sounds, 0)


def get_scene_embeddings(audio: tf.Tensor, model: Any) -> tf.Tensor:
    """The mean over time."""
    return tf.reduce_mean(get_timestamp_embeddings(audio, model)[0], 1)


def asked(windows: tf.Tensor, model: Any) -> tf.Tensor:
    """The frames in the middle of each window, `(windows, FRAMES, SIZE)`."""
    answer = model(windows)
    return tf.concat([answer[part] for part in PARTS], 2)[:, BEFORE : BEFORE + FRAMES]
