"""Packages that pip and uv really build and install, without a network."""

from __future__ import annotations

import importlib.util
import subprocess
import zipfile
from pathlib import Path

from tests.commands import MODEL

# An in-tree backend, as PEP 517 has it: nothing is fetched to build with.
BACKEND = """
import os, sys, time, zipfile

NAME, VERSION, MODULE = {name!r}, {version!r}, {module!r}

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    {deed}
    os.makedirs("build", exist_ok=True)
    file = f"{{NAME}}-{{VERSION}}-py3-none-any.whl"
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    with zipfile.ZipFile(os.path.join(wheel_directory, file), "w") as wheel:
        wheel.write(MODULE + ".py")
        facts = f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n{needs}"
        wheel.writestr(info + "/METADATA", facts)
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return file
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
version = "{version}"
{dependencies}
"""


def write_package(
    folder: Path,
    module: str = "their_model",
    source: str = MODEL,
    *,
    version: str = "1.0",
    needs: tuple[str, ...] = ("torch",),
    deed: str = "pass",
) -> Path:
    """A folder that `pip install` takes, with one module.

    Args:
        deed: a line that its build runs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"Requires-Dist: {each}\\n" for each in needs)
    facts = {"name": module, "version": version, "module": module}
    (folder / f"{module}.py").write_text(source)
    (folder / "backend.py").write_text(BACKEND.format(**facts, deed=deed, needs=lines))
    (folder / "pyproject.toml").write_text(
        PROJECT.format(**facts, dependencies=f"dependencies = {list(needs)}")
    )
    return folder


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A wheel with these files."""
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(inside, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def offline(folder: Path) -> dict[str, str]:
    """Variables with which pip and uv take torch and numpy from a folder, and nothing from elsewhere.

    The two wheels hold nothing but a path that leads to the packages of this interpreter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Where torch is; a virtual environment may borrow it from another one.
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    ours = Path(str(spec.origin)).parents[1]
    for name in ("torch", "numpy"):
        write_wheel(folder, name, "9.9", {f"{name}_of_the_tests.pth": f"{ours}\n"})
    return {
        **{"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"},
        **{"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(folder), "UV_OFFLINE": "1", "UV_NO_CONFIG": "1"},
        # The user's own cache may hold such wheels of another checkout.
        "UV_CACHE_DIR": str(folder / "cache"),
    }


def commit(folder: Path, tag: str) -> str:
    """Make a repository of git of a folder, or a new commit in it, with a tag; returns the commit."""

    def git(*words: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", tag)
    git("tag", "-a", tag, "-m", tag)
    return git("rev-parse", "HEAD")
