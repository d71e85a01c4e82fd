"""A run as a file gives what the same words on a command line and the same arguments in Python give."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import heareval
from heareval import api
from heareval.commands import main
from heareval.commands.evaluate import evaluate
from heareval.embeddings.submission_config import SubmissionArgs, list_config_readers
from heareval.errors import HearevalError
from heareval.predictions.protocol import MAX_SEED
from heareval.workflow.run_file import OPTIONS, is_run_file, read_run, read_run_file
from tests.commands import MODEL, SPOKEN, command

ROOT = Path(__file__).parent.parent
# A value of each option that is not the usual one, as TOML, and the words that say the same.
EXAMPLES = {
    "tasks": ('["esc50", "own.toml"]', "--tasks esc50 --tasks own.toml"),
    "mode": ('"full"', "--mode full"),
    "mirror": ('["archives", "https://host/files"]', "--mirror archives --mirror https://host/files"),
    "accept-checksums": ('"sums"', "--accept-checksums sums"),
    "engine": ('"ffmpeg"', "--engine ffmpeg"),
    "on-bad-audio": ('"skip"', "--on-bad-audio skip"),
    "from-published": ('"tars"', "--from-published tars"),
    "sample-rate": ("[48000, 32000]", "--sample-rate 48000 --sample-rate 32000"),
    "tmp-dir": ('"work"', "--tmp-dir work"),
    "tasks-dir": ('"folders"', "--tasks-dir folders"),
    "embeddings-dir": ('"results"', "--embeddings-dir results"),
    "device": ('"cpu"', "--device cpu"),
    "any-rate": ("true", "--any-rate"),
    "dtype": ('"float16"', "--dtype float16"),
    "precision": ('"tf32"', "--precision tf32"),
    "chunk-seconds": ("60", "--chunk-seconds 60"),
    "limit": ("20", "--limit 20"),
    "overwrite": ('"scores"', "--overwrite scores"),
    "grid-points": ("3", "--grid-points 3"),
    "grid": ('"fast"', "--grid fast"),
    "shuffle": ("true", "--shuffle"),
    "seed": ("7", "--seed 7"),
    "seeds": ("2", "--seeds 2"),
    "report": ('"full"', "--report full"),
    "probe": ('"linear"', "--probe linear"),
    "train-precision": ('"bf16"', "--train-precision bf16"),
    "deterministic": ("false", "--no-deterministic"),
    "distance": ('"cosine"', "--distance cosine"),
    "force": ("true", "--force"),
    "gpus": ("2", "--gpus 2"),
    "timeout": ("60.5", "--timeout 60.5"),
    "in-memory": ("false", "--no-in-memory"),
    "train-threads": ("1", "--train-threads 1"),
    "quiet": ("true", "--quiet"),
    "num-workers": ("3", "--num-workers 3"),
    "scheduler-url": ('"http://127.0.0.1:9"', "--scheduler-url http://127.0.0.1:9"),
    "scratch-dir": ('"scratch"', "--scratch-dir scratch"),
}
# What describes one model, and what is not part of a run.
OTHERS = {"name", "source", "model", "sha256", "python", "requirement", "model-options", "trust-remote-code"}
OTHERS |= {"debug"}


class AskedError(Exception):
    """What a command asks `heareval.api.evaluate` for, in place of a run."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model in it."""
    (tmp_path / "my_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asking(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands end where a run begins."""

    def ask(request: Any, places: Any, *, force: bool, overwrite: str, settings: Any) -> None:
        raise AskedError(request, places, force, overwrite, replace(settings, notify=print))

    monkeypatch.setattr(api, "evaluate", ask)


def ask(*words: str) -> tuple[Any, ...]:
    """What `heareval evaluate` asks for."""
    done = CliRunner().invoke(main, ["evaluate", *words])
    assert isinstance(done.exception, AskedError), done.output
    return done.exception.args


def test_every_option_of_evaluate_may_be_in_the_file() -> None:
    longs = [option for each in evaluate.params for option in each.opts if option.startswith("--")]
    assert {option.removeprefix("--") for option in longs} - OTHERS == OPTIONS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("key", EXAMPLES)
@pytest.mark.usefixtures("asking")
def test_a_file_gives_what_words_and_python_give(here: Path, key: str) -> None:
    value, words = EXAMPLES[key]
    (here / "run.toml").write_text(f'models = ["my_model"]\n{key} = {value}\n')
    tasks = () if key == "tasks" else ("--tasks", "esc50")
    by_words = ask("my_model", *words.split(), *tasks)
    assert ask("run.toml", *tasks) == by_words
    assert by_words != ask("my_model", "--tasks", "esc50") or key == "report"
    run = read_run(Path("run.toml"))
    with pytest.raises(AskedError) as asked:
        api.evaluate(run.request, run.places, force=run.force, overwrite=run.overwrite, settings=run.settings)
    request, places, force, overwrite, settings = asked.value.args
    if tasks:
        request = replace(request, corpus=replace(request.corpus, tasks=("esc50",)))
    # A command makes paths absolute.
    resolved = api.resolve_places(places, "work", "tasks", "embeddings")
    assert (request, resolved, force, overwrite, settings) == by_words


@pytest.mark.usefixtures("asking")
def test_options_override_the_file(here: Path) -> None:
    lines = ('models = ["my_model"]', 'tasks = ["esc50"]', "seeds = 2", "shuffle = true", 'device = "cpu"')
    (here / "run.toml").write_text("\n".join(lines))
    request, *_ = ask("run.toml", "--seeds", "3", "--no-shuffle", "--tasks", "fsd50k", "--device", "cuda")
    assert (request.protocol.seeds, request.protocol.order) == (3, "fixed")
    assert (request.corpus.tasks, request.submissions.device) == (("fsd50k",), "cuda")


@pytest.mark.usefixtures("asking")
def test_paths_are_relative_to_the_file(here: Path) -> None:
    (here / "runs").mkdir()
    (here / "runs" / "theirs.toml").write_text('module = "cnn.py"\n')
    (here / "runs" / "run.toml").write_text(
        textwrap.dedent(
            """
            models = ["theirs.toml", "cnn.py", "installed.module", {module = "cnn.py", weights = "w.pt"}]
            tasks = ["own.toml", "esc50"]
            mirror = ["archives", "https://host/files"]
            from-published = "/tars"
            scratch-dir = ""
            embeddings-dir = "results"
            """
        )
    )
    assert read_run_file(Path("runs/run.toml")).options["scratch-dir"] == ""
    request, places, *_ = ask("runs/run.toml")
    configs = [read() for read in list_config_readers(request.submissions)]
    runs = str(here / "runs")
    modules = [f"{runs}/cnn.py", f"{runs}/cnn.py", "installed.module", f"{runs}/cnn.py"]
    assert [config.module for config in configs] == modules
    assert configs[3].weights == "runs/w.pt"
    assert request.corpus.tasks == ("runs/own.toml", "esc50")
    assert request.corpus.mirrors == ("runs/archives", "https://host/files")
    assert request.corpus.from_published == "/tars"
    assert (places.embeddings, places.work) == (f"{runs}/results", str(here / "_workdir"))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ('models = ["m"]\ntaks = ["esc50"]', "unknown key in run.toml: got 'taks', .* Did you mean tasks"),
        ('models = ["m"]\ngrid_points = 3', "unknown key in run.toml: .* Did you mean grid-points"),
        (
            'models = ["m"]\nseeds = "five"',
            "run.toml: seeds: got 'five', expected a whole number from 1 to 9999",
        ),
        (
            f'models = ["m"]\nseed = {MAX_SEED + 1}',
            f"run.toml: seed: got {MAX_SEED + 1}, expected a whole number from 0 to {MAX_SEED}",
        ),
        ('models = ["m"]\nseeds = true', "run.toml: seeds: got True, expected a whole number"),
        ('models = ["m"]\ntasks = "esc50"', "run.toml: tasks: got 'esc50', expected a list such as"),
        ('models = ["m"]\nshuffle = "yes"', "run.toml: shuffle: got 'yes', expected true or false"),
        ('models = ["m"]\nprobe = "knn"', "run.toml: probe: got 'knn', expected one of mlp, knn-cosine"),
        (
            'models = ["m"]\nsample-rate = [8000]',
            "run.toml: sample-rate: got .8000., expected a list of some of",
        ),
        (
            'models = ["m"]\nsample-rate = [16000.0]',
            "run.toml: sample-rate: got .16000.0., expected a list of some of",
        ),
        ('models = ["m"]\ntasks = [""]', "run.toml: tasks: got \\[''\\], expected a list such as"),
        ('models = ["m"]\nmode = ""', "run.toml: mode: got '', expected the name of a mode in quotes"),
        *(
            (f'models = ["m"]\n{key} = ""', f"run.toml: {key}: got '', expected a folder in quotes, such as")
            for key in ("tmp-dir", "tasks-dir", "embeddings-dir")
        ),
        *(
            (f'models = ["m"]\n{key} = " "', f"run.toml: {key}: got ' ', expected a text in quotes that is")
            for key in ("accept-checksums", "from-published")
        ),
        ('models = ["m"]\ngpus = ""', "run.toml: gpus: got '', expected a number of GPUs"),
        ('models = ["m"]\ntasks = []', r"run.toml: tasks: got \[\], expected a list such as"),
        ('models = ["m"]\ntimeout = nan', "run.toml: timeout: got nan, expected seconds, at least 1"),
        ('models = ["m"]\nweights = "w.pt"', "run.toml: weights: got what describes a model, .*models"),
        ('models = ["m"]\nmodule = "m"', "run.toml: module: got what describes a model"),
        ('tasks = ["esc50"]', "run.toml: models: got nothing, expected a list of models"),
        ('models = "m"', "run.toml: models: got 'm', expected a list of models"),
        ("models = [3]", "run.toml: model 1: got 3, expected a module, a file or a table"),
        ('models = ["m", {modul = "m"}]', "unknown key in run.toml, model 2: got 'modul', .* module"),
        ('[[models]]\nmodule = "m"\nsha256 = 3', "run.toml, model 1: sha256: got 3, expected 64 hex digits"),
        ('[[models]]\nname = "m"', "run.toml, model 1: module: got nothing"),
        ('models = ["m"]\nmodels = ["m"]', "run.toml: got .*, expected TOML"),
    ],
)
def test_faults_are_one_line(here: Path, content: str, error: str) -> None:
    (here / "run.toml").write_text(content)
    for name in ("evaluate", "plan"):
        done = CliRunner().invoke(
            main, [name, "run.toml", *(["--tasks", "esc50"] if "tasks" not in content else [])]
        )
        assert done.exit_code == 2
        (line,) = done.stderr.splitlines()
        assert re.search(error, line), line
    assert sorted(path.name for path in here.iterdir()) == ["my_model.py", "run.toml"]


