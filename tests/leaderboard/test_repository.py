"""A results repository: what `heareval leaderboard init` writes, and what its workflows do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import heareval
from heareval import files
from heareval.formats.card import MAX_FILE_BYTES
from heareval.formats.task_folder import read_task_folder
from heareval.leaderboard.changes import MAX_FILES, MAX_TOTAL_BYTES
from heareval.leaderboard.repository import TEMPLATES, read_template
from tests.commands import command, only_line, scratch_left
from tests.leaderboard.results_repository import add_card, commit, git, write_results
from tests.predictions.test_cards import EVENT, PAIRWISE, SCENE

WORKFLOWS = {
    name: yaml.safe_load(read_template(name)) for name in ("check.yml", "comment.yml", "publish.yml")
}
# YAML 1.1 reads the key `on` as a boolean.
ON = True


def init(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return command(folder, "heareval", "leaderboard", "init", *words)


# --------------------------------------------------------------------------- init


def test_init_writes_everything(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        done = init(tmp_path, name)
        assert (done.returncode, done.stdout) == (0, f"{name}/README.md: says how to set it up\n"), (
            done.stderr
        )
        written = {
            str(each.relative_to(tmp_path / name)) for each in (tmp_path / name).rglob("*") if each.is_file()
        }
        assert written == {*TEMPLATES.values(), "requirements.txt"}
    assert (tmp_path / "new" / "requirements.txt").read_text() == f"heareval=={heareval.__version__}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new"]
    assert init(tmp_path, "own", "--requirement", "heareval @ git+https://example.org/h@1").returncode == 0
    assert (tmp_path / "own" / "requirements.txt").read_text() == "heareval @ git+https://example.org/h@1\n"


def test_every_template_is_written_somewhere(tmp_path: Path) -> None:
    ours = Path(heareval.__file__).parent / "leaderboard" / "repository"
    assert {path.name for path in ours.iterdir()} == set(TEMPLATES)


def test_init_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "full")
    (tmp_path / "here").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert "full: got thesis.tex in it, expected a new or empty folder" in only_line(init(tmp_path, "full"))
    assert "link: got a link" in only_line(init(tmp_path, "link"))
    assert "got the working folder" in only_line(init(tmp_path / "here", "."))
    assert init(tmp_path, "file").returncode == 2
    assert "--requirement: got 'a\\nb'" in only_line(init(tmp_path, "new", "--requirement", "a\nb"))
    assert "--requirement: got ''" in only_line(init(tmp_path, "new", "--requirement", ""))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_readme_names_the_limits() -> None:
    text = " ".join(read_template("README.md").decode().split())
    limits = f"{MAX_FILE_BYTES // 10**6} MB, a pull request at most {MAX_TOTAL_BYTES // 10**6} MB"
    assert f"a file has at most {limits} and {MAX_FILES:,} files" in text
    # The comment cannot list the files of a larger one.
    assert f"-gt {MAX_FILES} ]" in read_template("comment.yml").decode()


# --------------------------------------------------------------------------- a repository with references


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    repository = write_results(root)
    add_card(root)
    commit(repository, "a card")
    return root


def test_references_have_all_labels_and_no_sounds(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "tasks", tmp_path / "tasks")
    (tmp_path / "tasks" / SCENE / "16000").mkdir()
    (tmp_path / "tasks" / SCENE / "16000" / "a.wav").touch()
    words = ("heareval", "leaderboard", "references", "references")
    done = command(tmp_path, *words)
    assert (done.returncode, done.stdout) == (
        0,
        f"references/{SCENE}\nreferences/{PAIRWISE}\nreferences/{EVENT}\n",
    )
    assert not list((tmp_path / "references").rglob("*.wav"))
    for name in (SCENE, EVENT, PAIRWISE):
        copied, own = (read_task_folder(tmp_path / place / name) for place in ("references", "tasks"))
        assert (copied.clips, copied.vocabulary, copied.relation) == (own.clips, own.vocabulary, own.relation)
    # Another task replaces its own copy only, and a damaged one none.
    shutil.rmtree(tmp_path / "tasks" / EVENT)
    (tmp_path / "tasks" / SCENE / "LICENSE.txt").write_text("a licence")
    assert command(tmp_path, *words).returncode == 0
    assert (tmp_path / "references" / SCENE / "LICENSE.txt").read_text() == "a licence"
    assert (tmp_path / "references" / EVENT).is_dir()
    (tmp_path / "tasks" / SCENE / "LICENSE.txt").write_text("another")
    (tmp_path / "tasks" / PAIRWISE / "task_metadata.json").write_text("{}")
    assert PAIRWISE in only_line(command(tmp_path, *words))
    assert (tmp_path / "references" / SCENE / "LICENSE.txt").read_text() == "a licence"
    assert scratch_left(tmp_path) == []


# --------------------------------------------------------------------------- what the workflows may


def list_steps(name: str) -> Iterator[dict[str, Any]]:
    for job in WORKFLOWS[name]["jobs"].values():
        yield from job["steps"]


def find_script(name: str, step: str) -> str:
    (script,) = (each["run"] for each in list_steps(name) if each.get("name") == step)
    return str(script)


def test_what_checks_strangers_can_only_read() -> None:
    check = WORKFLOWS["check.yml"]
    assert check[ON] == {"pull_request": {"branches": ["main"]}}
    assert check["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in check["jobs"].values())


def test_what_writes_comments_runs_nothing_of_strangers() -> None:
    comment = WORKFLOWS["comment.yml"]
    assert comment[ON] == {"workflow_run": {"workflows": ["Check cards"], "types": ["completed"]}}
    assert WORKFLOWS["check.yml"]["name"] == "Check cards"
    assert comment["permissions"] == {}
    (job,) = comment["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    # Nothing is checked out or installed, and artifacts are not unpacked to files.
    assert not any("uses" in step for step in job["steps"])
    scripts = "\n".join(step["run"] for step in job["steps"]).replace("<!-- heareval -->", "")
    assert not re.search(r"\b(git|pip|npm|heareval|unzip|source|eval)\b", scripts)


def test_what_publishes_runs_on_main_only() -> None:
    publish = WORKFLOWS["publish.yml"]
    assert set(publish[ON]) == {"push", "workflow_dispatch"}
    assert publish[ON]["push"] == {"branches": ["main"]}
    assert publish["permissions"] == {"contents": "read"}
    build, deploy = (publish["jobs"][name] for name in ("build", "deploy"))
    assert "permissions" not in build
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert not any("run" in step for step in deploy["steps"])


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_secret_and_no_text_of_strangers_in_scripts(name: str) -> None:
    text = read_template(name).decode()
    assert "secrets." not in text
    assert "pull_request_target" not in text
    for step in list_steps(name):
        # What an expression holds would become a part of the script.
        assert "${{" not in step.get("run", "")
        assert step.get("uses", "actions/").startswith("actions/")
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
    assert all(job["timeout-minutes"] for job in WORKFLOWS[name]["jobs"].values())


@pytest.mark.parametrize(
    "script", [step["run"] for name in WORKFLOWS for step in list_steps(name) if "run" in step]
)
def test_every_script_is_one_that_bash_can_read(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def run_script(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as the forge does."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(made: Path, tmp_path: Path) -> Path:
    """What the forge fetches of a pull request merged into main: the merge and its two parents."""
    shutil.copytree(made, tmp_path / "root", symlinks=True)
    repository = tmp_path / "root" / "results"
    git(repository, "checkout", "--quiet", "-b", "branch", "main~1")
    add_card(tmp_path / "root", "other")
    commit(repository)
    git(repository, "checkout", "--quiet", "-b", "merge", "main")
    git(repository, "merge", "--quiet", "--no-ff", "--no-edit", "branch")
    (depth,) = (step["with"]["fetch-depth"] for step in list_steps("check.yml") if "checkout@" in str(step))
    words = ("--quiet", "--depth", str(depth), "--branch", "merge", f"file://{repository}", "checkout")
    git(tmp_path, "clone", *words)
    return tmp_path / "checkout"


def test_the_check_runs_on_what_the_forge_checks_out(checkout: Path) -> None:
    script = find_script("check.yml", "Check the changed cards")
    # It is one command of ours, which need not wait for Python to start.
    assert not re.search(r"[\n;|&$`<>*?\\]", script)
    done = command(checkout, *shlex.split(script))
    assert done.returncode == 0, done.stdout + done.stderr
    comment = (checkout / "comment.txt").read_text()
    assert comment.startswith("ok: 1 cards added, 0 changed, 0 removed, 1 recomputed\nother v1 with ")


def test_a_repository_without_cards_has_a_site(tmp_path: Path) -> None:
    assert init(tmp_path, "results").returncode == 0
    script = find_script("publish.yml", "Build the site")
    # The figures of published rows take seconds.
    done = command(tmp_path / "results", *shlex.split(script), "--no-published")
    assert (done.returncode, done.stderr) == (0, "")
    counts = "0 cards recomputed, 0 as submitted, 0 refused, 0 published rows"
    assert done.stdout == f"site/index.html: {counts}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["check.yml", "publish.yml"])
def test_the_scripts_run_one_after_the_other(checkout: Path, name: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for step in list_steps(name):
        # heareval is installed here.
        if "run" in step and "pip install" not in step["run"]:
            done = run_script(checkout, step["run"], PATH=path)
            assert (done.returncode, done.stderr) == (0, "")
    assert "2 cards recomputed, 0 as submitted, 0 refused" in done.stdout
    assert (checkout / "site" / "models" / "other-v1.html").exists()
    # What the workflow leaves there is not part of the next commit.
    assert git(checkout, "status", "--porcelain") == ""


# --------------------------------------------------------------------------- the comment

GH = """#!{python}
import json, os, re, subprocess, sys
words = sys.argv[1:]
jq = words[words.index("--jq") + 1] if "--jq" in words else "."
endpoint = next(each for each in words if each.startswith("repos/")).split("?")[0]
method = words[words.index("--method") + 1] if "--method" in words else "GET"
with open("calls.txt", "a") as calls:
    print(method, *[each for each in words if each.startswith(("repos/", "head=", "body="))], file=calls)
