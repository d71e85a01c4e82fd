"""Pythons on this machine: the one of a version, found or fetched by uv."""

from __future__ import annotations

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

from heareval.errors import HearevalError

# Of our own process or shell, and nothing to an interpreter of another environment.
NOT_PASSED_ON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONUSERBASE",
    "PYTHONSAFEPATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
)
# They would let pip install elsewhere.
NOT_FOR_PIP = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER")
PROBE_S = 60.0
PROBE = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.base_prefix]))"


@dataclass(frozen=True)
class Interpreter:
    """A Python.

    Args:
        path: its program.
        version: all of it, as `3.10.13`.
        home: where it is installed.
    """

    path: str
    version: str
    home: str


def clean_variables(python: Path | None = None) -> dict[str, str]:
    """The environment variables for an interpreter that is not ours, or for pip.

    Args:
        python: interpreter of an environment, whose other programs are found first.
    """
    dropped = (*NOT_PASSED_ON, *NOT_FOR_PIP)
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    if python:
        variables["PATH"] = os.pathsep.join([str(python.parent), variables.get("PATH", os.defpath)])
    return variables


def uv_command() -> list[str]:
    """How to call uv, from the PATH or our own environment; empty without one."""
    if found := shutil.which("uv"):
        return [found]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def find_interpreter(version: str, uv: Sequence[str]) -> Interpreter:
    """The Python of a version, `3.10` or `3.10.13`; "" is that of this process.

    Args:
        uv: how to call uv, which may fetch one; empty without it.
    """
    ours = Interpreter(sys.executable, platform.python_version(), sys.base_prefix)
    if not version or _fits(ours, version):
        return ours
    found = (interpreter for path in _candidates(version) if (interpreter := probe(path)))
    for interpreter in found:
        if _fits(interpreter, version):
            return interpreter
    why = ""
    if uv:
        managed, why = _from_uv(version, uv)
        if managed:
            return managed
    raise _missing(version, uv, why)


def _fits(interpreter: Interpreter, version: str) -> bool:
    return f"{interpreter.version}.".startswith(f"{version}.")


@functools.cache
def probe(path: str) -> Interpreter | None:
    """The Python that a program is; None if it doesn't work, as a shim of pyenv may not."""
    command = [path, "-I", "-c", PROBE]
    try:
        done = subprocess.run(
            command, capture_output=True, env=clean_variables(), text=True, timeout=PROBE_S, check=True
        )
        version, home = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Interpreter(path, version, home)


def _candidates(version: str) -> Iterator[str]:
    """Programs that are called like a version, or lie where pyenv installs it."""
    minor = ".".join(version.split(".")[:2])
    for folder in os.get_exec_path():
        yield from map(str, Path(folder).glob(f"python{minor}"))
    yield from sorted(map(str, _pyenv().glob(f"{minor}.*/bin/python{minor}")))


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def _from_uv(version: str, uv: Sequence[str]) -> tuple[Interpreter | None, str]:
    """The Python that uv keeps or, if its settings allow that, fetches; else why there is none."""
    why = ""
    for words in (["find", "--managed-python"], ["install"], ["find", "--managed-python"]):
        done = subprocess.run(
            [*uv, "python", *words, version],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_variables(),
            text=True,
            check=False,
        )
        if words[0] == "install":
            why = " ".join(done.stderr.split()) if done.returncode else ""
        elif not done.returncode and (interpreter := probe(done.stdout.strip())):
            return interpreter, ""
    return None, why


def _missing(version: str, uv: Sequence[str], why: str) -> HearevalError:
    named = {path for folder in os.get_exec_path() for path in map(str, Path(folder).glob("python3.[0-9]*"))}
    named |= set(map(str, _pyenv().glob("*/bin/python3.[0-9]*")))
    programs = [path for path in named if Path(path).name.removeprefix("python").replace(".", "").isdigit()]
    found = {each.version for each in map(probe, programs) if each} | {platform.python_version()}
    versions = sorted(
        found, key=lambda text: [int("".join(filter(str.isdigit, n)) or 0) for n in text.split(".")]
    )
    return HearevalError(
        f"Python {version}",
        got=", ".join(versions) + (f"; uv: {why}" if why else ""),
        expected=f"python{version} on the PATH",
        remedy="Install it." if uv else "Install it, or uv (`pip install uv`), which fetches it.",
    )
