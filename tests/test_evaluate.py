"""Evaluating a model as users do, in separate processes, with models that fail."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from heareval import results
from heareval.errors import HearevalError
from tests.commands import MODEL, RESULT, SCORE, SPOKEN, command, evaluate, only_line, scratch_left


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "my_model.py").write_text(MODEL)
    done = evaluate(folder, mirror)
    assert done.returncode == 0, done.stderr
    assert "top1_acc" in done.stdout
    return folder


def test_a_broken_model_does_not_cost_the_time_of_the_demo_corpora(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    line = only_line(command(tmp_path, "heareval", "evaluate", "broken.py", "--mode", "demo"))
    assert "No module named 'no_such_library'" in line
    assert not (tmp_path / "_workdir" / "demo-corpora").exists()


def test_evaluation_makes_arrays_and_scores(evaluated: Path) -> None:
    folder = evaluated / "embeddings" / "my_model" / SPOKEN
    embeddings = np.load(folder / "fold00.npy", mmap_mode="r")
    assert embeddings.shape == (13, 8)
    assert embeddings.dtype == np.float32
    scores = json.loads((folder / RESULT).read_text())
    assert scores["protocol"] == "hear2021-faster-2points"
    assert scores["submission"]["module"] == "my_model"
    assert not scores["is_the_published_corpus"]
    assert len(scores["folds"]) == 5
    assert 0 <= scores["scores"]["top1_acc"]["score"] <= 1


def test_second_evaluation_has_nothing_to_do(evaluated: Path, mirror: Path) -> None:
    assert "nothing to do" in evaluate(evaluated, mirror).stdout


def test_another_seed_redoes_the_predictor_only(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    done = evaluate(folder, mirror, "--seed", "1")
    assert f"[step 1 of 1] my_model on {SPOKEN}: predictor" in done.stderr


def test_another_model_source_redoes_embeddings(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    (folder / "my_model.py").write_text(MODEL.replace("log1p", "sqrt"))
    done = evaluate(folder, mirror)
    assert "[step 2 of 2]" in done.stderr
    assert "embeddings" in done.stderr


def test_a_changed_helper_module_redoes_embeddings(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("import helper\n" + MODEL.replace("log1p(", "sqrt(helper.GAIN * "))
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks"))
    arrays = []
    for gain in (1, 2):
        (tmp_path / "helper.py").write_text(f"GAIN = {gain}")
        done = command(tmp_path, *words)
        assert "1 step done" in done.stdout, done.stderr
        arrays.append(np.load(tmp_path / "embeddings" / "my_model" / SPOKEN / "fold00.npy"))
    assert not np.array_equal(*arrays)


def test_a_lost_array_is_made_again(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    lost = folder / "embeddings" / "my_model" / SPOKEN / "fold03.npy"
    before = lost.read_bytes()
    lost.unlink()
    assert "1 step done" in command(folder, "heareval.embeddings.runner", "my_model").stdout
    assert lost.read_bytes() == before


@pytest.mark.slow
def test_half_precision_is_never_mixed_with_single(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    done = evaluate(folder, mirror, "--dtype", "float16")
    assert "[step 2 of 2]" in done.stderr, done.stderr
    assert f"note: my_model on {SPOKEN}: embeddings with dtype = float16" in done.stdout
    made = folder / "embeddings" / "my_model" / SPOKEN
    assert json.loads((made / "MANIFEST.json").read_text())["form"]["dtype"] == "float16"
    assert np.load(made / "fold00.npy").dtype == np.float16
    assert not list(made.glob("journal"))
    assert "[step 2 of 2]" in evaluate(folder, mirror).stderr


def test_doors_two_and_three_find_the_same_work_done(evaluated: Path) -> None:
    done = command(evaluated, "heareval.embeddings.runner", "my_model", "--task", "spoken_digit")
    assert "nothing to do" in done.stdout, done.stderr
    done = command(evaluated, "heareval.predictions.runner", f"embeddings/my_model/{SPOKEN}", *SCORE)
    assert "nothing to do" in done.stdout, done.stderr


def test_a_full_report_has_five_seeds(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated / "embeddings", folder / "embeddings")
    words = ("heareval.predictions.runner", f"embeddings/my_model/{SPOKEN}", *SCORE, "--report", "full")
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    made = folder / "embeddings" / "my_model" / SPOKEN
    name = "hear2021-faster-2points-5seeds"
    scores = json.loads((made / f"test.{name}.predicted-scores.json").read_text())
    assert len(scores["scores"]["top1_acc"]["seeds"]) == 5
    assert "std of seeds" in done.stdout
    assert f"report: embeddings/my_model/{SPOKEN}/report-{name}" in done.stdout
    assert (made / f"report-{name}" / "labels.png").is_file()
    # Damaged predictions are told of, and nothing is up to date.
    (made / f"test.{name}.predictions.npz").write_bytes(b"")
    again = command(folder, *words)
    assert f"(test.{name}.predictions.npz: 0 bytes instead of " in only_line(again)
    assert "nothing to do" not in again.stdout
    # The result of one seed is still there, and is what it was.
    assert (made / RESULT).read_bytes() == (evaluated / made.relative_to(folder) / RESULT).read_bytes()


def test_damaged_scores_are_refused_everywhere_and_kept(evaluated: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated / "embeddings", folder / "embeddings")
    shutil.copytree(folder / "embeddings" / "my_model", folder / "embeddings" / "other")
    made = folder / "embeddings" / "my_model" / SPOKEN
    whole = json.loads((made / RESULT).read_text())
    predict = (
        "heareval.predictions.runner",
        f"embeddings/my_model/{SPOKEN}",
        f"embeddings/other/{SPOKEN}",
        *SCORE,
    )
    whole["scores"]["top1_acc"]["score"] = 0.99
    (made / RESULT).write_text(json.dumps(whole))
    edited = (made / RESULT).read_bytes()
    for words in (
        predict,
        ("heareval", "compare", "my_model", "other"),
        ("heareval", "report", f"embeddings/my_model/{SPOKEN}"),
    ):
        done = command(folder, *words)
        assert "scores: top1_acc: score: got 0.99, expected" in only_line(done)
        assert "nothing to do" not in done.stdout
    # The table of the others is still printed.
    assert "other " in command(folder, *predict).stdout
    with pytest.raises(HearevalError, match=r"got 0\.99"):
        results(made)
    assert (made / RESULT).read_bytes() == edited
    # What can't be read at all isn't replaced without a word either.
    (made / RESULT).write_bytes(edited[:-9])
    done = command(folder, *predict)
    assert f"{RESULT}: got " in only_line(done)
    assert (made / RESULT).read_bytes() == edited[:-9]
    (made / RESULT).unlink()
    assert "1 step done" in command(folder, *predict).stdout


def test_unpacked_tarball_serves_as_task_folder(prepared: Path, evaluated: Path, tmp_path: Path) -> None:
    """A researcher who only has the published tarball gets the same embeddings."""
    (tmp_path / "my_model.py").write_text(MODEL)
    with tarfile.open(prepared / "tars" / f"hear-2021.1.1-{SPOKEN}-16000.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", "hear-2021.1.1/tasks")
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    for fold in ("fold00", "fold04"):
        ours, theirs = (
            np.load(folder / "embeddings" / "my_model" / SPOKEN / f"{fold}.npy")
            for folder in (tmp_path, evaluated)
        )
        assert np.array_equal(ours, theirs)
    assert "nothing to do" in command(tmp_path, *words).stdout


def test_a_folder_of_the_2021_kit_is_kept(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    for submission in ("my_model", "other"):
        folder = tmp_path / "embeddings" / submission / SPOKEN
        folder.mkdir(parents=True)
        (folder / "test.predicted-scores.json").write_text('{"test": {"test_score": 0.9}}')
    scores = tmp_path.glob("embeddings/*/*/*")
    before = {path: path.read_bytes() for path in scores}
    words = ("heareval", "embed", "my_model", "--tasks-dir", str(prepared / "tasks"))
    assert "got files that heareval did not make (no MANIFEST.json)" in only_line(command(tmp_path, *words))
    for words in (("compare", "my_model", "other"), ("report", f"embeddings/other/{SPOKEN}")):
        line = only_line(command(tmp_path, "heareval", *words))
        assert "predicted-scores.json: got scores of the 2021 kit" in line
    assert "no MANIFEST.json, as in folders of the 2021 kit" in only_line(
        command(tmp_path, "heareval", "predict", f"embeddings/other/{SPOKEN}")
    )
    found = tmp_path.glob("embeddings/*/*/*")
    assert {path: path.read_bytes() for path in found} == before


BAD_MODELS = {
    "no load_model": (MODEL.replace("def load_model", "def open_model"), "got no function load_model"),
    "crash": (
        MODEL.replace(".mean(1)", ".mean(7)"),
        "get_scene_embeddings on audio of shape (1, 16000): got IndexError: Dimension out of range",
    ),
    "exit": (
        MODEL.replace("    frames = audio", "    raise SystemExit(0)\n    frames = audio"),
        "got SystemExit: 0",
    ),
    "endless thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,)).start()\n"
        + MODEL.replace("def load_model", "def open_model"),
        "got no function load_model",
    ),
    "other rate": (MODEL.replace("16000, 8", "32000, 8"), "--sample-rate 32000"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model(prepared: Path, tmp_path: Path, name: str) -> None:
    source, complaint = BAD_MODELS[name]
    (tmp_path / "my_model.py").write_text(source)
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    line = only_line(command(tmp_path, "heareval.embeddings.runner", "my_model", *tasks))
    assert complaint in line
    assert not (tmp_path / "embeddings" / "my_model" / SPOKEN).exists()
    assert not scratch_left(tmp_path)


def test_no_such_model(tmp_path: Path, prepared: Path) -> None:
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    line = only_line(command(tmp_path, "heareval.embeddings.runner", "no_model", *tasks))
    assert "submission no_model: got no module named no_model" in line


def test_no_tasks(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval.embeddings.runner", "heareval.embeddings.baseline"))
    assert f"tasks folder {tmp_path}/tasks: got no published task" in line
