"""Environments of submissions: created once, with uv or with venv and pip, and kept by fingerprint."""

from __future__ import annotations

import collections
import contextlib
import json
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files
from heareval.embeddings.interpreter import (
    Interpreter,
    clean_variables,
    find_interpreter,
    find_uv,
    parse_answer,
)
from heareval.embeddings.source import Source, copy_tree, hash_tree, is_git, pin_commit, resolve_source
from heareval.errors import NO_ROOM, HearevalError
from heareval.worker_process import stop_supervised, supervise_command

VERSION = 1
# Our own code in `inside/` needs it.
REQUIRED = ("numpy",)
# They do not affect embeddings; venv and uv leave different ones in an environment.
INSTALLERS = ("pip", "setuptools", "wheel", "uv")
# Lines of output that are searched for the cause of an error, and where a line is cut.
KEPT_LINES, MAX_LINE_BYTES = 2000, 1 << 16
# The size of an empty environment.
EMPTY_BYTES = 16_000_000
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
# Lines that name a cause, the best first: an exception of a build, uv's cause, an error of pip, any text.
CAUSES = (r"^\W*(\w+\.)*\w*(Error|Exception)\b: \S", r"^\W*cause: ", r"(?i)^\W*error: ", r"\S")
LIST_INSTALLED = """
import json
from importlib import metadata
# The remains of a broken installation may have no name.
found = [d for d in metadata.distributions() if d.metadata["Name"]]
facts = [[d.metadata["Name"], str(d.version), d.read_text("direct_url.json") or "{}"] for d in found]
print("\\nheareval: " + json.dumps(sorted(facts)))
"""


@dataclass(frozen=True)
class Environment:
    """An environment on this machine.

    Args:
        python: path of its interpreter.
        record: its contents, a line each: the version of Python, the source, and all distributions.
    """

    python: str
    record: tuple[str, ...]


@dataclass(frozen=True)
class EnvironmentPlan:
    """An environment to create, with interpreter, source and requirements resolved."""

    interpreter: Interpreter
    source: Source | None
    requirements: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """A fingerprint that changes with anything that the environment is made from."""
        python = self.interpreter
        return files.fingerprint(
            "environment",
            VERSION,
            # Machines that share a work folder may have the same version in different places.
            python=[python.version, python.home, platform.machine(), sys.platform],
            source=self.source.identity if self.source else "",
            requirements=sorted(self.requirements),
        )


def open_environment(
    folder: Path,
    *,
    source: str = "",
    python: str = "",
    requirements: Sequence[str] = (),
    excluded: Collection[Path] = (),
    uv: Sequence[str] | None = None,
    announce: Callable[[str], None] = lambda line: None,
) -> Environment:
    """Return the environment with these contents; create it if it does not exist.

    Args:
        folder: where environments are kept.
        source: absolute path of a folder or file, or a requirement for pip; "" = none.
        python: version of its interpreter; "" = the version of this process.
        requirements: further requirements for pip.
        excluded: folders inside the source that do not belong to it.
        uv: command that runs uv; () = use venv and pip; None = find uv.
        announce: gets a line of text before an environment is created, which takes a while.

    Raises:
        HearevalError: there is no such Python, or an installation failed; nothing incomplete remains.
    """
    uv = find_uv() if uv is None else uv
    plan = _plan_environment(source, python, requirements, excluded, uv)
    place = folder.absolute() / plan.fingerprint
    if not _is_complete(place):
        lock = folder / f".{place.name}.lock"
        with files.locked(lock, lambda: announce("waiting for another run, which creates the environment")):
            # Another run may have created it while this one waited for the lock.
            if not _is_complete(place):
                log = place.with_name(f"{place.name}.log")
                announce(f"creating an environment with Python {plan.interpreter.version}; its log is {log}")
                _create(plan, place, _Installer(place, log, tuple(uv)), excluded)
    return _read_environment(plan, place)


def find_environment(
    folder: Path,
    *,
    source: str = "",
    python: str = "",
    requirements: Sequence[str] = (),
    excluded: Collection[Path] = (),
) -> Environment | None:
    """Return the environment with these contents; None if it has not been created.

    The arguments and errors are those of `open_environment`.

    Example: `find_environment(Places().environments(), source="my-model==1.0")`
    """
    plan = _plan_environment(source, python, requirements, excluded, find_uv())
    place = folder.absolute() / plan.fingerprint
    return _read_environment(plan, place) if _is_complete(place) else None


def _plan_environment(
    source: str, python: str, requirements: Sequence[str], excluded: Collection[Path], uv: Sequence[str]
) -> EnvironmentPlan:
    pinned = tuple(pin_commit(text) if is_git(text) else text for text in requirements)
    resolved = resolve_source(source, excluded) if source else None
    return EnvironmentPlan(find_interpreter(python, uv), resolved, pinned)


def _read_environment(plan: EnvironmentPlan, place: Path) -> Environment:
    manifest = files.read_json(place / files.MANIFEST)
    return Environment(str(_python_path(place)), _list_contents(plan, manifest))


def _python_path(place: Path) -> Path:
    return place / "bin" / "python"


def _is_complete(place: Path) -> bool:
    # The interpreter is a link, whose target may have been removed.
    return (place / files.MANIFEST).exists() and _python_path(place).exists()