def test_a_run_stands_alone(here: Path) -> None:
    (here / "run.toml").write_text('models = ["my_model"]')
    for words in (["run.toml", "my_model"], ["my_model", "run.toml"]):
        done = CliRunner().invoke(main, ["evaluate", *words])
        assert done.stderr.startswith("error: run run.toml: got my_model as well, expected the file alone")
    done = CliRunner().invoke(main, ["validate", "run.toml"])
    assert "run.toml: got the file of a run, as it has `models`" in done.stderr
    assert done.stderr.endswith("Name a model of it: run.toml#1.\n")
    with pytest.raises(HearevalError, match=r"run run.toml: got tasks, protocol as well"):
        heareval.evaluate("run.toml", tasks=["esc50"], protocol=heareval.Protocol(seed=3))


def test_a_file_that_describes_a_model_is_no_run(here: Path) -> None:
    for content in (
        'module = "my_model"',
        'module = "my_model"\ndevice = "cpu"',
        'device = "cpu"',
        "not TOML [",
    ):
        (here / "model.toml").write_text(content)
        assert not is_run_file("model.toml")
    assert not is_run_file("nothing.toml")


def test_one_model_of_a_run_has_a_name(here: Path) -> None:
    (here / "run.toml").write_text('models = ["my_model", {module = "my_model", name = "second"}]')
    read_first, read_second = list_config_readers(SubmissionArgs(("run.toml#1", "run.toml#2")))
    assert (read_first().module, read_second().name) == ("my_model", "second")
    (read_third,) = list_config_readers(SubmissionArgs(("run.toml#3",)))
    with pytest.raises(HearevalError, match=r"run.toml#3: got 2 models in run.toml"):
        read_third()


