"""Timestamp embeddings of long clips in chunks that overlap."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings import baseline  # noqa: E402
from heareval.embeddings.embedding_format import DEFAULT_FORMAT, EmbeddingFormat  # noqa: E402
from heareval.embeddings.inside.chunks import embed_in_chunks  # noqa: E402
from heareval.embeddings.inside.errors import SubmissionError  # noqa: E402
from heareval.embeddings.inside.frameworks import Arrays, Torch  # noqa: E402
from tests.embeddings.clips import RATE, embed, manifest, write_task  # noqa: E402


def local(hop: int, window: int = 800) -> Callable[[np.ndarray], Arrays]:
    """Return a model whose frames depend on the audio around their timestamps, zero-padded at both ends."""

    def ask(audio: np.ndarray) -> Arrays:
        padded = np.pad(audio, [(0, 0), (window // 2, window // 2)])
        starts = range(0, audio.shape[1], hop)
        frames = np.stack([padded[:, start : start + window] for start in starts], axis=1)
        times = np.arange(len(starts)) * hop / RATE * 1000
        return frames, np.repeat(times[None].astype(np.float32), len(audio), axis=0)

    return ask


@pytest.mark.parametrize("hop", [160, 441, 800])
@pytest.mark.parametrize("samples", [RATE * 2, RATE * 2 + 1, RATE * 7 + 123, RATE * 20])
def test_chunks_give_what_the_whole_gives(hop: int, samples: int) -> None:
    audio = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    whole, times = local(hop)(audio)
    chunked, chunk_times = embed_in_chunks(local(hop), 2 * RATE, RATE, audio)
    np.testing.assert_allclose(chunk_times, times, atol=0.01)
    np.testing.assert_array_equal(chunked, whole)


def test_timestamps_stay_regular_with_a_fractional_hop() -> None:
    def ask(audio: np.ndarray) -> Arrays:
        times = np.arange(int(audio.shape[1] / 666.7)) * 666.7 / RATE * 1000 + 10
        return np.zeros((1, len(times), 3), np.float32), times[None].astype(np.float32)

    _, times = embed_in_chunks(ask, 3 * RATE, RATE, np.zeros((1, 60 * RATE), np.float32))
    hops = np.diff(times[0].astype(np.float64))
    assert abs(hops - 666.7 / RATE * 1000).max() < 1.1 * 1000 / RATE, "never off by more than a sample"
    assert times.shape[1] == pytest.approx(60 * RATE / 666.7, abs=1)


def test_a_chunk_needs_timestamps() -> None:
    ask = functools.partial(embed_in_chunks, local(RATE), 2 * RATE, RATE)
    with pytest.raises(SubmissionError, match=r"2 timestamps in a chunk of 2 s.*at least 10"):
        ask(np.zeros((1, 10 * RATE), np.float32))


def test_the_baseline_in_chunks(tmp_path: Path) -> None:
    """Chunks change embeddings by float noise only, and the manifest records them."""
    (tmp_path / "my_model.py").write_text(f"from {baseline.__name__} import *\n")
    task = write_task(tmp_path / "task", {"a": [RATE * 6 + 77] * 3}, "event")
    made = {}
    for chunk_s in (0.0, 2.0):
        assert not embed(tmp_path, task, budget=10**6, form={"chunk_s": chunk_s})
        made[chunk_s] = [np.load(tmp_path / "out" / name) for name in ("a.npy", "a.timestamps.npy")]
        assert manifest(tmp_path)["unusual_embedding"] == ({"chunk_s": 2.0} if chunk_s else {})
    np.testing.assert_allclose(made[2.0][0], made[0.0][0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(made[2.0][1], made[0.0][1], atol=1e-3)


def test_a_clip_that_does_not_fit_alone_fits_in_chunks(tmp_path: Path) -> None:
    source = (
        f"from {baseline.__name__} import *\n"
        + """
from heareval.embeddings import baseline
def get_timestamp_embeddings(audio, model):
    if audio.numel() > 50000:
        raise RuntimeError("CUDA out of memory")
    return baseline.get_timestamp_embeddings(audio, model)
"""
    )
    (tmp_path / "my_model.py").write_text(source)
    task = write_task(tmp_path / "task", {"a": [RATE * 20] * 2}, "event")
    assert "this clip of 20 s alone" in embed(tmp_path, task, budget=10**6)
    assert not embed(tmp_path, task, budget=10**6, form={"chunk_s": 3.0})
    assert np.load(tmp_path / "out" / "a.npy").shape[:2] == (2, 801)


@pytest.mark.parametrize("clips", [1, 3])
def test_a_model_that_changes_its_input_or_uses_its_output_again(clips: int) -> None:
    audio = torch.from_numpy(np.random.default_rng(0).standard_normal((clips, RATE * 9)).astype(np.float32))
    good, output = local(800), {}

    def rude(part: torch.Tensor) -> torch.Tensor:
        embeddings, times = good(part.numpy())
        part.mul_(2.0)
        kept = output.setdefault(embeddings.shape, torch.empty(embeddings.shape))
        kept.copy_(torch.from_numpy(embeddings))
        return kept, torch.from_numpy(times)

    framework = Torch("cpu", "float32")
    framework.prepare(torch.nn.Identity())
    ask = functools.partial(framework.compute, "rude", lambda part, model: rude(part), model=None)
    chunked, _ = embed_in_chunks(ask, 2 * RATE, RATE, audio.clone())
    np.testing.assert_array_equal(chunked, good(audio.numpy())[0])


WRONG_CHUNKS = {
    "seconds": (lambda e, t: (e, t / 1000), "look like seconds"),
    "one": (lambda e, t: (e[:, :1], t[:, :1]), "1 timestamps in a chunk"),
    "none": (lambda e, t: (e[:, :0], t[:, :0]), "no timestamps"),
    "equal": (lambda e, t: (e, t * 0), "not increasing"),
    "NaN": (lambda e, t: (e, t * np.nan), "not increasing"),
    "embeddings alone": (lambda e, t: (e,), "shapes"),
    "flat": (lambda e, t: (e[0], t[0]), "shapes"),
    "words": (lambda e, t: (e, t.astype(str)), "timestamps of type <U"),
}


@pytest.mark.parametrize("name", WRONG_CHUNKS)
def test_wrong_timestamps_of_a_chunk_are_an_error(name: str) -> None:
    change, complaint = WRONG_CHUNKS[name]
    ask = functools.partial(embed_in_chunks, lambda part: change(*local(800)(part)), 2 * RATE, RATE)
    with pytest.raises(SubmissionError, match=complaint):
        ask(np.zeros((1, 9 * RATE), np.float32))


def test_chunks_do_not_matter_to_scene_embeddings() -> None:
    assert EmbeddingFormat(chunk_s=2.0).for_task("scene") == DEFAULT_FORMAT
    changed = EmbeddingFormat(chunk_s=2.0, dtype="float16")
    assert changed.for_task("event").changes == {"chunk_s": 2.0, "dtype": "float16"}
