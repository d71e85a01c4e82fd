"""What each check of `heareval validate` is good for: what its failure costs, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """Why a check matters, and what to do if it fails."""

    costs: str
    mend: str


_STOPS = "The run stops before the first embedding."
ADVICE = {
    "functions": Advice(
        _STOPS,
        "Install the module with `pip install PATH`, or run in its folder; define load_model, "
        "get_scene_embeddings and get_timestamp_embeddings (docs/protocol.md).",
    ),
    "weights": Advice(
        "A model that goes on without its weights is scored with random ones.",
        "Let load_model read model_file_path, and let what reads it raise: torch.load and load_state_dict "
        "(strict=True), in TensorFlow tf.train.Checkpoint.restore(...).assert_consumed().",
    ),
    "model": Advice(
        _STOPS,
        "Let load_model return a torch.nn.Module, or in TensorFlow a tf.Module, a Keras model or what "
        "tf.saved_model.load gives.",
    ),
    "attributes": Advice(
        _STOPS,
        "Set sample_rate, scene_embedding_size and timestamp_embedding_size, positive ints, on the model.",
    ),
    "sample rate": Advice(
        "No task is prepared at this rate.",
        "Take 16000, 22050, 32000, 44100 or 48000 Hz, and resample inside the model if it needs another.",
    ),
    "types": Advice(
        "The first batch is refused.",
        "Return float32 tensors: embeddings, and (embeddings, timestamps) with float timestamps.",
    ),
    "device": Advice(
        "Copies between devices at each batch, or a crash on a GPU.",
        "Create tensors where the audio is (in PyTorch with device=audio.device), and leave answers there.",
    ),
    "scene shape": Advice(
        "The first batch of that kind is refused.",
        "Return (n_sounds, scene_embedding_size) for any number of sounds; mind squeeze() with one.",
    ),
    "timestamp shape": Advice(
        "The first batch of that kind is refused.",
        "Return (n_sounds, n, timestamp_embedding_size) and timestamps (n_sounds, n), for each sound.",
    ),
    "finite": Advice(
        "The first batch is refused.", "Guard logarithms, roots and divisions with a small floor."
    ),
    "silence": Advice(
        "A clip with a silent stretch stops the run.",
        "Add a floor before the logarithm, and to what you divide by when you normalise.",
    ),
    "clipping": Advice(
        "A clip at full scale stops the run.",
        "Bound what grows at full scale; +1 and -1 are legal samples.",
    ),
    "short audio": Advice(
        "The shortest clips of fsd50k and vocal_imitation stop the run.",
        "Pad audio that is shorter than a window; mind the deviation of a single frame, which is NaN.",
    ),
    "determinism": Advice(
        "Scores that nobody can reproduce.",
        "Dropout, noise, random crops and states that live on between calls have no place when embedding; "
        "see that eval() reaches all parts, in TensorFlow training=False.",
    ),
    "dimensions": Advice(
        "Space, time and points: what is constant or said twice tells the predictor nothing.",
        "Look for dead units, a saturated nonlinearity, a wrong axis of mean() or weights not loaded.",
    ),
    "reload": Advice(
        "A resumed run mixes the embeddings of two models.",
        "Seed what load_model draws with a generator of its own, or save it with the weights.",
    ),
    "order": Advice(
        "Embeddings go to the wrong clips.",
        "Look for reshape() or view() where transpose() was meant, and for sorting by length.",
    ),
    "batch": Advice(
        "Scores depend on the batch size, so on the memory of the machine.",
        "Normalise each sound by itself; BatchNorm in eval(), in TensorFlow training=False; no mean or "
        "maximum over the batch.",
    ),
    "increasing": Advice("Event tasks are refused.", "Give each embedding the time of its centre, in order."),
    "milliseconds": Advice(
        "Seconds for milliseconds: all events land in the first moments, and event scores are 0 or NaN.",
        "Multiply the timestamps by 1000.",
    ),
    "regular": Advice(
        "Events are cut at the wrong places.",
        "Compute timestamp i as first + i * hop_ms in floats, the same for all sounds of a batch.",
    ),
    "inside": Advice(
        "Onsets and offsets are late or early by as much.",
        "Do not count padding; timestamps are those of the audio that was given.",
    ),
    "coverage": Advice(
        "Events that no timestamp is near can not be found.",
        "Do not cut the audio off; work through long audio piece by piece, and pad its end.",
    ),
    "hop": Advice(
        "Onsets must be within 50 ms on the note task and 200 ms elsewhere.",
        "Take a hop of at most 50 ms; 25 to 50 is usual, less costs disk and time.",
    ),
    "centring": Advice(
        "All onsets are off by this: beyond 50 ms no note counts.",
        "Timestamps tell the middle of a window, not its beginning; count padding in front.",
    ),
    "long audio": Advice(
        "The ten-minute clips of the beehive task have no score.",
        "Work through long audio in pieces of bounded length, in PyTorch under torch.no_grad().",
    ),
    "drift": Advice(
        "Events late in a long clip are misplaced.",
        "Take the hop in whole samples and compute times from it: i * hop / sample_rate, without rounding.",
    ),
    "memory": Advice(
        "Out of memory on a GPU of 16 GB, as 18 of 34 models of 2021 were on the beehive task.",
        "Work through long audio in pieces of bounded length, in PyTorch under torch.no_grad().",
    ),
    "speed": Advice(
        "So long does every second of the benchmark take; its larger tasks have tens of hours.",
        "Embed in batches on a GPU; look for loops over sounds or frames.",
    ),
}
