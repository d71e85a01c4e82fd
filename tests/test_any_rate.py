"""Models at rates that tasks are not prepared at: refused, or given resampled clips if the user says so."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import soxr

pytest.importorskip("torch")

from heareval.embeddings.embedding_format import EmbeddingFormat
from heareval.embeddings.resample import check_sample_rate
from heareval.errors import HearevalError
from tests.commands import MODEL, RESULT, SCORE, SPOKEN, command, evaluate, only_line
from tests.embeddings.clips import write_task

RATE = 24000
# Its embedding is the length of a clip, and its first samples.
SIZES = "scene_embedding_size, timestamp_embedding_size = 16000, 8, 8"
TELLING = MODEL.replace(SIZES, f"scene_embedding_size = {RATE}, 8").replace(
    "    return get_timestamp_embeddings(audio, model)[0].mean(1)",
    "    length = torch.full((len(audio), 1), float(audio.shape[1]))\n"
    "    return torch.cat([length, audio[:, 1000:1007]], 1)",
)
LENGTHS = {"train": [8000], "valid": [8000], "test": [8000, 12345]}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    write_task(tmp_path / "tasks" / "task", LENGTHS)
    (tmp_path / "odd.py").write_text(TELLING)
    return tmp_path


def embed(folder: Path, *words: str) -> str:
    done = command(folder, "heareval", "embed", "odd", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_option_it_is_recommended(here: Path) -> None:
    for _ in range(2):  # the second time the model is not loaded again
        line = only_line(command(here, "heareval", "embed", "odd"))
        assert line.startswith("error: model of odd: got sample_rate = 24000, expected one of 16000, 22050")
        assert line.endswith("or use --any-rate, which resamples the clips for it.")
    # Of another size, or Python could take the one that it compiled within this second.
    (here / "odd.py").write_text(TELLING.replace("24000", "48_000"))
    line = only_line(command(here, "heareval", "embed", "odd"))
    assert "got sample rates 16000, expected 48000" in line
    assert "--any-rate, which resamples the clips" in line


def test_no_rate_of_sound_is_refused_all_the_same() -> None:
    check_sample_rate("odd", RATE, any_rate=True)
    with pytest.raises(HearevalError, match=r"model of odd: got sample_rate = 7, expected 1000 to 768000 Hz"):
        check_sample_rate("odd", 7, any_rate=True)


def test_clips_are_resampled_once_and_the_embeddings_say_so(here: Path) -> None:
    assert "2 steps done" in embed(here, "--any-rate")
    stored = np.load(here / "embeddings" / "odd" / "task" / "test.npy")
    for row, frames in enumerate(LENGTHS["test"]):
        with wave.open(str(here / "tasks" / "task" / "16000" / "test" / f"{row}.wav")) as sound:
            samples = np.frombuffer(sound.readframes(frames), "<i2").astype(np.float32)
        expected = np.rint(soxr.resample(samples, 16000, RATE, "HQ")) / 32768
        assert stored[row, 0] == len(expected) == int(frames * 1.5 + 0.5)
        np.testing.assert_allclose(stored[row, 1:], expected[1000:1007], atol=2 / 32768)
    manifest = json.loads((here / "embeddings" / "odd" / "task" / "MANIFEST.json").read_text())
    assert manifest["unusual_embedding"] == {"resampled_from_hz": 16000}
    assert "nothing to do" in embed(here, "--any-rate")
    # Another model at this rate finds the clips.
    (here / "odd.py").write_text(TELLING + "#")
    assert "1 step done" in embed(here, "--any-rate")
    assert [path.name[:4] for path in (here / "tasks" / "task").iterdir() if path.is_dir()] == ["1600"]


def test_resampled_clips_that_another_program_changed_are_told(here: Path) -> None:
    embed(here, "--any-rate")
    clip = next((here / "_workdir").rglob("24000/test/1.wav"))
    clip.write_bytes(clip.read_bytes()[:-2] + b"\1\1")
    (here / "odd.py").write_text(TELLING + "#")
    done = command(here, "heareval", "embed", "odd", "--any-rate")
    assert done.returncode == 30
    assert "files that another program has changed (24000/test/1.wav: other content)" in done.stderr
    folder = clip.parents[2]
    assert f"Remove {folder}, and run again." in done.stderr
    shutil.rmtree(folder)
    assert "2 steps done" in embed(here, "--any-rate")


def test_the_next_higher_rate_is_the_source(here: Path) -> None:
    for rate in (22050, 44100, 48000):
        (here / "tasks" / "task" / str(rate)).mkdir()
    line = only_line(command(here, "heareval", "embed", "odd", "--any-rate", "--task", "task"))
    assert "got no such file in" in line
    assert "/44100/" in line


def test_a_rate_that_is_there_is_not_resampled(here: Path) -> None:
    (here / "odd.py").write_text(TELLING.replace("24000", "16_000"))
    assert "1 step done" in embed(here)
    assert "nothing to do" in embed(here, "--any-rate")


def test_fingerprints_of_usual_embeddings_stay() -> None:
    assert EmbeddingFormat().for_fingerprint == {"dtype": "float32", "precision": "float32", "chunk_s": 0.0}
    assert EmbeddingFormat().for_rates(RATE, 44100).for_fingerprint["resampled_from_hz"] == 44100


def test_scores_say_so(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL.replace("16000, 8, 8", f"{RATE}, 8, 8"))
    assert "use --any-rate" in only_line(evaluate(tmp_path, mirror))
    done = evaluate(tmp_path, mirror, "--any-rate", *SCORE)
    assert done.returncode == 0, done.stderr
    assert "resampled_from_hz = 44100" in done.stdout
    scores = json.loads((tmp_path / "embeddings" / "my_model" / SPOKEN / RESULT).read_text())
    assert scores["unusual_embedding"] == {"resampled_from_hz": 44100}
    assert sorted(path.name for path in (tmp_path / "tasks" / SPOKEN).glob("[0-9]*")) == ["44100"]
