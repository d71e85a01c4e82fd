"""Which modules and files can be submissions, and how these are named."""

from __future__ import annotations

import json
import py_compile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from heareval.embeddings.modules import check_module, find_module_file
from heareval.embeddings.naming import name_submission
from heareval.embeddings.submission import Model
from heareval.embeddings.submission_config import read_config
from heareval.errors import HearevalError
from tests.commands import MODEL, command, only_line
from tests.embeddings.clips import write_task

SPLITS = {"train": [8000], "valid": [8000], "test": [8000]}
# The same functions as methods; a module beside it says how large they are.
HELPED = "from sizes import FACTOR\n" + MODEL.replace("torch.log1p(", "FACTOR * torch.log1p(")
OF_CLASSES = (
    HELPED
    + """
class Tripled:
    factor = 3.0
    def load_model(self, model_file_path=""):
        return Model()
    def get_scene_embeddings(self, audio, model):
        return self.factor * get_scene_embeddings(audio, model)

class Halved(Tripled):
    factor = 0.5

ready = Halved()
"""
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a task, and with models in a folder of theirs."""
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path / "tasks" / "task", SPLITS)
    for folder, factor in (("models", 2.0), ("others", 5.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sizes.py").write_text(f"FACTOR = {factor}\n")
        (tmp_path / folder / "mine.py").write_text(OF_CLASSES)
    (tmp_path / "plain.py").write_text(MODEL)
    return tmp_path


def first_row(folder: Path, name: str) -> np.ndarray:
    row: np.ndarray = np.load(folder / "embeddings" / name / "task" / "test.npy")[0]
    return row


def test_files_and_objects_in_them(here: Path) -> None:
    given = {
        "plain": ("plain", 1.0),
        "models/mine.py": ("models.mine", 2.0),
        "./others/mine.py": ("others.mine", 5.0),
        "models/mine.py:Tripled": ("models.mine+Tripled", 6.0),
        "models/mine.py:Halved": ("models.mine+Halved", 1.0),
        f"{here}/models/mine.py:ready": ("models.mine+ready", 1.0),
    }
    for word, (name, factor) in given.items():
        done = command(here, "heareval", "embed", word)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(first_row(here, name), factor * first_row(here, "plain"), 1e-5)
    assert "nothing to do" in command(here, "heareval", "embed", "./plain.py").stdout
    (here / "models" / "sizes.py").write_text("FACTOR = 7.0")
    assert "1 step done" in command(here, "heareval.embeddings.runner", "models/mine.py").stdout
    np.testing.assert_allclose(first_row(here, "models.mine"), 7 * first_row(here, "plain"), 1e-5)


@pytest.mark.slow
def test_a_changed_compiled_module_is_embedded_again(here: Path) -> None:
    (here / "helped.py").write_text(HELPED)
    for factor in (3, 7):
        (here / "source.txt").write_text(f"FACTOR = {factor}")
        py_compile.compile(str(here / "source.txt"), str(here / "sizes.pyc"), doraise=True)
        for word, told in (("helped", "1 step done"), ("helped", "nothing to do"), ("plain", "")):
            done = command(here, "heareval", "embed", word)
            assert told in done.stdout, done.stderr
        np.testing.assert_allclose(first_row(here, "helped"), factor * first_row(here, "plain"), 1e-5)


@pytest.mark.slow
def test_a_file_in_a_submission_file_and_in_validate(here: Path) -> None:
    (here / "models" / "tripled.toml").write_text('module = "mine.py:Tripled"\nname = "tripled"')
    for word in ("models/tripled.toml", "plain.py"):
        done = command(here, "heareval", "embed", word)
        assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(first_row(here, "tripled"), 6 * first_row(here, "plain"), 1e-5)
    done = command(here, "heareval", "validate", "models/mine.py:Tripled", "--long-seconds", "10", "--json")
    told = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert told["functions"]["measured"] == "load_model, get_scene_embeddings"
    assert told["finite"]["result"] == "ok"


def test_a_name_is_not_given_to_another_class(here: Path) -> None:
    done = command(here, "heareval", "embed", "models/mine.py:Tripled", "--name", "best")
    assert done.returncode == 0, done.stderr
    line = only_line(command(here, "heareval", "embed", "models/mine.py:Halved", "--name", "best"))
    assert line == (
        "error: models/mine.py:Halved: name best: got embeddings of mine:Tripled under it, in "
        f"{here}/embeddings/best/task, expected those of mine:Halved. "
        "Choose another --name, or remove that folder."
    )


def test_a_file_may_also_be_given_as_a_module(here: Path) -> None:
    (here / "models" / "bare.py").write_text(MODEL)
    assert "1 step done" in command(here, "heareval", "embed", "models/bare.py").stdout
    done = command(here, "heareval", "embed", "models.bare")
    assert "nothing to do" in done.stdout, done.stderr


def test_names_of_files_differ(here: Path) -> None:
    files = ("mine.py", "models/mine.py", "../mine.py", "my mine.py", "my_mine.py", "models/mine.py:A")
    configs = [read_config(word, {}) for word in ("mine", *files)]
    models = [Model(each.module_name, file=each.file, api_object=each.api_object) for each in configs]
    names = [name_submission(model, "") for model in models]
    assert names[:3] == ["mine", "mine", "models.mine"], "the file is that module"
    assert len(set(names)) == len(names) - 1
    assert names[4].startswith("my_mine+")


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("__main__", "got the name of the program that runs, expected a module with the HEAR API"),
        ("__mp_main__", "got the name of the program that runs"),
        ("os", "got a module of Python's standard library"),
        ("xml.dom", "got a module of Python's standard library"),
        ("heareval", "got a module of heareval itself"),
        ("heareval.api", "heareval's own submission is heareval.embeddings.baseline."),
        ("numpy", "got the name of a module that Python or numpy has loaded already"),
        ("random.py", "got the name of a module that Python or numpy has loaded already"),
        ("nowhere/mine.py", "nowhere/mine.py: got no such file, expected a Python file"),
        (
            "models/mine.py:Large",
            "got nothing named Large in it, expected a class or an object with load_model",
        ),
        ("models/mine.py:", "got 'models/mine.py:', expected an importable module"),
        ("package/own.py", "Go to the folder above its package, and give the module: PACKAGE.own."),
        ("plain:Model", "got no function load_model"),
    ],
)
def test_what_is_no_submission_is_one_line(here: Path, word: str, told: str) -> None:
    (here / "random.py").write_text(MODEL)
    (here / "package").mkdir()
    (here / "package" / "own.py").write_text("from .sizes import FACTOR")
    line = only_line(command(here, "heareval", "embed", word))
    assert told in line


def test_a_clone_of_heareval_in_the_working_folder_hides_nothing(here: Path) -> None:
    (here / "heareval" / "heareval").mkdir(parents=True)
    file = find_module_file("heareval.embeddings.baseline", only_here=False)
    assert file
    assert file.name == "baseline.py"
    (here / "wrapped.py").write_text(
        "import heareval, torch\n"
        "frames = lambda waves: waves.unfold(1, 160, 160).mean(2, keepdim=True)\n"
        "api = heareval.wrap(frames=frames, sample_rate=16000, hop_ms=10, first_ms=5)\n"
    )
    done = command(here, "heareval", "embed", "wrapped.py:api")
    assert done.returncode == 0, done.stderr


def test_a_module_in_a_folder_without_init_is_found(here: Path) -> None:
    assert find_module_file("models.mine", only_here=False) == here / "models" / "mine.py"


def test_a_module_may_have_the_name_of_an_unused_one_of_python(here: Path) -> None:
    (here / "this.py").write_text(MODEL)
    check_module(Model("this"))
    check_module(Model("heareval.embeddings.baseline"))
    with pytest.raises(HearevalError, match="standard library"):
        check_module(Model("antigravity"))
    check_module(Model("antigravity", is_installed=True))
