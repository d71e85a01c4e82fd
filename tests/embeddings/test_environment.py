"""Environments created offline by uv and pip: kept, shared, killed, and reported when they fail."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heareval.embeddings import interpreter
from heareval.embeddings.environment import Environment, find_cause, open_environment
from heareval.embeddings.interpreter import clean_variables, find_interpreter, find_uv
from heareval.errors import HearevalError, file_error
from tests.disks import enlarge, small_disk
from tests.packages import commit, offline, write_package, write_wheel

ROOT = Path(__file__).parents[2]
HERE = ".".join(map(str, sys.version_info[:2]))
INSTALLERS = {"uv": tuple(find_uv()), "pip": ()}
RUNNER = """
import sys
from pathlib import Path
from heareval.embeddings.environment import open_environment
made = []
found = open_environment(Path(sys.argv[1]), source=sys.argv[2], uv=sys.argv[3:], announce=made.append)
print(found.python, len(made))
"""


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in offline(tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wheels"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "package")


@pytest.fixture(params=["uv", pytest.param("pip", marks=pytest.mark.slow)])
def uv(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return INSTALLERS[request.param]


def opened(folder: Path, uv: Sequence[str] | None = None, **wanted: Any) -> tuple[Environment, bool]:
    """Return the environment, and whether it was created just now."""
    made: list[str] = []
    found = open_environment(folder / "environments", uv=uv, announce=made.append, **wanted)
    return found, bool(made)


def ask(environment: Environment, code: str) -> str:
    """Return the output of a program that runs in an environment."""
    command = [environment.python, "-c", code]
    variables = clean_variables(Path(environment.python))
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def left(folder: Path) -> list[str]:
    """Return the environments in a folder, complete or not."""
    return sorted(path.name for path in (folder / "environments").iterdir() if path.is_dir())


def test_an_environment_contains_source_and_requirements(
    tmp_path: Path, package: Path, wheels: Path, uv: tuple[str, ...]
) -> None:
    write_wheel(wheels, "extra", "1.0", {"extra.py": ""})
    write_wheel(wheels, "extra", "1.1", {"extra.py": ""})
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*")}
    found, made = opened(tmp_path, uv, source=str(package), requirements=("extra<1.1",), python=HERE)
    assert made
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*")} == before
    place = ask(found, "import their_model, extra, torch, numpy; print(their_model.__file__)")
    assert Path(place).is_relative_to(tmp_path / "environments")
    assert ask(found, "import sys; print(sys.prefix)") == str(Path(found.python).parents[1])
    assert found.record[0] == f"Python {HERE}"
    assert found.record[1].startswith("source tree ")
    assert {"extra==1.0", "their_model==1.0"} <= set(found.record)
    assert not (Path(found.python).parents[1] / "source").exists()


@pytest.mark.slow
def test_the_record_does_not_depend_on_the_installer_or_the_place(tmp_path: Path, package: Path) -> None:
    records = [opened(tmp_path / name, uv, source=str(package))[0].record for name, uv in INSTALLERS.items()]
    assert records[0] == records[1]


def test_an_environment_is_kept_until_something_changes(tmp_path: Path, package: Path) -> None:
    first, _ = opened(tmp_path, source=str(package))
    again = opened(tmp_path, source=str(package))
    assert again == (first, False)
    file = package / "their_model.py"
    text = file.read_text()
    file.write_text(text + "# more\n")
    changed, made = opened(tmp_path, source=str(package))
    assert made
    assert changed.python != first.python
    assert changed.record != first.record
    file.write_text(text)
    assert opened(tmp_path, source=str(package)) == (first, False)
    assert opened(tmp_path, source=str(package), requirements=("torch",))[1]
    # The order of requirements does not matter.
    for order, made in ((("torch", "numpy"), True), (("numpy", "torch"), False)):
        assert opened(tmp_path, requirements=order)[1] is made


def test_an_existing_environment_is_opened_at_once(tmp_path: Path, package: Path) -> None:
    opened(tmp_path, source=str(package))
    began = time.monotonic()
    opened(tmp_path, source=str(package))
    assert time.monotonic() - began < 0.5


def test_a_commit_of_a_repository(tmp_path: Path, package: Path, uv: tuple[str, ...]) -> None:
    first = commit(package, "v1")
    (package / "their_model.py").write_text("late = True")
    second = commit(package, "v2")
    url = f"git+{package.as_uri()}"
    one, _ = opened(tmp_path, uv, source=f"{url}@v1")
    two, _ = opened(tmp_path, uv, source=f"{url}@v2")
    assert f"source {url}@{first}" in one.record
    assert f"their_model==1.0 {second}" in two.record
    assert "late" in ask(two, "import their_model; print(dir(their_model))")
    # The same commit by another name is the same environment.
    assert opened(tmp_path, uv, source=f"{url}@{first}") == (one, False)


def test_a_requirement_and_a_file_are_sources(tmp_path: Path, wheels: Path) -> None:
    wheel = write_wheel(wheels, "named", "2.0", {"named.py": ""})
    for source in ("named==2.0", str(wheel)):
        found, made = opened(tmp_path, source=source)
        assert made
        ask(found, "import named")


def test_our_own_variables_do_not_leak_into_an_environment(
    tmp_path: Path, package: Path, uv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak" / "leaked.py").write_text("")
    for name in ("PYTHONPATH", "PIP_TARGET", "VIRTUAL_ENV", "PIP_PREFIX"):
        monkeypatch.setenv(name, str(tmp_path / "leak"))
    monkeypatch.setenv("PIP_USER", "1")
    found, _ = opened(tmp_path, uv, source=str(package))
    code = "import importlib.util as u, os; print(u.find_spec('leaked'), 'VIRTUAL_ENV' in os.environ)"
    assert ask(found, code) == "None False"
    assert [path.name for path in (tmp_path / "leak").iterdir()] == ["leaked.py"]


FAILURES = {
    "no such requirement": ({"requirements": ("nosuchthing==1",)}, "nosuchthing"),
    "no such source": ({"source": "nosuchthing"}, "nosuchthing"),
    "do not fit": ({"requirements": ("torch==1.0",)}, "torch"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_installation_is_one_line(tmp_path: Path, uv: tuple[str, ...], failure: str) -> None:
    wanted, told = FAILURES[failure]
    pattern = rf"^installation of .*: got .*{told}.*, expected to install\. Its log is .*\.log$"
    with pytest.raises(HearevalError, match=pattern) as raised:
        opened(tmp_path, uv, **wanted)
    assert left(tmp_path) == []
    assert told in Path(raised.value.remedy.split()[-1]).read_text()


def test_the_cause_of_a_failed_build_is_in_the_error(tmp_path: Path, uv: tuple[str, ...]) -> None:
    package = write_package(tmp_path / "p", deed="raise RuntimeError('this one refuses')")
    with pytest.raises(HearevalError, match=r"p: got RuntimeError: this one refuses, expected to"):
        opened(tmp_path, uv, source=str(package))
    assert left(tmp_path) == []
    write_package(package)
    assert opened(tmp_path, uv, source=str(package))[1]


def test_a_missing_python_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        HearevalError, match=r"^Python 3\.99: got .*3\.\d+\.\d+.*python3\.99 on.*Install it\.$"
    ):
        opened(tmp_path, python="3.99")
    with pytest.raises(HearevalError, match=r"Install it, or uv"):
        opened(tmp_path, (), python="3.99")
    assert not (tmp_path / "environments").exists()


def test_a_program_named_python_may_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, text in (
        ("dead", "#!/bin/sh\nexit 127\n"),
        ("live", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
    ):
        (tmp_path / folder).mkdir()
        program = tmp_path / folder / f"python{HERE}"
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "dead"), str(tmp_path / "live")]))
    monkeypatch.setattr(interpreter.platform, "python_version", lambda: "3.7.0")
    found = find_interpreter(HERE, ())
    assert found.path == str(tmp_path / "live" / f"python{HERE}")


def test_what_an_interpreter_prints_when_it_starts_is_no_answer(
    tmp_path: Path, package: Path, wheels: Path
) -> None:
    # It is not UTF-8 either.
    noise = "import os; os.write(1, b'Welcome to node 42' + bytes([255, 10]))\n"
    write_wheel(wheels, "noise", "1.0", {"noise.pth": noise})
    loud = tmp_path / "bin" / f"python{HERE}"
    loud.parent.mkdir()
    loud.write_text(f'#!/bin/sh\necho Welcome; {sys.executable} "$@"; echo Bye\n')
    loud.chmod(0o755)
    found = interpreter.probe_interpreter(str(loud))
    assert found is not None
    assert found.version.startswith(f"{HERE}.")
    environment, _ = opened(tmp_path, requirements=("noise",), python=HERE)
    shown = subprocess.run([environment.python, "-c", ""], capture_output=True, check=True).stdout
    assert b"Welcome to node 42\xff\n" in shown
    assert "noise==1.0" in environment.record


def test_what_uv_prints_when_it_starts_is_no_path(tmp_path: Path) -> None:
    """uv beside heareval is run by Python."""
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\nprintf 'Welcome\\377\\n%s\\n' {sys.executable}\n")
    uv.chmod(0o755)
    assert find_interpreter("3.99", (str(uv),)).path == sys.executable


def test_an_environment_without_its_python_is_created_again(tmp_path: Path, package: Path) -> None:
    found, _ = opened(tmp_path, source=str(package))
    Path(found.python).unlink()
    assert opened(tmp_path, source=str(package)) == (found, True)


def start(folder: Path, package: Path, uv: Sequence[str]) -> subprocess.Popen[str]:
    """Start another process that opens an environment."""
    words = [sys.executable, "-c", RUNNER, str(folder / "environments"), str(package), *uv]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path) -> None:
    """Return when a file exists."""
    until = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_environment_is_created_again_after_a_kill(tmp_path: Path, uv: tuple[str, ...]) -> None:
    begun, slow = tmp_path / "begun", tmp_path / "slow"
    slow.touch()
    deed = (
        f"open({str(begun)!r}, 'w').write(str(os.getpid())); os.path.exists({str(slow)!r}) and time.sleep(99)"
    )
    package = write_package(tmp_path / "package", deed=deed)
    runner = start(tmp_path, package, uv)
    wait_for(begun)
    runner.kill()
    assert runner.wait() == -signal.SIGKILL
    assert len(left(tmp_path)) == 1
    slow.unlink()
    began = time.monotonic()
    found, made = opened(tmp_path, uv, source=str(package))
    assert made
    assert time.monotonic() - began < 90
    ask(found, "import their_model")
    assert len(left(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.6, 2.0])
def test_killed_at_any_moment(tmp_path: Path, package: Path, uv: tuple[str, ...], moment: float) -> None:
    runner = start(tmp_path, package, uv)
    time.sleep(moment)
    runner.kill()
    runner.wait()
    found, _ = opened(tmp_path, uv, source=str(package))
    ask(found, "import their_model, torch")
    assert opened(tmp_path, uv, source=str(package)) == (found, False)


def test_concurrent_runs_create_one_environment(tmp_path: Path, uv: tuple[str, ...]) -> None:
    package = write_package(tmp_path / "package", deed="time.sleep(1)")
    runners = [start(tmp_path, package, uv) for _ in range(3)]
    said = [runner.communicate()[0].split() for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0, 0]
    assert len({python for python, _ in said}) == 1
    assert Path(said[0][0]).exists()
    assert left(tmp_path) == [Path(said[0][0]).parts[-3]]


def test_a_full_disk_is_one_line(tmp_path: Path, package: Path, uv: tuple[str, ...]) -> None:
    (package / "data.bin").write_bytes(bytes(3_000_000))
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        with pytest.raises((HearevalError, OSError)) as raised:
            opened(disk, uv, source=str(package))
        error = raised.value
        told = file_error(error) if isinstance(error, OSError) else error
        assert "expected room to write. Free some space, or choose other folders." in str(told)
        assert left(disk) == []
        enlarge(disk, 60_000_000)
        assert opened(disk, uv, source=str(package))[1]


def test_a_source_that_changes_while_it_is_copied_is_an_error(tmp_path: Path, package: Path) -> None:
    """The copy is hashed, so the installed files always match the fingerprint."""
    clock = package / "clock.txt"

    def tick(line: str) -> None:
        clock.write_text(line)

    with pytest.raises(HearevalError, match="package: got files that changed during the run, expected the"):
        open_environment(tmp_path / "environments", source=str(package), announce=tick)
    assert left(tmp_path) == []


def test_find_cause() -> None:
    assert find_cause([]) == ""
    assert find_cause(["\n", "plain\n", "\n"]) == "plain"
    assert find_cause(["  \u2570\u2500\u25b6 Because x was not found\n"]) == "Because x was not found"
    assert find_cause(["error: No solution\n", "  cause: Because x\n"]) == "Because x"
    assert find_cause(["ERROR: a\n", "hint: b\n"]) == "ERROR: a"
    assert (
        find_cause(["OSError: [Errno 28] No space left\n", "ERROR: a\n"])
        == "OSError: [Errno 28] No space left"
    )


@pytest.mark.network
def test_a_real_package_in_another_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # what keeps pip offline
    others = [version for version in ("3.8", "3.9", "3.10", "3.12", "3.13") if version != HERE]
    for version in others:
        try:
            find_interpreter(version, ())
        except HearevalError:
            continue
        found, _ = opened(tmp_path, (), python=version, source="soundfile==0.12.1")
        facts = json.loads(
            ask(
                found,
                "import json, sys, soundfile, numpy; print(json.dumps([sys.version, soundfile.__version__]))",
            )
        )
        assert facts[0].startswith(version)
        assert facts[1] == "0.12.1"
        return
    pytest.skip("no other Python here")