def test_the_example_of_the_documentation_runs(mirror: Path, here: Path) -> None:
    page = (ROOT / "docs" / "evaluating.md").read_text(encoding="utf-8")
    example = page.partition("    # runs/digits.toml\n")[2].partition("\n\n`heareval evaluate runs")[0]
    (here / "runs").mkdir()
    (here / "runs" / "digits.toml").write_text(textwrap.dedent(example))
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    done = command(here, "heareval", "evaluate", "runs/digits.toml", *sums)
    assert done.returncode == 0, done.stderr
    results = here / "results"
    assert sorted(path.name for path in results.iterdir() if path.name[0] != ".") == ["large", "small"]
    recorded = json.loads(
        (results / "large" / SPOKEN / "test.probe-linear.predicted-scores.json").read_text()
    )
    assert recorded["submission"]["options"] == '{"size": 16}'
    status = command(here, "heareval", "status", "runs/digits.toml", *sums)
    assert (status.returncode, status.stdout.splitlines()[-1]) == (0, "2 complete")

    # The same in Python, where the mirror is in the file.
    lines = f'mirror = ["{mirror}"]\naccept-checksums = "{mirror / "MD5SUMS"}"\n'
    (here / "runs" / "digits.toml").write_text(lines + textwrap.dedent(example))
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    scored = heareval.evaluate("runs/digits.toml")
    assert [row["submission"] for row in scored.to_dicts()] == ["small", "large"]
    assert before == {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    assert read_run_file(Path("runs/digits.toml")).models == ("runs/digits.toml#1", "runs/digits.toml#2")
