"""Environments of submissions: made once, by uv or by venv and pip, and kept by what is in them."""

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
from heareval.embeddings.interpreter import Interpreter, clean_variables, find_interpreter, uv_command
from heareval.embeddings.source import Source, copy_tree, is_git, look_at, tree_digest, with_commit
from heareval.errors import NO_ROOM, HearevalError
from heareval.worker_process import die_with_parent

VERSION = 1
# The worker needs it, whatever the submission does.
ALWAYS = ("numpy",)
# They install, and compute nothing; venv and uv leave others of them in an environment.
INSTALLERS = ("pip", "setuptools", "wheel", "uv")
KEPT_LINES = 2000
# What an environment with nothing in it takes.
LITTLE_BYTES = 16_000_000
NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
# What tells why, the best first: an exception of a build, the cause that uv names, an error of pip.
TELLING = (r"^\W*(\w+\.)*\w*(Error|Exception)\b: \S", r"^\W*cause: ", r"(?i)^\W*error: ", r"\S")
LIST_INSTALLED = """
import json
from importlib import metadata
# What a broken installation has left may have no name.
found = [d for d in metadata.distributions() if d.metadata["Name"]]
facts = [[d.metadata["Name"], str(d.version), d.read_text("direct_url.json") or "{}"] for d in found]
print(json.dumps(sorted(facts)))
"""


@dataclass(frozen=True)
class Environment:
    """An environment that is there.

    Args:
        python: its interpreter.
        record: what is in it, a line each: its Python, the source, and all distributions.
    """

    python: str
    record: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """An environment to be made, as settings and what they mean on this machine now."""

    interpreter: Interpreter
    source: Source | None
    requirements: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with whatever the environment is made of."""
        python = self.interpreter
        return files.fingerprint(
            "environment",
            VERSION,
            # A work folder may be shared by machines on which the same version lies elsewhere.
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
    apart: Collection[Path] = (),
    uv: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Environment:
    """The environment with these things in it, made if it is not there.

    Args:
        folder: where environments are kept.
        source: absolute path of a folder or file, or what pip takes; "" = nothing.
        python: version of its interpreter; "" = that of this process.
        requirements: what else pip installs.
        apart: folders that are no part of a source which they lie in.
        uv: how to call uv; empty to do without; None finds it.
        tell: gets a line before work that takes a while.

    Raises:
        HearevalError: no such Python, or something does not install; nothing half-made stays.
    """
    uv = uv_command() if uv is None else uv
    pinned = tuple(with_commit(text) if is_git(text) else text for text in requirements)
    plan = Plan(find_interpreter(python, uv), look_at(source, apart) if source else None, pinned)
    place = folder.absolute() / plan.fingerprint
    if not _is_whole(place):
        with files.locked(folder / f".{place.name}.lock"):
            # Another run may have made it while this one waited.
            if not _is_whole(place):
                log = place.with_name(f"{place.name}.log")
                tell(f"making an environment of Python {plan.interpreter.version}; its log is {log}")
                _make(plan, place, _Installer(place, log, tuple(uv)), apart)
    manifest = files.read_json(place / files.MANIFEST)
    return Environment(str(_python_of(place)), _record(plan, manifest))


def _python_of(place: Path) -> Path:
    return place / "bin" / "python"


def _is_whole(place: Path) -> bool:
    # The interpreter is a link to one that may have been removed.
    return (place / files.MANIFEST).exists() and _python_of(place).exists()


def _record(plan: Plan, manifest: dict[str, Any]) -> tuple[str, ...]:
    """What makes embeddings differ, which the place and the day of the installation don't."""
    minor = ".".join(plan.interpreter.version.split(".")[:2])
    lines = [f"Python {minor}", f"source {plan.source.identity}" if plan.source else ""]
    for each in manifest["distributions"]:
        if each["name"].lower() not in INSTALLERS:
            url = each["direct_url"]
            mark = url.get("vcs_info", {}).get("commit_id") or url.get("archive_info", {}).get("hash", "")
            lines.append(f"{each['name']}=={each['version']} {mark}".strip())
    return tuple(filter(None, lines))


# --------------------------------------------------------------------------- making one


