"""The code that runs in the submission's environment, with good and broken submissions, in this process."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings import submission  # noqa: E402
from heareval.embeddings.inside import embed as inside_embed  # noqa: E402
from heareval.embeddings.inside.errors import SubmissionError  # noqa: E402
from heareval.embeddings.inside.frameworks import Torch  # noqa: E402
from heareval.embeddings.inside.reading import (  # noqa: E402
    BufferPool,
    ClipBlock,
    read_ahead,
    read_block,
    read_length,
)
from heareval.tasks.audio import write_wav  # noqa: E402
from tests.commands import MODEL  # noqa: E402
from tests.embeddings import elsewhere  # noqa: E402

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
    dtype: str = "float32",
    chunk_s: float = 0.0,
    **changes: object,
) -> Path:
    """Embed with a submission that differs from a good one in some functions; return the output folder."""
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
    job = {"module": "submitted", "weights_path": "", "options": {}, "task": str(task), "splits": list(CLIPS)}
    job |= {"device": "auto", "precision": "float32", "dtype": dtype, "chunk_s": chunk_s}
    job |= {"done": 0, "history": [], "batch_samples": budget}
    inside_embed.embed({**job, "embedding_type": kind, "out": str(out)})
    return out


def read(task: Path, split: str) -> np.ndarray:
    paths = [str(task / str(RATE) / split / name) for name in CLIPS[split]]
    rows = list(range(len(paths)))
    return read_block(ClipBlock(split, rows, paths, round(SECONDS * RATE)))


@pytest.mark.parametrize("budget", [1, 60000, 10**9])
def test_scene_embeddings_in_the_order_of_the_json(
    monkeypatch: pytest.MonkeyPatch, task: Path, budget: int
) -> None:
    out = embed(monkeypatch, task, budget=budget)
    for split in CLIPS:
        expected = scene(torch.from_numpy(read(task, split)), Model()).numpy()
        stored = np.load(out / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        np.testing.assert_allclose(stored, expected, rtol=1e-6)


def test_functions_without_a_name(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    expected = np.load(embed(monkeypatch, task) / "train.npy")
    out = embed(monkeypatch, task, get_scene_embeddings=functools.partial(scene))
    np.testing.assert_array_equal(np.load(out / "train.npy"), expected)


def test_timestamp_embeddings(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    out = embed(monkeypatch, task, kind="event")
    expected, times = timestamps(torch.from_numpy(read(task, "train")), Model())
    np.testing.assert_allclose(np.load(out / "train.npy"), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(np.load(out / "train.timestamps.npy"), times.numpy())


def test_clips_of_one_length_share_batches(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    """No clip is padded, the longest come first, and each row is written to its place."""
    seen = []

    def watching(audio: torch.Tensor, model: Model) -> torch.Tensor:
        seen.append(tuple(audio.shape))
        return scene(audio, model)

    for name in ("2.wav", "5.wav"):
        shorter = np.random.RandomState(int(name[0])).randint(-9999, 9999, 8000).astype(np.int16)
        write_wav(task / str(RATE) / "train" / name, shorter, RATE)
    out = embed(monkeypatch, task, budget=10**9, get_scene_embeddings=watching)
    assert seen == [(5, 24000), (2, 24000), (2, 8000)]
    stored = np.load(out / "train.npy")
    for row, name in enumerate(CLIPS["train"]):
        path = str(task / str(RATE) / "train" / name)
        samples = read_block(ClipBlock("train", [0], [path], read_length(path, RATE)))
        alone = scene(torch.from_numpy(samples), Model()).numpy()
        np.testing.assert_allclose(stored[row], alone[0], rtol=1e-5)


def test_half_precision_on_disk(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    out = embed(monkeypatch, task, kind="event", dtype="float16")
    expected, times = timestamps(torch.from_numpy(read(task, "train")), Model())
    stored = np.load(out / "train.npy")
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, expected.numpy().astype(np.float16))
    np.testing.assert_array_equal(np.load(out / "train.timestamps.npy"), times.numpy())


def test_values_too_large_for_float16_are_an_error(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    loud = changed(lambda e, t: e.mean(1) + 70000)
    with pytest.raises(SubmissionError, match=r"at most 65504.*Embed without --dtype float16"):
        embed(monkeypatch, task, dtype="float16", get_scene_embeddings=loud)


def changed(answer: object) -> object:
    """Return a function of the API whose output is changed by `answer`."""

    def function(audio: torch.Tensor, model: Model) -> object:
        return answer(*timestamps(audio, model))

    return function


def model_with(**attributes: object) -> object:
    """Return a load_model whose model has other attributes."""

    def load_model(model_file_path: str = "") -> Model:
        model = Model()
        for name, value in attributes.items():
            setattr(model, name, value)
        return model

    return load_model


class WithoutRate(torch.nn.Module):
    @property
    def sample_rate(self) -> int:
        return dict[str, int]()["rate"]


def load_without_rate(model_file_path: str = "") -> WithoutRate:
    return WithoutRate()


def answer_one_by_one(audio: torch.Tensor, model: Model) -> Iterator[torch.Tensor]:
    yield from scene(audio, model)


def complain_at_length(audio: torch.Tensor, model: Model) -> None:
    raise ValueError("x" * 100_000)


SCENE_BUGS = {
    "no load_model": ({"load_model": None}, "no function load_model"),
    "no scene function": ({"get_scene_embeddings": None}, "no function get_scene_embeddings"),
    "no module": (
        {"load_model": lambda model_file_path="": types.SimpleNamespace(**vars(Model))},
        "torch.nn.Module",
    ),
    "rate as text": ({"load_model": model_with(sample_rate="16000")}, "sample_rate = '16000'"),
    "rate that is no number": ({"load_model": model_with(sample_rate=True)}, "sample_rate = True"),
    "odd rate": ({"load_model": model_with(sample_rate=12345)}, "'12345, which the model asks for'"),
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
    "weights not given": (
        {"load_model": lambda model_file_path: open(model_file_path)},  # noqa: SIM115
        'load_model of submitted, given "" because there is no --model.*FileNotFoundError',
    ),
    "too many rows": (
        {"get_scene_embeddings": changed(lambda e, t: e.mean(1).repeat(9, 1))},
        "embeddings of shape",
    ),
    "double": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1).double())}, "float64"),
    "NaN": ({"get_scene_embeddings": changed(lambda e, t: e.mean(1) / 0 * 0)}, "NaN or infinity"),
    "generator": (
        {"get_scene_embeddings": answer_one_by_one},
        "'get_scene_embeddings', 'a generator', 'tensors'",
    ),
    "dict": (
        {"get_scene_embeddings": changed(lambda e, t: {"scene": e})},
        "'get_scene_embeddings', 'a dict', 'tensors'",
    ),
    "no name": (
        {"get_scene_embeddings": functools.partial(scene, model=None)},
        r"'get_scene_embeddings on audio of shape \(2, 24000\)', .TypeError",
    ),
    "a property that fails": (
        {"load_model": load_without_rate},
        "'sample_rate of the model of submitted', .KeyError",
    ),
    "a large value": (
        {"load_model": model_with(sample_rate=[0] * 1000)},
        r"sample_rate = \[0[0, ]{,290}\.\.\.'",
    ),
    "a long message": ({"get_scene_embeddings": complain_at_length}, r"ValueError: x{200,300}\.\.\. \(line"),
    "with timestamps": ({"get_scene_embeddings": changed(lambda e, t: (e.mean(1), t))}, "2 arrays"),
}
EVENT_BUGS = {
    "no frames": (lambda e, t: (e[:, :0], t[:, :0]), "no timestamps"),
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
    with pytest.raises(SubmissionError, match=complaint):
        embed(monkeypatch, task, **changes)


@pytest.mark.parametrize("bug", EVENT_BUGS)
def test_broken_timestamps(monkeypatch: pytest.MonkeyPatch, task: Path, bug: str) -> None:
    answer, complaint = EVENT_BUGS[bug]
    with pytest.raises(SubmissionError, match=complaint):
        embed(monkeypatch, task, kind="event", get_timestamp_embeddings=changed(answer))


def test_error_names_the_clip(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    def silent_about_one(audio: torch.Tensor, model: Model) -> torch.Tensor:
        answer = scene(audio, model)
        answer[(audio == 0).all(1)] = float("nan")
        return answer

    write_wav(task / str(RATE) / "train" / "4.wav", np.zeros(round(SECONDS * RATE), np.int16), RATE)
    with pytest.raises(SubmissionError, match=r"train/4\.wav"):
        embed(monkeypatch, task, get_scene_embeddings=silent_about_one)


def test_a_buffer_is_lent_to_one_reader_at_a_time() -> None:
    pool = BufferPool()
    with pool.lend(3, 100) as first, pool.lend(2, 100) as second:
        assert first.shape == (3, 100)
        assert not np.shares_memory(first, second)
    with pool.lend(2, 50) as again:
        assert again.shape == (2, 50)
        assert np.shares_memory(again, first) != np.shares_memory(again, second)
    with pool.lend(9, 100) as larger:
        assert larger.shape == (9, 100), "more than any buffer has"


def blocks_of(task: Path, count: int) -> list[ClipBlock]:
    """Return blocks that contain the same clip."""
    path = str(task / str(RATE) / "train" / "0.wav")
    return [ClipBlock("train", [row], [path], round(SECONDS * RATE)) for row in range(count)]


def test_on_a_cpu_no_block_shares_memory_with_another(task: Path) -> None:
    """A model may keep its input, or a view of it, for later calls."""
    framework = Torch("cpu", "float32")
    framework.prepare(torch.nn.Identity())
    kept = [audio for _, audio in read_ahead(blocks_of(task, 30), framework, 1)]
    assert len({audio.data_ptr() for audio in kept}) == 30
    expected = read(task, "train")[:1]
    for audio in kept:
        np.testing.assert_array_equal(audio.numpy(), expected)


class CopyingFramework(Torch):
    """Copies audio that is sent, as for a GPU."""

    sent: list[int]

    @property
    def copies_sent_audio(self) -> bool:
        return True

    def send_to_device(self, audio: np.ndarray) -> object:
        self.sent.append(audio.__array_interface__["data"][0])
        return torch.from_numpy(audio.copy()), None


def test_buffers_are_reused_if_audio_is_copied(task: Path) -> None:
    framework = CopyingFramework("cpu", "float32")
    framework.prepare(torch.nn.Identity())
    framework.sent = []
    kept = [audio for _, audio in read_ahead(blocks_of(task, 30), framework, 1)]
    assert len(framework.sent) == 30
    assert len(set(framework.sent)) <= 2, "one for each thread that reads"
    for audio in kept:
        np.testing.assert_array_equal(audio.numpy(), read(task, "train")[:1])


def test_a_clip_cut_short_is_an_error(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    clip = task / str(RATE) / "train" / "3.wav"
    clip.write_bytes(clip.read_bytes()[:-1001])
    with pytest.raises(SubmissionError, match=r"3\.wav.*23499 samples.*24000"):
        embed(monkeypatch, task)


def test_missing_and_wrong_clips(monkeypatch: pytest.MonkeyPatch, task: Path) -> None:
    clip = task / str(RATE) / "train" / "3.wav"
    write_wav(clip, np.ones(round(SECONDS * RATE), np.int16), 8000)
    with pytest.raises(SubmissionError, match=r"3\.wav.*8000 Hz"):
        embed(monkeypatch, task)
    clip.unlink()
    with pytest.raises(SubmissionError, match=r"3\.wav.*No such file"):
        embed(monkeypatch, task)


def test_our_own_files_are_no_sources_of_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """multiprocessing, which torch imports, registers the main module under a second name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text("import multiprocessing\n" + MODEL)
    described = elsewhere.run_job(
        submission.Model("my_model"), tmp_path / "logs", do="describe", embedding_type="scene"
    )
    assert described["sources"] == [str(tmp_path / "my_model.py")]


