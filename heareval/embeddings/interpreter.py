"""Find the Python interpreter of a version on this machine, or let uv install it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError

# They belong to our own environment, and must not affect the interpreter of another one.
OWN_VARIABLES = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONSAFEPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
)
# They would make pip install elsewhere.
PIP_VARIABLES = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER")
PROBE_TIMEOUT_S = 60.0
# Begins the line with the answer of an interpreter that is asked for something. A module that Python imports
# whenever it starts (sitecustomize, or one of a .pth file) may print other lines.
ANSWER = b"heareval: "
PROBE = (
    "import json, platform, sys; "
    f"print('\\n{ANSWER.decode()}' + json.dumps([platform.python_version(), sys.base_prefix]))"
)


@dataclass(frozen=True)
class Interpreter:
    """A Python interpreter.

    Args:
        path: the executable.
        version: full version, such as `3.10.13`.
        home: folder that it is installed in.
    """

    path: str
    version: str
    home: str


def clean_variables(python: Path | None = None) -> dict[str, str]:
    """Return our environment variables without those that would affect another interpreter, or pip.

    Args:
        python: interpreter of an environment; its folder is put in front of PATH.
    """
    dropped = (*OWN_VARIABLES, *PIP_VARIABLES)
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    if python:
        variables["PATH"] = os.pathsep.join([str(python.parent), variables.get("PATH", os.defpath)])
    return variables


def find_uv() -> list[str]:
    """Return the command that runs uv, from PATH or our own environment; [] if there is none."""
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def find_interpreter(version: str, uv: Sequence[str]) -> Interpreter:
    """Return the Python interpreter of a version.

    Args:
        version: such as `3.10` or `3.10.13`; "" = the version of this process.
        uv: command that runs uv, which may download an interpreter; () = without uv.

    Raises:
        HearevalError: there is none.
    """
    ours = Interpreter(sys.executable, platform.python_version(), sys.base_prefix)
    if not version or _has_version(ours, version):
        return ours
    for path in _list_candidates(version):
        interpreter = probe_interpreter(path)
        if interpreter and _has_version(interpreter, version):
            return interpreter
    reason = ""
    if uv:
        managed, reason = _find_with_uv(version, uv)
        if managed:
            return managed
    raise _make_missing_error(version, uv, reason)


def _has_version(interpreter: Interpreter, version: str) -> bool:
    return f"{interpreter.version}.".startswith(f"{version}.")


@functools.cache
def probe_interpreter(path: str) -> Interpreter | None:
    """Return the interpreter at a path; None if it does not run, as a shim of pyenv may not."""
    command = [path, "-I", "-c", PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, env=clean_variables(), timeout=PROBE_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    answer = parse_answer(done.stdout)
    return Interpreter(path, *answer) if answer else None


def parse_answer(output: bytes) -> Any:
    """Return the JSON value behind ANSWER in the output of an interpreter; None if there is none.

    >>> parse_answer(b"Welcome to node 7!\\n\\xff\\nheareval: [1]\\nbye")
    [1]
    """
    for line in reversed(output.splitlines()):
        if line.startswith(ANSWER):
            with contextlib.suppress(ValueError):
                return json.loads(line[len(ANSWER) :])
    return None


def _list_candidates(version: str) -> Iterator[str]:
    """Yield the executables on PATH, and of pyenv, that are named after a version."""
    minor = ".".join(version.split(".")[:2])
    for folder in os.get_exec_path():
        yield from map(str, Path(folder).glob(f"python{minor}"))
    yield from sorted(map(str, _pyenv_versions().glob(f"{minor}.*/bin/python{minor}")))


def _pyenv_versions() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def _find_with_uv(version: str, uv: Sequence[str]) -> tuple[Interpreter | None, str]:
    """Return the interpreter that uv manages or, if its settings allow it, downloads; else the reason."""
    reason = ""
    for words in (["find", "--managed-python"], ["install"], ["find", "--managed-python"]):
        done = subprocess.run(
            [*uv, "python", *words, version],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_variables(),
            check=False,
        )
        if words[0] == "install":
            reason = " ".join(done.stderr.decode(errors="replace").split()) if done.returncode else ""
        elif not done.returncode and (interpreter := _probe_last_line(done.stdout)):
            return interpreter, ""
    return None, reason


def _probe_last_line(output: bytes) -> Interpreter | None:
    """Return the interpreter whose path is the last line of an output.

    `python -m uv` may print other lines before, when Python starts.
    """
    lines = output.strip().splitlines()
    return probe_interpreter(os.fsdecode(lines[-1])) if lines else None


def _make_missing_error(version: str, uv: Sequence[str], reason: str) -> HearevalError:
    """Return the error for a missing interpreter, which lists the versions that are there."""
    named = {path for folder in os.get_exec_path() for path in map(str, Path(folder).glob("python3.[0-9]*"))}
    named |= set(map(str, _pyenv_versions().glob("*/bin/python3.[0-9]*")))
    programs = [path for path in named if Path(path).name.removeprefix("python").replace(".", "").isdigit()]
    found = {each.version for each in map(probe_interpreter, programs) if each} | {platform.python_version()}
    versions = sorted(
        found, key=lambda text: [int("".join(filter(str.isdigit, n)) or 0) for n in text.split(".")]
    )
    return HearevalError(
        f"Python {version}",
        got=", ".join(versions) + (f"; uv: {reason}" if reason else ""),
        expected=f"python{version} on the PATH",
        remedy="Install it." if uv else "Install it, or uv (`pip install uv`), which downloads it.",
    )
