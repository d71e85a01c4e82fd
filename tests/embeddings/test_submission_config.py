"""Configurations of submissions from files and options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heareval.embeddings.submission_config import (
    SubmissionArgs,
    SubmissionConfig,
    list_config_readers,
    read_config,
)
from heareval.errors import HearevalError

SUM = "ab" * 32
FILE = "file://"
COMMIT = "0123456789" * 4
FULL = f"""
module = "package.module"
name = "my-model_1.0+x"
source = "code"
weights = "weights/w.pt"
sha256 = "{SUM.upper()}"
python = "3.10"
requirements = ["torch==2.1", "tqdm"]
device = "cpu"

[options]
size = 512
nested = {{ deep = [1, 2.5, true] }}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder: Path, text: str | bytes, **said: object) -> SubmissionConfig:
    """The configuration in a file with this text."""
    file = folder / "sub.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_config(str(file), said)


def test_a_file_with_all_keys(here: Path) -> None:
    (here / "code").mkdir()
    assert configured(here, FULL) == SubmissionConfig(
        module="package.module",
        name="my-model_1.0+x",
        source=str(here / "code"),
        weights=str(here / "weights/w.pt"),
        sha256=SUM,
        python="3.10",
        requirements=("torch==2.1", "tqdm"),
        device="cpu",
        options='{"nested": {"deep": [1, 2.5, true]}, "size": 512}',
    )


def test_a_file_with_only_a_module_equals_the_module(here: Path) -> None:
    assert configured(here, 'module = "m"') == read_config("m", {}) == SubmissionConfig("m")
    assert not SubmissionConfig("m").needs_environment
    assert configured(here, '\ufeffmodule = "m"\n\n[options]\n') == SubmissionConfig("m")


def test_paths_are_relative_to_where_they_are_written(here: Path) -> None:
    (here / "sub" / "code").mkdir(parents=True)
    text = 'module = "m"\nsource = "code"\nweights = "w.pt"'
    (here / "sub" / "a.toml").write_text(text)
    assert read_config("sub/a.toml", {}) == SubmissionConfig(
        "m", source=str(here / "sub" / "code"), weights="sub/w.pt"
    )
    assert read_config("sub/a.toml", {"weights": "w.pt"}).weights == "w.pt"
    assert read_config("m", {"source": "./sub/code"}).source == str(here / "sub" / "code")
    assert read_config("m", {"source": "~"}).source == str(Path.home())


def test_a_module_whose_name_only_contains_py_may_have_a_source(here: Path) -> None:
    (here / "code").mkdir()
    found = read_config("package.pytorch_model", {"source": "code"})
    assert (found.module_name, found.file) == ("package.pytorch_model", "")


def test_folders_with_a_colon_in_their_names(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "run:1").mkdir()
    monkeypatch.chdir(here / "run:1")
    for module, api_object in (("mine.py", ""), ("mine.py:Large", "Large")):
        found = read_config(module, {})
        assert found.file == str(here / "run:1" / "mine.py")
        assert (found.module_name, found.api_object) == ("mine", api_object)


def test_options_override_the_file(here: Path) -> None:
    (here / "code").mkdir()
    said = {"device": "cuda", "requirements": ("tqdm==4",), "options": {"size": 1}, "weights": "other.pt"}
    found = configured(here, FULL, **said)
    assert (found.device, found.requirements, found.options) == ("cuda", ("tqdm==4",), '{"size": 1}')
    # The file's sha256 belongs to the file's weights.
    assert (found.weights, found.sha256) == ("other.pt", "")
    assert configured(here, FULL, weights="other.pt", sha256=SUM).sha256 == SUM


@pytest.mark.parametrize(
    "source",
    [
        *("my-model==1.2", "code[x]>=1", "m @ https://host/m.whl", "https://host/a/m.zip#sha256=0"),
        *(
            f"git+https://host/repo.git@{COMMIT}",
            "m @ git+ssh://git@host/repo@v1",
            "m[x,y]@git+file://host/r@v1",
        ),
    ],
)
def test_sources_that_are_no_paths_are_passed_to_pip(here: Path, source: str) -> None:
    found = configured(
        here, f'module = "m"\nsource = "{source}"\nrequirements = ["{source}", "m>=1; x < \'3\'"]'
    )
    assert (found.source, found.requirements[0]) == (source, source)


