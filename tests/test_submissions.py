"""Submissions with environments of their own, as users type the commands."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.commands import MODEL, RESULT, SCORE, SPOKEN, command, only_line
from tests.http_server import serving
from tests.packages import offline, write_package, write_wheel

# It answers with what is in its weights, and refuses to be anywhere but in its own environment.
THEIRS = (
    MODEL.replace('def load_model(model_file_path="", size=8):', "def load_model(model_file_path, factor=1):")
    .replace(
        "return Model()",
        "model = Model()\n    model.gain = factor * float(open(model_file_path).read())\n    return model",
    )
    .replace("torch.log1p(spectrum)", "model.gain * torch.log1p(spectrum)")
    + """
import sys
assert "environments" in sys.prefix, sys.prefix
assert not [path for path in sys.path if path.endswith(("embeddings", "inside"))], sys.path
assert sys.argv[0].endswith("inside") and not {"luigi", "heareval"} & set(sys.modules)
"""
)
TOML = """
module = "their_model"
name = "theirs"
source = "package"
weights = "w.txt"
device = "cpu"

[options]
factor = 2
"""
DECOY = "raise RuntimeError('this is not the module that was installed')\n"


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With them pip and uv need no network."""
    return offline(tmp_path_factory.mktemp("wheels"))


def write_submission(folder: Path) -> None:
    """A submission in the sub-folder `sub`, and another module of the same name where the user works."""
    write_package(folder / "sub" / "package", source=THEIRS)
    (folder / "sub" / "w.txt").write_text("1.0")
    (folder / "sub" / "theirs.toml").write_text(TOML)
    (folder / "their_model.py").write_text(DECOY)


def evaluate(
    folder: Path, mirror: Path, variables: dict[str, str], *words: str
) -> subprocess.CompletedProcess[str]:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = (*words, "--tasks", "spoken_digit", *sums, *SCORE)
    return command(folder, "heareval", "evaluate", *words, **variables)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, mirror: Path, variables: dict[str, str]) -> Path:
    folder = tmp_path_factory.mktemp("submissions")
    write_submission(folder)
    done = evaluate(folder, mirror, variables, "sub/theirs.toml")
    assert done.returncode == 0, done.stderr
    assert "theirs: creating an environment with Python 3." in done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["theirs", SPOKEN]
    return folder


@pytest.fixture
def copy(evaluated: Path, tmp_path: Path) -> Path:
    """The same in another place, with the same environments, which a test may add to."""
    environments = evaluated / "_workdir" / "environments"
    skipped = shutil.ignore_patterns("environments")
    shutil.copytree(evaluated, tmp_path / "copy", symlinks=True, ignore=skipped)
    (tmp_path / "copy" / "_workdir" / "environments").symlink_to(environments)
    return tmp_path / "copy"


def first_row(folder: Path, name: str = "theirs") -> np.ndarray:
    row: np.ndarray = np.load(folder / "embeddings" / name / SPOKEN / "fold00.npy")[0]
    return row


def test_a_second_evaluation_has_nothing_to_do(
    evaluated: Path, mirror: Path, variables: dict[str, str]
) -> None:
    done = evaluate(evaluated, mirror, variables, "sub/theirs.toml")
    assert "nothing to do" in done.stdout
    assert "environment" not in done.stderr
    scores = json.loads((evaluated / "embeddings" / "theirs" / SPOKEN / RESULT).read_text())
    assert scores["submission"]["module"] == "their_model"
    assert scores["submission"]["weights"] == hashlib.sha256(b"1.0").hexdigest()


def test_clean_keeps_the_environment(evaluated: Path) -> None:
    manifest = json.loads((evaluated / "embeddings" / "theirs" / SPOKEN / "MANIFEST.json").read_text())
    environment = Path(manifest["submission"]["python"]).parent.parent
    assert environment.parent == evaluated / "_workdir" / "environments"
    # The note of the run tells it as well as the embeddings.
    for words in ((), ("--embeddings-dir", "elsewhere")):
        done = command(evaluated, "heareval", "clean", "--json", *words)
        assert str(environment) not in [each["path"] for each in json.loads(done.stdout)["leftovers"]]
    for note in (evaluated / "_workdir" / "requests" / "submissions").iterdir():
        os.utime(note, (0, 0))
    done = command(evaluated, "heareval", "clean", "--json", *words)
    assert str(environment) in [each["path"] for each in json.loads(done.stdout)["leftovers"]]


