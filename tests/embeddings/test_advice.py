"""The advice of `heareval validate` leads the author of a model to its fault."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings.advice import ADVICE, CAUSES, find_advice  # noqa: E402
from heareval.embeddings.inside.errors import (  # noqa: E402
    SubmissionError,
    blame_submission,
    find_cause,
)
from tests.embeddings.checking import findings_of, noticed  # noqa: E402
from tests.embeddings.zoo import FRAMES, GOOD, LOAD, START, TIMES, VALUES  # noqa: E402
from tests.test_house_style import find_anchors  # noqa: E402

IMPORT, MODEL, RETURN = "import torch\n", "    model = Model()", "    return model\n"
SCENES = (
    "def get_scene_embeddings(audio, model):\n    return get_timestamp_embeddings(audio, model)[0].mean(1)"
)
PEAK = "(audio.abs().amax(1, True) + 1e-6)"


@dataclass(frozen=True)
class Fault:
    """A change of the good submission, and what its author must be told.

    Args:
        old: replaced part of its source.
        new: what replaces it.
        check: the check that meets the fault first.
        measured: words of what it measures.
        fix: words of the fix.
        result: the result of the check.
    """

    old: str
    new: str
    check: str
    measured: str
    fix: str
    result: str = "failed"


def before(code: str) -> tuple[str, str]:
    """A change that runs code at the beginning of get_timestamp_embeddings."""
    return START, f"    {code}\n{START}"


NO_GPU = "Torch not compiled with CUDA|NVIDIA driver|No CUDA GPUs"
FAULTS = {
    # The module can't be imported.
    "syntax": Fault(IMPORT, IMPORT + "def (\n", "functions", "SyntaxError: .*line 3", "Correct what raises"),
    "own file is missing": Fault(
        IMPORT, IMPORT + "import my_layers\n", "functions", "'my_layers' .line 3", "file of your own"
    ),
    "package is missing": Fault(
        IMPORT, IMPORT + "from timm.models import x\n", "functions", "'timm' .line 3", "`requirements`"
    ),
    "name is missing": Fault(
        IMPORT,
        IMPORT + "from json import nosuch\n",
        "functions",
        "cannot import name 'nosuch'",
        "Correct what",
    ),
    "library of CUDA is missing": Fault(
        IMPORT,
        IMPORT + "import ctypes; ctypes.CDLL('libcudart.so.99')\n",
        "functions",
        "libcudart.so.99: cannot open shared object file",
        "built for different versions of torch or CUDA",
    ),
    "torchvision of another torch": Fault(
        IMPORT,
        IMPORT + "torch.library.register_fake('torchvision::nms')(print)\n",
        "functions",
        "operator torchvision::nms does not exist",
        "Install torch, torchaudio and torchvision together",
    ),
    "misnamed function": Fault("def load_model", "def load", "functions", "no function load_model", "Define"),
    # The model can't be loaded.
    "raises": Fault(
        MODEL, "    raise ValueError('why')", "model", "ValueError: why .line 11", "Correct what"
    ),
    "raises in a library": Fault(
        MODEL, "    torch.nn.Linear(3, 'x')", "model", r"line 11 of in_the_zoo", "Correct what raises"
    ),
    "exits": Fault(MODEL, "    import sys; sys.exit(2)", "model", "SystemExit: 2 .line 11", "sys.exit"),
    "needs a GPU": Fault(
        MODEL, MODEL + ".cuda()", "model", NO_GPU, r"map_location='cpu'.*do not call \.cuda"
    ),
    "returns no model": Fault(RETURN, "\n", "model", "got None", "`return model`"),
    "returns a dict": Fault(RETURN, "    return {}\n", "model", "builtins.dict", "Return a torch.nn.Module"),
    # The functions can't be called.
    "raises when called": Fault(
        *before("audio.nosuch()"), "types", "'nosuch' .line 17", "Correct what raises"
    ),
    "exits when called": Fault(*before("import sys; sys.exit(2)"), "types", "SystemExit: 2", "sys.exit"),
    "needs a GPU when called": Fault(*before("audio.cuda()"), "types", NO_GPU, "device=audio.device"),
    "model first": Fault(
        SCENES, SCENES.replace("(audio, model):", "(model, audio):"), "types", "swapped", "audio first"
    ),
    "raises for silence": Fault(
        *before("if audio.max() == 0: raise ValueError('no sound')"),
        "silence",
        "no sound .line 17",
        "Correct what raises",
    ),
    "raises for 10 ms": Fault(
        "max(0, 800 - length)", "0", "short audio", "at 10 ms: RuntimeError", "Pad audio", "warning"
    ),
    "raises for one sound": Fault(
        *before("if len(audio) < 2 and audio.shape[1] < 9000: 1 / 0"),
        "scene shape",
        "for 1 sound of 0.5 s: ZeroDivisionError",
        "Correct what raises",
    ),
    # They return something else.
    "returns nothing": Fault(
        "    return get_timestamp", "    get_timestamp", "types", "None", "return statement"
    ),
    "doubles": Fault(
        VALUES, "    return values.double(), times", "types", "float64", "Return float32 tensors"
    ),
    "bfloat16": Fault(VALUES, "    return values.bfloat16(), times", "types", "bfloat16", "Return float32"),
    "array": Fault(
        ".mean(1)\n", ".mean(1).numpy()\n", "types", "numpy.ndarray", r"without \.numpy", "warning"
    ),
    "list": Fault(
        SCENES,
        SCENES.replace("return ", "return [") + "]",
        "types",
        "list with one",
        "not in a list",
        "warning",
    ),
    "default dtype": Fault(
        IMPORT,
        IMPORT + "torch.set_default_dtype(torch.float64)\n",
        "types",
        "float64 the default dtype",
        "Do not call torch.set_default_dtype",
    ),
    "default dtype for later": Fault(
        RETURN,
        "    torch.set_default_dtype(torch.float64)\n" + RETURN,
        "types",
        "float64 the default dtype",
        "Do not call torch.set_default_dtype",
        "warning",
    ),
    "another size": Fault(
        "16000, 8, 8",
        "16000, 512, 8",
        "scene shape",
        r"1 sound of .* \(1, 8\), not \(1, 512\)",
        "Declare the size",
    ),
    "another size of timestamps": Fault(
        "16000, 8, 8", "16000, 8, 512", "timestamp shape", r"not \(1, n, 512\)", "Declare the size"
    ),
    "frames for a scene": Fault(".mean(1)\n", "\n", "scene shape", r"\(1, 10, 8\), not", "average, or pool"),
    "squeezed": Fault(
        ".mean(1)\n", ".mean(1).squeeze(0)\n", "scene shape", r"\(8,\), not \(1, 8\)", "squeeze"
    ),
    "timestamps first": Fault(
        f"    return values, {TIMES}\n\n{SCENES}",
        f"    return {TIMES}, values\n\n" + SCENES.replace("[0]", "[1]"),
        "timestamp shape",
        r"\(1, 10\) and \(1, 10, 8\)",
        "embeddings first",
    ),
    # Timestamps.
    "one timestamp": Fault(
        VALUES,
        "    values, times = values.mean(1, True), times[:1]\n" + VALUES,
        "increasing",
        "one timestamp",
        "many short windows",
    ),
    "seconds": Fault(TIMES, TIMES + " / 1000", "milliseconds", "3.975", "they are seconds"),
    "frame numbers": Fault(TIMES, f"(({TIMES} - 25) / 50)", "milliseconds", "79", "They count frames"),
    "samples": Fault(TIMES, TIMES + " * 16", "inside", "63600 ms of 4000", "divide samples by sample_rate"),
    "late": Fault(TIMES, TIMES + " + 500", "inside", "4475 ms of 4000", "Do not count padding"),
    # A click and what it changes.
    "overwrites": Fault(*before("audio *= 0.5"), "input", "overwrite the audio", "Work on a copy", "warning"),
    "normalises by the peak": Fault(
        *before(f"audio = audio / {PEAK}"),
        "centring",
        r"all embeddings, and most of all those at \+0\.8 ms",
        "peak, mean or deviation",
        "warning",
    ),
    "normalises by mean and deviation": Fault(
        *before("audio = (audio - audio.mean(1, True)) / (audio.std(1, keepdim=True) + 1e-6)"),
        "centring",
        r"all embeddings, and most of all those at \+0\.8 ms",
        "peak, mean or deviation",
        "warning",
    ),
    "normalises and is off centre": Fault(
        FRAMES,
        f"    audio = torch.roll(audio / {PEAK}, 2400, 1)\n{FRAMES}",
        "centring",
        r"\+150\.8 ms from the click",
        "centre of each window",
    ),
    "hears no click": Fault(
        *before("audio = audio.clamp(-0.05, 0.05) * 0 + audio.std(1, keepdim=True).round(decimals=1)"),
        "centring",
        "changes nothing",
        "filter that removes clicks",
        "warning",
    ),
}


@pytest.fixture(autouse=True)
def _default_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_fault_that_is_told_is_the_one_to_mend(name: str, folder: Path) -> None:
    fault = FAULTS[name]
    assert fault.old in GOOD
    findings = findings_of(folder, GOOD.replace(fault.old, fault.new), long_s=10.0)
    first, result = next(iter(noticed(findings).items()))
    found = findings[first]
    assert (first, result) == (fault.check, fault.result), found
    assert re.search(fault.measured, found["measured"]), found
    assert re.search(fault.fix, find_advice(first, found["cause"]).fix), found


def test_weights_of_another_model(folder: Path) -> None:
    torch.save({"scale": torch.ones(9)}, folder / "other.pt")
    findings = findings_of(folder, GOOD, str(folder / "other.pt"))
    assert "size mismatch for scale" in findings["weights"]["measured"]
    assert "does not fit the model" in find_advice("weights", findings["weights"]["cause"]).fix
    ignores = findings_of(folder, GOOD.replace(LOAD, "        pass"), str(folder / "other.pt"))
    assert "Read model_file_path" in find_advice("weights", ignores["weights"]["cause"]).fix


BUILDS = {
    "builds": [
        OSError("/x/libtorchaudio.so: undefined symbol: _ZNK3c105Error4whatEv"),
        OSError("libtorch_cuda.so: cannot open shared object file: No such file or directory"),
        OSError(
            "/x/libcusparse.so.12: undefined symbol: __nvJitLinkAddData_12_1, version libnvJitLink.so.12"
        ),
        RuntimeError("Detected that PyTorch and TorchAudio were compiled with different CUDA versions."),
    ],
    "no kernel": [
        RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore"),
    ],
    "old numpy": [
        RuntimeError("Numpy is not available"),
        ImportError("numpy.core.multiarray failed to import"),
    ],
    # These are other faults.
    "exception": [
        OSError("libsndfile.so.1: cannot open shared object file: No such file or directory"),
        OSError("/x/mine.so: undefined symbol: my_function"),
    ],
}


@pytest.mark.parametrize(
    ("cause", "error"), [(cause, each) for cause in BUILDS for each in BUILDS[cause]], ids=str
)
def test_builds_that_do_not_fit_together(cause: str, error: Exception) -> None:
    assert find_cause(error, "my_model") == cause
    # Libraries such as transformers raise an error of their own about it.
    outer = RuntimeError("Failed to import a part of a library")
    outer.__cause__ = error
    assert find_cause(outer, "my_model") == cause


def test_the_error_of_a_run_names_builds_that_do_not_fit() -> None:
    with pytest.raises(SubmissionError) as raised, blame_submission("import of my_model"):
        ctypes.CDLL("libcudart.so.99")
    facts = raised.value.facts
    assert facts["got"].startswith("OSError: libcudart.so.99: cannot open shared object file")
    page, _, anchor = re.findall(r"\((docs/.*?)\)", facts["remedy"])[0].partition("#")
    assert anchor in find_anchors(Path(__file__).parents[2] / page)


def test_every_advice_says_what_and_how() -> None:
    for advice in (*ADVICE.values(), *CAUSES.values()):
        assert advice.fix.endswith(".")
        assert not advice.effect or advice.effect.endswith(".")
    for check in ADVICE:
        for cause in ("", *CAUSES):
            assert find_advice(check, cause).effect