@pytest.mark.parametrize(
    "path",
    [
        *(f"m @ {FILE}/x", "m@file:x", "m[x] @ FILE:/x", f"hg+{FILE}/x@1", f"{FILE}/x", "file:x.whl"),
        *(
            "wheels/x.whl",
            "wheels/x@1",
            "wheels/x.whl[extra]",
            "m.whl",
            "m.tar.gz[extra]",
            "m @ ./x",
            "m @ x",
        ),
        *(f"{FILE}/x@git+://y", "wheels/x@git+://y", "m @ /x#://", "git+file:x"),
    ],
)
def test_local_requirements_are_refused(here: Path, path: str) -> None:
    with pytest.raises(HearevalError, match=r"requirements: got .*expected a list of requirements for pip"):
        configured(here, f'module = "m"\nrequirements = ["{path}"]')
    with pytest.raises(HearevalError, match=r"source: got .*expected a folder"):
        configured(here, f'module = "m"\nsource = "{path}"')


WRONG = {
    'modul = "m"': r"unknown key in .*sub\.toml: got 'modul', .*Did you mean module\?",
    "": r"sub\.toml: module: got nothing, expected an importable module",
    "module = 3": r"sub\.toml: module: got 3, expected an importable module",
    'module = "../m"': r"sub\.toml: module: got '\.\./m'",
    'module = "a/m.x.py"': r"module: got 'a/m\.x\.py'.*or a file, such as my_model\.py",
    'module = "a/m.py:"': r"module: got 'a/m\.py:'",
    'module = "a/m.py"\nsource = "m==1"': r"module: got the path .*/a/m\.py and a source",
    'module = "m"\nname = ""': "name: got '', expected at most 100 letters, digits",
    'module = "m"\nname = "a/b"': "name: got 'a/b'",
    'module = "m"\nname = ".."': r"name: got '\.\.'",
    'module = "m"\nname = "-x"': "name: got '-x'",
    f'module = "m"\nname = "{"x" * 101}"': "name: got 'xxx",
    'module = "m"\nname = "n\\u00e4me"': r"name: got 'n\\xe4me'",
    'module = "m"\nname = "a\\nb"': r"name: got 'a\\nb'",
    'module = "m"\nsource = ["a"]': r"source: got \['a'\], expected a folder, or a requirement for pip",
    'module = "m"\nsource = "packge"': r"source: got 'packge' and no such folder, expected .*packge==1\.0",
    'module = "m"\nsource = "-e ."': r"source: got '-e \.'",
    'module = "m"\nsource = "git+https://host/repo"': "source: got git.*expected a revision at its end",
    'module = "m"\nsource = "git+ssh://git@host/repo"': "source: got git.*expected a revision at its end",
    'module = "m"\nrequirements = "torch"': r"requirements: got 'torch', expected a list",
    'module = "m"\nrequirements = ["--index-url x"]': "requirements: got .*expected a list",
    'module = "m"\nrequirements = ["./local"]': "requirements: got .*expected a list",
    'module = "m"\nrequirements = ["git+https://host/repo"]': "requirements: got git.*revision",
    'module = "m"\npython = 3.10': 'python: got 3.1, expected a version in quotes, "3.8" or later',
    'module = "m"\npython = "3.7"': "python: got '3.7'",
    'module = "m"\npython = "4"': "python: got '4'",
    'module = "m"\ndevice = "gpu"': "device: got 'gpu', expected auto or cpu or cuda",
    'module = "m"\noptions = "x"': "options: got 'x', expected a table",
    'module = "m"\n[options]\nday = 2021-01-01': "options: got .*expected a table of JSON values",
    'module = "m"\nsha256 = "abc"': "sha256: got 'abc', expected 64 hex digits",
    f'module = "m"\nsha256 = "{SUM}"': "sha256: got no weights",
    'module = "m"\nweights = "https://host/w"': "sha256: got nothing, expected the SHA-256 of",
    f'module = "m"\nweights = "ftp://host/w.pt"\nsha256 = "{SUM}"': "weights: got ftp.*expected a path, or",
    f'module = "m"\nweights = "https://host/"\nsha256 = "{SUM}"': "weights: got https://host/, expected",
    f'module = "m"\nweights = "https://host/.."\nsha256 = "{SUM}"': r"weights: got https://host/\.\.",
    'module = "m': r"submission .*sub\.toml: got .*expected TOML",
    # Inputs for which Python or its libraries raise unusual exceptions.
    'module = "m"\nweights = "~nobodyhere/x.pt"': "weights: got '~nobodyhere/x.pt', expected .*home",
    'module = "~nobodyhere/m.py:Large"': "module: got '~nobodyhere/m.py:Large', expected .*home",
    'module = "m"\nsource = "~nobodyhere/x"': "source: got '~nobodyhere/x', expected .*home",
    'module = "m"\nsource = "a\\u0000b==1"': r"source: got 'a\\x00b==1'",
    'module = "m"\nrequirements = ["a\\u0000b"]': "requirements: got ",
    f"module = {'1' * 5000}": "got Exceeds the limit.*expected TOML",
    f"module = 0x{'f' * 5000}": "module: got a value that can't be shown, expected an importable",
    f'module = "m"\noptions.a = 0x{"f" * 5000}': "options: got a value that can't be shown",
    f"module = {'[' * 3000}": "sub.toml: got .*expected TOML",
    f'module = "m"\noptions.{".".join("a" * 5000)} = 1': "options: got .*at most 50 levels deep",
    f'module = "m"\n[options]\na = {"[" * 60}{"]" * 60}': "options: got .*at most 50 levels deep",
    f'module = "{"a." * 5000}"': r"module: got '(a\.){50,200}a?\.\.\.",
    f'module = "m"\nweights = "http://[::1/x"\nsha256 = "{SUM}"': r"weights: got http://\[::1/x, expected",
    'module = "m"\nsource = "git+http://[::1/x@v1"': r"source: got git.*expected a revision",
    'module = "m"\nrequirements = ["git+http://[::1/x@v1"]': r"requirements: got git.*expected a revision",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_one_line(here: Path, text: str) -> None:
    with pytest.raises(HearevalError, match=WRONG[text]) as raised:
        configured(here, text)
    assert "sub.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_utf8_or_missing(here: Path) -> None:
    with pytest.raises(HearevalError, match=r"sub\.toml: got .*utf-8.*expected TOML"):
        configured(here, b'module = "m"\nname = "\xff"')
    with pytest.raises(HearevalError, match=r"submission no\.toml: got no such file"):
        read_config("no.toml", {})
    # Opening a FIFO would wait for a program that writes to it.
    os.mkfifo(here / "fifo.toml")
    with pytest.raises(HearevalError, match=r"submission fifo\.toml: got a FIFO, expected a TOML file"):
        read_config("fifo.toml", {})


def test_an_error_names_the_option() -> None:
    with pytest.raises(HearevalError, match=r"^--requirement: got "):
        read_config("m", {"requirements": ("-x",)})
    with pytest.raises(HearevalError, match=r"^--name: got 'a\\udcffb'"):
        read_config("m", {"name": "a\udcffb"})
    with pytest.raises(HearevalError, match=r"^--sha256: got nothing, expected the SHA-256 of http"):
        read_config("m", {"weights": "http://host/w"})
    with pytest.raises(HearevalError, match=r"^submission a/m\.x\.py: got 'a/m\.x\.py', expected "):
        read_config("a/m.x.py", {})


def test_options_describe_one_submission() -> None:
    args = SubmissionArgs(("a", "b"), weights="w.pt", python="3.9", device="cpu")
    with pytest.raises(HearevalError, match=r"^--model, --python: got 2 submissions, expected one"):
        list_config_readers(args)
    both = [read() for read in list_config_readers(SubmissionArgs(("a", "b"), device="cpu"))]
    assert both == [SubmissionConfig("a", device="cpu"), SubmissionConfig("b", device="cpu")]


def test_a_wrong_submission_does_not_stop_the_others() -> None:
    first, second = list_config_readers(SubmissionArgs(("no.toml", "b")))
    assert second() == SubmissionConfig("b")
    with pytest.raises(HearevalError, match=r"no\.toml"):
        first()


def test_empty_options() -> None:
    assert SubmissionArgs(("m",), weights="", options="").given_options() == {"options": {}}
    with pytest.raises(HearevalError, match="model options"):
        SubmissionArgs(("m",), options="size=3").given_options()


@pytest.mark.parametrize("options", ["[" * 100_000, "1" * 5000, f'{{"a": {"1" * 5000}}}', '{"a":' * 99_999])
def test_model_options_that_are_no_json(options: str) -> None:
    with pytest.raises(HearevalError, match="model options: got ") as raised:
        SubmissionArgs(("m",), options=options).given_options()
    assert len(str(raised.value)) < 500