def test_the_same_in_options_is_the_same_submission(evaluated: Path, variables: dict[str, str]) -> None:
    words = ("their_model", "--name", "theirs", "--source", "sub/package", "--model", "sub/w.txt")
    words = (*words, "--device", "cpu", "--model-options", '{"factor": 2}')
    done = command(evaluated, "heareval.embeddings.runner", *words, **variables)
    assert "nothing to do" in done.stdout, done.stderr


@pytest.mark.slow
def test_it_is_the_same_submission_elsewhere(copy: Path, mirror: Path, variables: dict[str, str]) -> None:
    (copy / "_workdir" / "environments").unlink()
    done = evaluate(copy, mirror, variables, "sub/theirs.toml")
    assert "creating an environment" in done.stderr
    assert "nothing to do" in done.stdout, done.stderr


@pytest.mark.slow
def test_changed_weights_options_and_sources_are_embedded_again(
    copy: Path, mirror: Path, variables: dict[str, str]
) -> None:
    words = ("heareval.embeddings.runner", "sub/theirs.toml")
    before = first_row(copy)
    (copy / "sub" / "w.txt").write_text("3.0")
    assert "1 step done" in command(copy, *words, **variables).stdout
    np.testing.assert_allclose(first_row(copy), 3 * before, rtol=1e-5)
    assert "1 step done" in command(copy, *words, "--model-options", '{"factor": 1}', **variables).stdout
    np.testing.assert_allclose(first_row(copy), 1.5 * before, rtol=1e-5)
    file = copy / "sub" / "package" / "their_model.py"
    file.write_text(file.read_text().replace("log1p(", "log1p(0 * "))
    # Nothing else changes than the source.
    assert "1 step done" in command(copy, *words, "--model-options", '{"factor": 1}', **variables).stdout
    assert not first_row(copy).any()


@pytest.mark.slow
def test_one_that_cannot_be_opened_does_not_stop_the_others(
    copy: Path, mirror: Path, variables: dict[str, str]
) -> None:
    bad = {
        "typo": ('modul = "m"', "unknown key in typo.toml"),
        "sum": (
            f'module = "my_model"\nweights = "sub/w.txt"\nsha256 = "{"0" * 64}"',
            "model file sub/w.txt: got SHA-256",
        ),
        "old": ('module = "my_model"\npython = "3.99"', "Python 3.99: got "),
        "nothing": ('module = "x"\nsource = "nosuchthing==1"', "installation of nosuchthing==1: got "),
        "other": ('module = "x"\nsource = "sub/package"', "import of x: got ModuleNotFoundError"),
        "home": ('module = "x"\nweights = "~nobodyhere/w.txt"', "weights: got '~nobodyhere/w.txt'"),
        "digits": (f"module = {'1' * 5000}", "got Exceeds the limit"),
        "deep": (f"module = {'[' * 3000}", "expected TOML"),
        "same": ('module = "my_model"\nname = "theirs"', "got the name theirs, which another submission has"),
    }
    for name, (text, _) in bad.items():
        (copy / f"{name}.toml").write_text(text)
    (copy / "my_model.py").write_text(MODEL)
    files = [f"{name}.toml" for name in bad]
    done = evaluate(copy, mirror, variables, "sub/theirs.toml", *files, "my_model", "no_model")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad) + 1
    for (_, told), file in zip(bad.values(), files, strict=True):
        assert [told in line for line in errors if file in line] == [True]
    # Models are loaded when all else has been checked.
    assert "submission no_model: got no module named no_model" in errors[-2]
    assert "other.toml" in errors[-1]
    assert f"not evaluated: {', '.join(files)}, no_model" in done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("note: ")] == [
        f"note: NOT the published corpus: {SPOKEN}"
    ]
    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:3]]
    assert rows == [["theirs", SPOKEN], ["my_model", SPOKEN]]