def _list_contents(plan: EnvironmentPlan, manifest: dict[str, Any]) -> tuple[str, ...]:
    """Return what may change embeddings, without the place and the date of the installation."""
    minor = ".".join(plan.interpreter.version.split(".")[:2])
    lines = [f"Python {minor}", f"source {plan.source.identity}" if plan.source else ""]
    for each in manifest["distributions"]:
        if each["name"].lower() not in INSTALLERS:
            url = each["direct_url"]
            commit = url.get("vcs_info", {}).get("commit_id")
            identity = commit or url.get("archive_info", {}).get("hash", "")
            lines.append(f"{each['name']}=={each['version']} {identity}".strip())
    return tuple(filter(None, lines))


# --------------------------------------------------------------------------- creating an environment


@dataclass(frozen=True)
class _Installer:
    """Runs uv, venv and pip for one environment."""

    place: Path
    log: Path
    uv: tuple[str, ...]

    def run(self, what: str, command: Sequence[str]) -> None:
        """Run a command; raise HearevalError with the cause from its output if it fails."""
        lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        with (
            open(self.log, "ab", buffering=0) as log,
            subprocess.Popen(
                # If this run is killed, its installer must not write beside that of the next run.
                supervise_command(command),
                cwd=self.place if self.place.exists() else self.place.parent,
                env=clean_variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            try:
                while process.stdout and (line := process.stdout.readline(MAX_LINE_BYTES)):
                    lines.append(line.decode("utf-8", "replace"))
                    # If the disk is full, the command itself reports it.
                    with contextlib.suppress(OSError):
                        log.write(line)
                process.wait()
            finally:
                stop_supervised(process)
        if process.returncode:
            raise self._error(what, process.returncode, lines)

    def _error(self, what: str, code: int, lines: Collection[str]) -> HearevalError:
        expected, remedy = "to install", f"Its log is {self.log}"
        # venv hides the error of a full disk.
        if any(map(NO_SPACE.search, lines)) or shutil.disk_usage(self.place.parent).free < EMPTY_BYTES:
            expected, remedy = NO_ROOM
        got = find_cause(lines) or f"exit code {code}"
        return HearevalError(what, got=got, expected=expected, remedy=remedy)


def find_cause(lines: Collection[str]) -> str:
    """Return the line of an output that best names the cause of an error.

    >>> find_cause(["  ValueError: no", "ERROR: Failed to build", "note: not pip's fault"])
    'ValueError: no'
    """
    for pattern in CAUSES:
        for line in reversed(list(lines)):
            if re.search(pattern, line):
                # Remove the arrows and frames that uv and pip draw.
                return re.sub(r"^[^\w\[('\"]+(cause: )?", "", line).strip()
    return ""


def _create(plan: EnvironmentPlan, place: Path, installer: _Installer, excluded: Collection[Path]) -> None:
    """Create an environment in its place, as it cannot be moved; the manifest marks it complete."""
    began = time.monotonic()
    files.remove_tree(place)
    installer.log.unlink(missing_ok=True)
    try:
        _create_empty(plan, place, installer)
        _install(plan, place, installer, excluded)
        manifest = {
            "fingerprint": plan.fingerprint,
            "made_by": "uv" if installer.uv else "pip",
            **asdict(plan),
            "distributions": _list_installed(place),
            "seconds": round(time.monotonic() - began, 3),
        }
        files.write_json(place / files.MANIFEST, manifest)
    except BaseException:
        files.remove_tree(place)
        raise


def _create_empty(plan: EnvironmentPlan, place: Path, installer: _Installer) -> None:
    python = plan.interpreter.path
    command = [python, "-I", "-m", "venv", str(place)]
    if installer.uv:
        command = [*installer.uv, "venv", "--no-project", "--python", python, str(place)]
    installer.run(f"environment with Python {plan.interpreter.version}", command)


def _install(plan: EnvironmentPlan, place: Path, installer: _Installer, excluded: Collection[Path]) -> None:
    """Install everything in one command, so that all versions fit together."""
    wanted = [*REQUIRED, *plan.requirements]
    copy = place / "source"
    if plan.source:
        wanted.append("./source" if plan.source.is_folder else plan.source.text)
        if plan.source.is_folder:
            _copy_source(plan.source, copy, excluded)
    python = str(_python_path(place))
    command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *wanted]
    if installer.uv:
        command = [*installer.uv, "pip", "install", "--python", python, *wanted]
    named = [plan.source.text] if plan.source else []
    installer.run(
        f"installation of {', '.join([*named, *plan.requirements]) or ', '.join(REQUIRED)}", command
    )
    files.remove_tree(copy)


def _copy_source(source: Source, copy: Path, excluded: Collection[Path]) -> None:
    """Copy a source folder, because a build leaves files in it.

    Raises:
        HearevalError: the source has changed since its identity was computed.
    """
    copy_tree(Path(source.text), copy, excluded)
    if source.identity != f"tree {hash_tree(copy, ())}":
        got, expected = "files that changed during the run", "the same files as at its beginning"
        remedy = "Run again when nothing changes them."
        raise HearevalError(f"source {source.text}", got=got, expected=expected, remedy=remedy)


def _list_installed(place: Path) -> list[dict[str, Any]]:
    """Return the name, the version and the direct_url.json of every distribution."""
    command = [str(_python_path(place)), "-I", "-c", LIST_INSTALLED]
    done = subprocess.run(command, capture_output=True, env=clean_variables(), check=False)
    listed = parse_answer(done.stdout)
    if done.returncode or listed is None:
        lines = (done.stderr or done.stdout).decode(errors="replace").splitlines()
        got = find_cause(lines) or f"exit code {done.returncode}"
        raise HearevalError(f"environment {place}", got=got, expected="a list of its distributions")
    return [{"name": name, "version": number, "direct_url": json.loads(url)} for name, number, url in listed]
