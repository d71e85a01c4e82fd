"""Submissions of TensorFlow 2: a good one of each kind, and changes that only one check may notice."""

from __future__ import annotations

from tests.embeddings.zoo import Broken

# 8 bands of the spectrum in windows of 50 ms, hop 50 ms; short audio is padded to one window.
HEAD = """
import numpy as np
import tensorflow as tf
"""
FUNCTIONS = """
def get_timestamp_embeddings(audio, model):
    length = audio.shape[1]
    audio = tf.pad(audio, [[0, 0], [0, max(0, 800 - length)]])
    frames = tf.signal.frame(audio, 800, 800)
    spectrum = tf.abs(tf.signal.rfft(frames))[..., 1:393]
    bands = tf.reduce_mean(tf.reshape(spectrum, [*frames.shape[:2], 8, 49]), -1)
    values = tf.math.log(bands + 1e-3) * model.scale
    times = tf.range(frames.shape[1], dtype=tf.float32) * 50.0 + min(25.0, length / 32)
    return values, tf.repeat(times[None], audio.shape[0], 0)

def get_scene_embeddings(audio, model):
    return tf.reduce_mean(get_timestamp_embeddings(audio, model)[0], 1)
"""
GOOD = (
    HEAD
    + """
class Model(tf.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

def load_model(model_file_path=""):
    model = Model()
    model.scale = tf.Variable(tf.ones(8))
    if model_file_path:
        model.scale.assign(np.load(model_file_path))
    return model
"""
    + FUNCTIONS
)
# Its weights are a file that Keras writes.
KERAS = (
    HEAD
    + """
class Scale(tf.keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(name="scale", shape=(8,), initializer="ones")
    def call(self, values):
        return values * self.scale

def load_model(model_file_path=""):
    bands = tf.keras.Input((None, 8))
    model = tf.keras.Model(bands, Scale()(bands))
    if model_file_path:
        model.load_weights(model_file_path)
    model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size = 16000, 8, 8
    return model
"""
    + FUNCTIONS.replace("tf.math.log(bands + 1e-3) * model.scale", "model(tf.math.log(bands + 1e-3))")
)
# tf.saved_model.load returns an object of another class, with the functions that were saved.
SAVED = (
    HEAD
    + """
import tempfile

class Saved(tf.Module):
    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(tf.ones(8))
    @tf.function(input_signature=[tf.TensorSpec([None, None, 8], tf.float32)])
    def scaled(self, values):
        return values * self.scale

def load_model(model_file_path=""):
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(Saved(), folder)
        model = tf.saved_model.load(folder)
    if model_file_path:
        model.scale.assign(np.load(model_file_path))
    model.sample_rate, model.scene_embedding_size, model.timestamp_embedding_size = 16000, 8, 8
    return model
"""
    + FUNCTIONS.replace("tf.math.log(bands + 1e-3) * model.scale", "model.scaled(tf.math.log(bands + 1e-3))")
)
KINDS = {"module": GOOD, "keras": KERAS, "saved": SAVED}

VALUES, TIMES = "    return values, tf", "tf.repeat(times[None], audio.shape[0], 0)"
MEAN = "tf.reduce_mean(get_timestamp_embeddings(audio, model)[0], 1)"
FEED = "    frames = tf.signal.frame(audio, 800, 800)"
# A function of a graph that was traced with clips of a second, as a SavedModel may have it.
FIXED = """
@tf.function(input_signature=[tf.TensorSpec([None, 16000], tf.float32)])
def framed(audio):
    return tf.signal.frame(audio, 800, 800)
"""


def broken(check: str, old: str, new: str, result: str = "failed") -> Broken:
    """A change of the good submission of TensorFlow."""
    return Broken(check, old, new, result, good=GOOD)


ZOO = {
    "ignores_weights": broken(
        "weights", "        model.scale.assign(np.load(model_file_path))", "        pass"
    ),
    "no_module": broken("model", "class Model(tf.Module)", "class Model"),
    "doubles": broken("types", VALUES, "    values = tf.cast(values, tf.float64)\n" + VALUES),
    "arrays": broken("types", MEAN, MEAN + ".numpy()", "warning"),
    "a_list": broken("types", MEAN, f"[{MEAN}]", "warning"),
    "ragged": broken("types", VALUES, "    values = tf.RaggedTensor.from_tensor(values)\n" + VALUES),
    "whole_times": broken("types", TIMES, f"tf.cast({TIMES}, tf.int32)", "warning"),
    "traced_with_one_length": Broken("scene shape", FEED, "    frames = framed(audio)", good=GOOD + FIXED),
    "nan": broken("finite", "* model.scale", "* model.scale * float('nan')"),
    "log_of_zero": broken("silence", "bands + 1e-3", "bands"),
    "keeps_a_state": broken(
        "determinism", VALUES, "    values += model.scale.assign_add(0.1 * tf.ones(8))\n" + VALUES
    ),
    "dropout": broken("determinism", "* model.scale", "* tf.nn.dropout(model.scale, 0.5)"),
    "unseeded": broken("reload", "tf.ones(8)", "tf.random.normal([8])"),
    "by_batch": broken(
        "batch", VALUES, "    values -= 0.5 * tf.reduce_mean(values, 0, keepdims=True)\n" + VALUES
    ),
    "seconds": broken("milliseconds", TIMES, TIMES + " / 1000"),
    "greedy": broken("memory", FEED, "    length > 16000 * 50 and tf.zeros(2**27) + 1\n" + FEED),
}