@dataclass(frozen=True)
class _Installer:
    """Runs uv or pip for one environment."""

    place: Path
    log: Path
    uv: tuple[str, ...]

    def run(self, what: str, command: Sequence[str]) -> None:
        """Run a command; raises HearevalError with its last words if it fails."""
        lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        with (
            open(self.log, "ab", buffering=0) as log,
            subprocess.Popen(
                command,
                cwd=self.place if self.place.exists() else self.place.parent,
                env=clean_variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                # What a killed run leaves must not write beside the next one.
                preexec_fn=die_with_parent,
            ) as process,
        ):
            try:
                for line in process.stdout or ():
                    lines.append(line.decode("utf-8", "replace"))
                    # A full disk is told by what runs there.
                    with contextlib.suppress(OSError):
                        log.write(line)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise self._error(what, process.returncode, lines)

    def _error(self, what: str, code: int, lines: Collection[str]) -> HearevalError:
        expected, remedy = "to install", f"Its log is {self.log}"
        # venv does not pass on what the disk said.
        if any(map(NO_SPACE.search, lines)) or shutil.disk_usage(self.place.parent).free < LITTLE_BYTES:
            expected, remedy = NO_ROOM
        got = last_words(lines) or f"exit code {code}"
        return HearevalError(what, got=got, expected=expected, remedy=remedy)


def last_words(lines: Collection[str]) -> str:
    """The line that tells most of what a program said.

    >>> last_words(["  ValueError: no", "ERROR: Failed to build", "note: not pip's fault"])
    'ValueError: no'
    """
    for pattern in TELLING:
        for line in reversed(list(lines)):
            if re.search(pattern, line):
                # uv and pip draw arrows and frames.
                return re.sub(r"^[^\w\[('\"]+(cause: )?", "", line).strip()
    return ""


def _make(plan: Plan, place: Path, installer: _Installer, apart: Collection[Path]) -> None:
    """Make it in its place, as it can't be moved; the manifest comes last and says that it is whole."""
    began = time.monotonic()
    files.remove_tree(place)
    installer.log.unlink(missing_ok=True)
    try:
        _make_empty(plan, place, installer)
        _install(plan, place, installer, apart)
        manifest = {
            "fingerprint": plan.fingerprint,
            "made_by": "uv" if installer.uv else "pip",
            **asdict(plan),
            "distributions": _installed(place),
            "seconds": round(time.monotonic() - began, 3),
        }
        files.write_json(place / files.MANIFEST, manifest)
    except BaseException:
        files.remove_tree(place)
        raise


def _make_empty(plan: Plan, place: Path, installer: _Installer) -> None:
    python = plan.interpreter.path
    command = [python, "-I", "-m", "venv", str(place)]
    if installer.uv:
        command = [*installer.uv, "venv", "--no-project", "--python", python, str(place)]
    installer.run(f"environment of Python {plan.interpreter.version}", command)


def _install(plan: Plan, place: Path, installer: _Installer, apart: Collection[Path]) -> None:
    """Install all at once, so that versions are chosen that suit everything."""
    wanted = [*ALWAYS, *plan.requirements]
    copy = place / "source"
    if plan.source:
        wanted.append("./source" if plan.source.is_folder else plan.source.text)
        if plan.source.is_folder:
            _copy(plan.source, copy, apart)
    python = str(_python_of(place))
    command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *wanted]
    if installer.uv:
        command = [*installer.uv, "pip", "install", "--python", python, *wanted]
    named = [plan.source.text] if plan.source else []
    installer.run(f"installation of {', '.join([*named, *plan.requirements]) or ', '.join(ALWAYS)}", command)
    files.remove_tree(copy)


def _copy(source: Source, copy: Path, apart: Collection[Path]) -> None:
    """Copy a source folder, as building leaves things in it; raises HearevalError if it changed meanwhile."""
    copy_tree(Path(source.text), copy, apart)
    if source.identity != f"tree {tree_digest(copy, ())}":
        got, remedy = "files that change", "Run again when they don't."
        raise HearevalError(f"source {source.text}", got=got, expected="what was planned with", remedy=remedy)


def _installed(place: Path) -> list[dict[str, Any]]:
    """Name, version and direct_url.json of every distribution."""
    command = [str(_python_of(place)), "-I", "-c", LIST_INSTALLED]
    done = subprocess.run(command, capture_output=True, env=clean_variables(), text=True, check=False)
    if done.returncode:
        got = last_words(done.stderr.splitlines()) or f"exit code {done.returncode}"
        raise HearevalError(f"environment {place}", got=got, expected="a list of what is installed")
    listed = json.loads(done.stdout)
    return [{"name": name, "version": number, "direct_url": json.loads(url)} for name, number, url in listed]
