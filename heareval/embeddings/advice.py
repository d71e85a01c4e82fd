"""Advice for each check of `heareval validate`: the effect of a failure, and how to fix it.

Many checks can fail for more than one reason. Where a check knows the cause, its advice is that of the cause.
"""

from __future__ import annotations

from dataclasses import dataclass

from heareval.embeddings.inside.builds import MISMATCHES


@dataclass(frozen=True)
class Advice:
    """Advice for a check.

    Args:
        effect: what a failure does to a run or to its scores.
        fix: how to fix the submission.
    """

    effect: str
    fix: str


_STOPS = "The run stops before the first embedding."
_FIRST_BATCH = "The first batch is refused."
_FIRST_BATCH_OF_KIND = "The first batch of this kind is refused."
_PIECES = "Process long audio in pieces of limited length, in PyTorch under torch.no_grad()."
ADVICE = {
    "functions": Advice(
        _STOPS,
        "Define load_model, get_scene_embeddings and get_timestamp_embeddings with these names "
        "(docs/protocol.md).",
    ),
    "weights": Advice(
        "A model that continues without its weights is scored with random ones.",
        "Read model_file_path in load_model, and let errors through: torch.load and load_state_dict "
        "(strict=True), in TensorFlow tf.train.Checkpoint.restore(...).assert_consumed().",
    ),
    "model": Advice(
        _STOPS,
        "Return a torch.nn.Module from load_model, or in TensorFlow a tf.Module, a Keras model or the result "
        "of tf.saved_model.load.",
    ),
    "attributes": Advice(
        _STOPS,
        "Set sample_rate, scene_embedding_size and timestamp_embedding_size on the model, as positive ints.",
    ),
    "sample rate": Advice(
        "No task is prepared at this rate: the model is refused, or gets resampled clips with "
        "`heareval evaluate --any-rate`.",
        "Use 16000, 22050, 32000, 44100 or 48000 Hz and resample inside the model, or run "
        "`heareval evaluate --any-rate`.",
    ),
    "embeddings": Advice(
        "Tasks of that type have no score. In the benchmark dcase2016_task2 and maestro are event tasks, and "
        "all others are scene tasks.",
        "Scene tasks need get_scene_embeddings, event tasks get_timestamp_embeddings. Add the missing one, "
        "or evaluate on tasks of the other type only.",
    ),
    "types": Advice(
        _FIRST_BATCH,
        "Return float32 tensors: embeddings, and (embeddings, timestamps) with floating-point timestamps.",
    ),
    "device": Advice(
        "Every batch is copied between devices, or the model crashes on a GPU.",
        "Create tensors on the device of the audio (in PyTorch with device=audio.device), and return outputs "
        "on that device.",
    ),
    "scene shape": Advice(
        _FIRST_BATCH_OF_KIND,
        "Return (n_sounds, scene_embedding_size) for any number of sounds; squeeze() breaks a batch of one.",
    ),
    "timestamp shape": Advice(
        _FIRST_BATCH_OF_KIND,
        "Return (n_sounds, n, timestamp_embedding_size), and timestamps (n_sounds, n) for every sound.",
    ),
    "finite": Advice(_FIRST_BATCH, "Add a small floor inside logarithms, roots and divisions."),
    "silence": Advice(
        "A silent clip stops the run.",
        "Add a floor before the logarithm, and to the divisor of a normalisation.",
    ),
    "clipping": Advice(
        "A clip at full scale stops the run.",
        "Limit what grows at full scale; +1 and -1 are valid samples.",
    ),
    "short audio": Advice(
        "The shortest clips of fsd50k and vocal_imitation stop the run.",
        "Pad audio that is shorter than a window; the unbiased standard deviation of a single frame is NaN.",
    ),
    "input": Advice(
        "What uses the audio afterwards gets other samples: the model's own code, or another program for "
        "this API. heareval itself passes a copy where it matters.",
        "Work on a copy: audio = audio.clone(), or x = x / 2 instead of x /= 2 and x.div_(2).",
    ),
    "determinism": Advice(
        "Nobody can reproduce the scores.",
        "Remove dropout, noise, random crops and state that is kept between calls; make sure that eval() "
        "reaches all parts, in TensorFlow training=False.",
    ),
    "dimensions": Advice(
        "Constant and duplicate dimensions waste space, time and points: they tell the predictor nothing.",
        "Look for dead units, a saturated nonlinearity, the wrong axis of mean(), or weights not loaded.",
    ),
    "reload": Advice(
        "Nobody can reproduce the scores, and a resumed run mixes the embeddings of two models.",
        "Give the trained weights with --model, or load them in load_model when it gets no argument; look "
        "for `if model_file_path:` without an else, and for strict=False. If random weights are wanted, use "
        "a generator with a fixed seed.",
    ),
    "order": Advice(
        "Embeddings are assigned to the wrong clips.",
        "Look for reshape() or view() instead of transpose(), and for sorting by length.",
    ),
    "batch": Advice(
        "Scores depend on the batch size, and thus on the memory of the machine.",
        "Normalise each sound separately; use BatchNorm in eval(), in TensorFlow training=False; compute no "
        "mean or maximum over the batch.",
    ),
    "increasing": Advice(
        "Event tasks are refused.", "Return the time of the centre of each window, in increasing order."
    ),
    "milliseconds": Advice(
        "All events land in the first moments of a clip, and event scores are 0 or NaN.",
        "Multiply the timestamps by 1000: they are seconds.",
    ),
    "regular": Advice(
        "Events begin and end at the wrong places.",
        "Compute timestamp i as first + i * hop_ms in floating point, the same for all sounds of a batch.",
    ),
    "inside": Advice(
        "Onsets and offsets are late or early by this much.",
        "Do not count padding: timestamps refer to the audio that was passed.",
    ),
    "coverage": Advice(
        "Events far from any timestamp cannot be found.",
        "Do not truncate the audio: process long audio in pieces, and pad its end.",
    ),
    "hop": Advice(
        "Onsets must be within 50 ms in the note task and 200 ms elsewhere.",
        "Use a hop of at most 50 ms. 25 to 50 ms is usual; less takes more disk space and time.",
    ),
    "centring": Advice(
        "All onsets are off by this much; beyond 50 ms no note counts.",
        "Return the centre of each window, not its beginning; account for padding at the front.",
    ),
    "long audio": Advice("The ten-minute clips of the beehive task have no score.", _PIECES),
    "drift": Advice(
        "Events late in a long clip are misplaced.",
        "Use a hop of whole samples, and compute times from it without rounding: i * hop / sample_rate.",
    ),
    "memory": Advice(
        "A GPU with 16 GB runs out of memory, as it did for 18 of 34 models of 2021 on the beehive task.",
        _PIECES,
    ),
    "speed": Advice(
        "The larger tasks of the benchmark have tens of hours of audio.",
        "Embed in batches on a GPU; look for loops over sounds or frames.",
    ),
}
# Cause of a failure -> its advice; without an effect, that of the check.
CAUSES = {
    # The process ended during a check.
    "ended": Advice(
        "",
        "Find what ends the process: the model's own code, a library, or a lack of memory. The log ends with "
        "what it printed last.",
    ),
    "memory": Advice("", f"The memory ran out. {_PIECES}"),
    "silent": Advice(
        "",
        "The log shows what each thread was doing. Use a larger --check-timeout if the model is only slow.",
    ),
    "exit": Advice("", "Raise an exception where the model ends the program, as sys.exit() does."),
    "exception": Advice("", "Correct what raises the exception; the log has the whole traceback."),
    # The module and the model can't be loaded.
    "missing import": Advice(
        _STOPS,
        "The module itself was found, but not what it imports. If that is a file of your own, run in its "
        "folder, or install it together with the module. If it is a package, install it, or name it in "
        "`requirements` (docs/submissions.md).",
    ),
    "module": Advice(_STOPS, "Install the module with `pip install PATH`, or run in its folder."),
    "cuda": Advice(
        "A machine without a GPU cannot run the model.",
        "Load weights with torch.load(path, map_location='cpu'), do not call .cuda() or .to('cuda'), and "
        "create tensors with device=audio.device: heareval moves the model to a GPU if there is one.",
    ),
    "other weights": Advice(
        _STOPS,
        "The file does not fit the model: compare the names and sizes in the exception with those of the "
        "model, and look for options that change it (--model-options).",
    ),
    "no GPU": Advice(_STOPS, "Fix the driver, install a build with GPU support, or use --device cpu."),
    # torch, what is compiled for it, and the machine do not fit together.
    **{each.cause: Advice(_STOPS, each.remedy) for each in MISMATCHES},
    "no model": Advice(_STOPS, "End load_model with `return model`."),
    # The functions are called in another way than they expect, or return something else.
    "swapped": Advice(
        _FIRST_BATCH,
        "Take the audio first and the model second: get_scene_embeddings(audio, model), "
        "get_timestamp_embeddings(audio, model).",
    ),
    "not pooled": Advice(
        "",
        "Return one embedding for each sound: average, or pool in another way, over time.",
    ),
    "swapped output": Advice(_FIRST_BATCH, "Return the embeddings first and the timestamps second."),
    "no output": Advice(_FIRST_BATCH, "End the function with a return statement."),
    "arrays": Advice(
        "heareval accepts arrays, but other programs for this API do not, and on a GPU each batch is copied.",
        "Return the tensors themselves, without .numpy() and not in a list.",
    ),
    "default dtype": Advice(
        "Tensors and layers that are created from then on, also by other code, have another type.",
        "Do not call torch.set_default_dtype(); give the dtype where it matters, as in torch.zeros(n, "
        "dtype=torch.float64), and return float32.",
    ),
    "declared size": Advice(
        "",
        "Declare the size that the function returns, or return the size that is declared.",
    ),
    "very short audio": Advice(
        "No clip of the benchmark is that short, but clips of your own tasks may be, and would stop the run.",
        "Pad audio that is shorter than a window.",
    ),
    # Timestamps.
    "one timestamp": Advice(
        "Event tasks are refused.", "Return the embeddings of many short windows, one timestamp for each."
    ),
    "frame numbers": Advice(
        "All events land in the first moments of a clip, and event scores are 0 or NaN.",
        "They count frames: multiply them by the distance of two frames in milliseconds.",
    ),
    "unit": Advice(
        "Every batch of an event task is refused.",
        "Return milliseconds: divide samples by sample_rate / 1000, or microseconds by 1000.",
    ),
    # Which embeddings a click changes.
    "deaf": Advice(
        "Short sounds are not found.",
        "Look for a filter that removes clicks of 2 ms, for windows that skip audio between them, and for "
        "timestamp embeddings that do not depend on the audio.",
    ),
    "whole clip": Advice(
        "A loud sound anywhere in a clip changes the embeddings of all other sounds in it.",
        "Look for a normalisation by the peak, mean or deviation of the clip, for attention over all of it, "
        "and for an embedding of the clip that is added to those of windows. If the model is meant to be "
        "so, nothing is wrong.",
    ),
    "blocks": Advice(
        "Onsets within a block of audio cannot be told apart.",
        "Look for a normalisation or pooling over blocks of audio, and for attention within them. If the "
        "model is meant to be so, nothing is wrong.",
    ),
}


def find_advice(check: str, cause: str) -> Advice:
    """Return the advice for a check that found a fault, or for the cause of the fault.

    >>> find_advice("silence", "exception").effect
    'A silent clip stops the run.'
    """
    advice = CAUSES[cause] if cause else ADVICE[check]
    return advice if advice.effect else Advice(ADVICE[check].effect, advice.fix)