LEAVES_NO_TRACE = """
import sys
ours = [name for name in sys.modules if name.partition(".")[0] == "heareval"]
assert not ours, ours
assert not [path for path in sys.path if path.endswith(("inside", "heareval", "heareval/embeddings"))]
assert sys.path[0] == WORKING_FOLDER, sys.path
import channel, errors, embed, submission
assert channel.THEIRS and errors.THEIRS and embed.THEIRS and submission.THEIRS
"""


@pytest.mark.parametrize("safe_path", ["", pytest.param("1", marks=pytest.mark.slow)])
def test_nothing_of_ours_is_in_the_way_of_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safe_path: str
) -> None:
    """Its modules may have the same names as ours, and it may bring a package named heareval."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONSAFEPATH", safe_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in ("channel", "errors", "embed", "submission", "heareval"):
        (folder / f"{name}.py").write_text("THEIRS = True\n")
    head = LEAVES_NO_TRACE.replace("WORKING_FOLDER", repr(str(folder)))
    theirs = "import heareval\nassert heareval.THEIRS\n"
    (folder / "my_model.py").write_text(head + theirs + MODEL)
    described = elsewhere.run_job(
        submission.Model("my_model"), tmp_path / "logs", do="describe", embedding_type="scene"
    )
    assert len(described["sources"]) == 6
    assert all(Path(path).parent == folder for path in described["sources"])


def test_packages_beside_an_installed_heareval_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were installed for our interpreter, not for that of the submission."""
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "site-packages" / "heareval" / "embeddings" / "inside"
    shutil.copytree(submission.INSIDE, inside)
    for name in ("numpy.py", "wave.py", "heareval/__init__.py", "heareval/embeddings/__init__.py"):
        (tmp_path / "site-packages" / name).write_text("raise RuntimeError('for another interpreter')")
    monkeypatch.setattr(submission, "INSIDE", inside)
    (tmp_path / "my_model.py").write_text(MODEL)
    described = elsewhere.run_job(
        submission.Model("my_model"), tmp_path / "logs", do="describe", embedding_type="scene"
    )
    assert described["sample_rate"] == RATE


def test_an_empty_split_is_an_error_before_the_first_batch(
    monkeypatch: pytest.MonkeyPatch, task: Path
) -> None:
    (task / "test.json").write_text("{}")
    with pytest.raises(SubmissionError, match=r"test\.json.*no clips"):
        embed(monkeypatch, task, get_scene_embeddings=changed(lambda e, t: e.mean(7)))