if endpoint.endswith("/zip"):
    sys.stdout.buffer.write(open("artifact.zip", "rb").read())
elif method == "GET":
    answer = json.load(open("answers.json"))[endpoint]
    sys.exit(subprocess.run(["jq", "--raw-output", jq], input=json.dumps(answer), text=True).returncode)
"""
EVENT_VARIABLES = {
    "REPOSITORY": "o/r",
    "SERVER": "https://example.org",
    "RUN": "77",
    "CONCLUSION": "success",
    "HEAD_OWNER": "stranger",
    "HEAD_BRANCH": "$(touch pwned)",
    "HEAD_SHA": "abc",
}


@pytest.fixture
def forge(tmp_path: Path) -> Path:
    """A folder with a stand-in for the program of the forge, which answers from files."""
    if shutil.which("jq") is None:
        pytest.skip("no jq: apt install jq")
    program = tmp_path / "bin" / "gh"
    program.parent.mkdir()
    program.write_text(GH.format(python=sys.executable))
    program.chmod(0o755)
    write_answers(tmp_path)
    return tmp_path


def write_answers(
    folder: Path,
    *,
    changed: tuple[str, ...] = ("cards/other/v1/card.json",),
    count: int = 1,
    artifact_bytes: int = 500,
    comments: tuple[dict[str, Any], ...] = (),
) -> None:
    pulls = [{"number": 4, "head": {"sha": "older"}}, {"number": 5, "head": {"sha": "abc"}}]
    answers = {
        "repos/o/r/pulls": pulls,
        "repos/o/r/actions/runs/77/artifacts": {
            "artifacts": [
                {"id": 8, "name": "site", "size_in_bytes": 5},
                {"id": 9, "name": "comment", "size_in_bytes": artifact_bytes},
            ]
        },
        "repos/o/r/pulls/5": {"changed_files": count},
        "repos/o/r/pulls/5/files": [
            {"filename": each}
            if each.startswith("cards")
            else {"filename": "cards/a", "previous_filename": each}
            for each in changed
        ],
        "repos/o/r/issues/5/comments": list(comments),
    }
    (folder / "answers.json").write_text(files.dump_json(answers))


def write_comment(folder: Path, text: bytes) -> str:
    """Run all steps of the workflow, as long as their conditions hold, and return the comment."""
    with zipfile.ZipFile(folder / "artifact.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("comment.txt", text)
    output = folder / "output.txt"
    output.write_text("")
    number = ""
    for step in list_steps("comment.yml"):
        if "if" in step and not number:
            continue
        variables = {**EVENT_VARIABLES, "GITHUB_OUTPUT": str(output), "NUMBER": number}
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        done = run_script(folder, step["run"], **{**variables, "PATH": path})
        assert (done.returncode, done.stderr) == (0, ""), step
        number = output.read_text().strip().removeprefix("number=")
    comment = folder / "comment.md"
    return comment.read_text(encoding="ascii") if comment.exists() else ""


def read_calls(folder: Path) -> list[str]:
    return (folder / "calls.txt").read_text().splitlines()


def test_a_comment_shows_what_the_check_wrote(forge: Path) -> None:
    comment = write_comment(forge, b"ok: 1 cards added\nother v1: rank 1 of 2\n")
    first, second, _, *shown = comment.splitlines()
    assert first == "<!-- heareval -->"
    assert second == "Check of abc: success. [Log](https://example.org/o/r/actions/runs/77)"
    assert shown == ["    ok: 1 cards added", "    other v1: rank 1 of 2"]
    assert read_calls(forge)[-1] == "POST repos/o/r/issues/5/comments body=@comment.md"
    # The name of the branch reached the forge as it is, and no shell.
    assert read_calls(forge)[0] == "GET repos/o/r/pulls head=stranger:$(touch pwned)"
    assert not (forge / "pwned").exists()


def test_a_comment_is_plain_text_of_limited_length(forge: Path) -> None:
    hostile = b"ok\n@everyone <img src=x onerror=alert(1)>\n```\n\x1b[31m\xe2\x80\xae\r\n" + b"a" * 30_000_000
    comment = write_comment(forge, hostile)
    lines = comment.splitlines()[3:]
    assert all(line.startswith("    ") for line in lines)
    assert lines[1:4] == ["    @everyone <img src=x onerror=alert(1)>", "    ```", "    [31m"]
    assert len(comment) < 21_000
    # A forge takes no comment of more than 65,536 characters.
    assert len(write_comment(forge, b"\n" * 20_000)) < 5_000


def test_a_comment_replaces_the_earlier_one(forge: Path) -> None:
    own = {"id": 31, "user": {"login": "github-actions[bot]"}, "body": "<!-- heareval -->\nold"}
    others = [
        {"id": 29, "user": {"login": "stranger"}, "body": "<!-- heareval -->\nfalse"},
        {"id": 30, "user": {"login": "github-actions[bot]"}, "body": "something else"},
    ]
    write_answers(forge, comments=(*others, own))
    write_comment(forge, b"ok\n")
    assert read_calls(forge)[-1] == "PATCH repos/o/r/issues/comments/31 body=@comment.md"


@pytest.mark.parametrize("changes", [{"changed": ("cards/a", "requirements.txt")}, {"count": 1001}])
def test_a_check_that_may_lie_is_not_quoted(forge: Path, changes: dict[str, Any]) -> None:
    write_answers(forge, **changes)
    comment = write_comment(forge, b"ok: everything is fine\n")
    assert "This pull request changes files outside cards/" in comment
    assert "everything is fine" not in comment


def test_a_large_artifact_is_not_fetched(forge: Path) -> None:
    write_answers(forge, artifact_bytes=100_001)
    assert "The check wrote nothing; its log says why." in write_comment(forge, b"ok\n")
    assert not any(call.endswith("/zip") for call in read_calls(forge))


def test_a_run_that_belongs_to_no_open_pull_request_gets_no_comment(
    forge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVENT_VARIABLES, "HEAD_SHA", "pushed since")
    assert write_comment(forge, b"ok\n") == ""
    assert len(read_calls(forge)) == 1


def test_a_damaged_artifact_is_told(forge: Path) -> None:
    (forge / "comment.zip").write_bytes(b"PK no archive")
    (forge / "count.txt").write_text("1")
    (forge / "outside.txt").touch()
    done = run_script(forge, find_script("comment.yml", "Write the comment"), **EVENT_VARIABLES)
    assert done.returncode == 0
    assert (forge / "comment.md").read_text().endswith("\nWhat the check wrote cannot be read.\n")