def test_one_that_hangs_when_imported_is_told(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text("open('imported', 'w')\nimport time\ntime.sleep(600)\n")
    # On a busy machine it takes longer until the model is imported.
    for timeout in ("2", "10", "60"):
        words = ("my_model", "--timeout", timeout, "--tasks-dir", str(prepared / "tasks"))
        line = only_line(command(tmp_path, "heareval.embeddings.runner", *words))
        if (tmp_path / "imported").exists():
            break
    assert f"got no message for {timeout} s, expected progress or a result. Its log is " in line
    logs = [log.read_text() for log in (tmp_path / "_workdir" / "submissions").glob("*.log")]
    assert any('my_model.py", line 3 in <module>' in log for log in logs)


def test_when_none_can_be_opened_nothing_is_prepared(tmp_path: Path, mirror: Path) -> None:
    done = evaluate(tmp_path, mirror, {}, "no.toml", "no_model")
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 3
    assert not (tmp_path / "tasks").exists()
    line = only_line(evaluate(tmp_path, mirror, {}, "a", "b", "--model", "w.pt"))
    assert line == (
        "error: --model: got 2 submissions, expected one, which it describes. "
        "Write it into a .toml file for each submission."
    )


@pytest.mark.slow
def test_requirements_alone_leave_the_module_where_it_is(
    prepared: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "my_model.py").write_text(
        "import sys\nassert 'environments' in sys.prefix\nimport helper\n" + MODEL
    )
    (tmp_path / "helper.py").write_text("")
    words = ("my_model", "--requirement", "torch", "--tasks-dir", str(prepared / "tasks"))
    words = ("heareval.embeddings.runner", *words)
    assert "1 step done" in command(tmp_path, *words, **variables).stdout
    (tmp_path / "helper.py").write_text("changed = True")
    assert "1 step done" in command(tmp_path, *words, **variables).stdout


@pytest.mark.slow
def test_a_source_may_be_where_the_run_writes(
    prepared: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    write_package(tmp_path, source=MODEL)
    (tmp_path / "all.toml").write_text('module = "their_model"\nsource = "."')
    words = ("heareval.embeddings.runner", "all.toml", "--tasks-dir", str(prepared / "tasks"))
    assert "1 step done" in command(tmp_path, *words, **variables).stdout
    done = command(tmp_path, *words, **variables)
    assert "nothing to do" in done.stdout
    assert "environment" not in done.stderr


@pytest.mark.slow
def test_weights_from_a_url(copy: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "w.txt").write_text("5.0")
    digest = hashlib.sha256(b"5.0").hexdigest()
    before = first_row(copy)
    with serving(tmp_path / "served") as (address, behaviour):
        words = ("heareval.embeddings.runner", "sub/theirs.toml", "--model", f"{address}/w.txt")
        assert "1 step done" in command(copy, *words, "--sha256", digest, **variables).stdout
        assert "nothing to do" in command(copy, *words, "--sha256", digest, **variables).stdout
        assert len(behaviour.requests) == 1
        line = only_line(command(copy, *words, "--sha256", "0" * 64, **variables))
    np.testing.assert_allclose(first_row(copy), 5 * before, rtol=1e-5)
    assert f"got SHA-256 {digest}, expected 0000" in line
    assert "--accept-checksums" not in line
    kept = copy / "_workdir" / "downloads" / digest / "w.txt"
    kept.write_text("damaged")
    line = only_line(command(copy, *words, "--sha256", digest, **variables))
    assert "or the file is damaged" in line


@pytest.mark.slow
def test_validate_asks_in_the_environment(copy: Path, variables: dict[str, str]) -> None:
    words = ("heareval", "validate", "sub/theirs.toml", "--long-seconds", "10")
    done = command(copy, *words, **variables)
    assert "functions        ok       all three" in done.stdout, done.stdout
    assert "device           ok       cpu" in done.stdout
    assert "speed            ok" in done.stdout


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told(copy: Path, variables: dict[str, str]) -> None:
    words = ("heareval", "validate", "sub/theirs.toml", "--device", "cuda", "--json")
    done = command(copy, *words, **variables)
    assert done.returncode == 1
    failed = [check for check in json.loads(done.stdout)["checks"] if check["result"] == "failed"]
    (measured,) = (check["measured"] for check in failed)
    assert measured.startswith("device cuda: got no GPU that torch ")


@pytest.mark.slow
def test_a_package_of_our_name_is_theirs(tmp_path: Path) -> None:
    write_package(tmp_path / "package", source=MODEL + "\nimport heareval\nassert heareval.THEIRS\n")
    variables = offline(tmp_path / "wheels")
    write_wheel(tmp_path / "wheels", "heareval", "1.0", {"heareval.py": "THEIRS = True"})
    words = ("their_model", "--source", "package", "--requirement", "heareval==1.0", "--json")
    done = command(tmp_path, "heareval", "validate", *words, **variables)
    checks = json.loads(done.stdout)["checks"]
    assert (checks[0]["check"], checks[0]["result"]) == ("functions", "ok"), checks[0]
