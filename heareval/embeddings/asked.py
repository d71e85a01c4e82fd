"""What a user asks for: a submission as its TOML file, or the options of a command, describe it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from heareval.embeddings.source import git_revision, is_git, is_on_disk
from heareval.embeddings.submission import canonical_options
from heareval.errors import HearevalError, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIX = ".toml"
DEVICES = ("auto", "cpu", "cuda")
# Tables and lists within each other, which Python reads and writes by calling itself.
DEPTH = 50
SHOWN_LENGTH = 200
# What has another name on the command line than in a file.
OPTIONS = {
    "module": "MODULE",
    "weights": "--model",
    "requirements": "--requirement",
    "options": "--model-options",
}


@dataclass(frozen=True)
class Words:
    """What a command line says of submissions; None and () where it says nothing.

    Args:
        submissions: modules and TOML files.
    """

    submissions: tuple[str, ...]
    name: str | None = None
    source: str | None = None
    weights: str | None = None
    sha256: str | None = None
    python: str | None = None
    requirements: tuple[str, ...] = ()
    device: str | None = None
    options: str | None = None

    def said(self) -> dict[str, Any]:
        """The options that were given, by the keys of a submission file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        values = {key: value for key, value in values.items() if value not in (None, ())}
        if "options" in values:
            values["options"] = json.loads(canonical_options(values["options"]))
        # Scripts of 2021 may say that there is no file.
        return {key: value for key, value in values.items() if (key, value) != ("weights", "")}


@dataclass(frozen=True)
class Asked:
    """A submission as described, with nothing of it looked at yet.

    Args:
        module: importable module with the HEAR API.
        name: name of its folder; "" = made of the module, the weights and the options.
        source: absolute path of what pip installs, or the words for it; "" = nothing is installed.
        weights: file or URL, or "".
        sha256: of the weights, lower case; "" = any.
        python: version of its interpreter, as `3.10`; "" = that of this process.
        requirements: what else pip installs.
        device: one of DEVICES.
        options: further arguments of load_model, as JSON.
    """

    module: str
    name: str = ""
    source: str = ""
    weights: str = ""
    sha256: str = ""
    python: str = ""
    requirements: tuple[str, ...] = ()
    device: str = "auto"
    options: str = "{}"

    @property
    def needs_environment(self) -> bool:
        """Whether it runs in an environment of its own, not in the one of this process."""
        return bool(self.source or self.python or self.requirements)


def asked_by(words: Words) -> list[Callable[[], Asked]]:
    """For each submission the function that reads it: what is wrong with one must not stop the others."""
    said = words.said()
    describing = [key for key in said if key != "device"]
    if len(words.submissions) > 1 and describing:
        raise HearevalError(
            ", ".join(_option(key) for key in describing),
            got=f"{len(words.submissions)} submissions",
            expected="one, which it describes",
            remedy=f"Write it into a {SUFFIX} file of each submission.",
        )
    return [lambda word=word: asked_for(word, said) for word in words.submissions]  # type: ignore[misc]


def asked_for(word: str, said: Mapping[str, Any]) -> Asked:
    """The submission that a word of a command line means, a module or a TOML file.

    Args:
        said: what the options say, by the keys of a file; it goes before what the file says.
    """
    is_file = word.endswith(SUFFIX)
    file, where = Path(word), f"{word}: " if is_file else ""
    values = read_toml(file) if is_file else {"module": word}
    _check(values, lambda key: f"{word}: {key}" if is_file else f"submission {word}")
    _check(said, _option)
    if "weights" in said:
        values.pop("sha256", None)  # it is that of the file's own weights

    def called(key: str) -> str:
        return f"{where}{key}" if is_file else _option(key)

    values = {**_placed(values, file.parent if is_file else Path(), called), **_placed(said, Path(), _option)}
    _check_together(values, called)
    return _asked(values)


def _option(key: str) -> str:
    return OPTIONS.get(key, f"--{key}")


def _asked(values: Mapping[str, Any]) -> Asked:
    texts = {
        "options": json.dumps(values.get("options", {}), sort_keys=True),
        "sha256": values.get("sha256", "").lower(),
        "requirements": tuple(values.get("requirements", ())),
    }
    return Asked(**{**values, **texts})


# --------------------------------------------------------------------------- the TOML file


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


def _is_module(value: object) -> bool:
    return isinstance(value, str) and all(part.isidentifier() for part in value.split("."))


def _is_requirement(value: object) -> bool:
    # Neither an option of pip nor a path, whose content nobody would notice to change.
    is_one = isinstance(value, str) and bool(re.fullmatch(r"[^\s.~/-][^\n\r\0]*", value))
    return is_one and not is_on_disk(str(value))


def _is_source(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[^\s-][^\n\r\0]*", value))


def _are_requirements(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_requirement, value))


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
        return isinstance(value, dict) and _depth(value) <= DEPTH
    except (TypeError, ValueError, RecursionError):
        return False


def _depth(value: object) -> int:
    """How many tables and lists lie within each other."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


def _shown(value: object) -> str:
    """A value as an error tells it."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):
        # Python writes no numbers of thousands of digits, and no depths.
        return "a value that can't be shown"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


# Key -> whether a value is right, and what it should be.
CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "module": (_is_module, "an importable module, as my_model or my_package.module"),
    "name": (
        # It becomes a folder.
        _matches(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"),
        "letters, digits and _ . + -, at most 100, with a letter, a digit or _ in front",
    ),
    "source": (
        _is_source,
        "a folder, or what pip takes: my-model==1.2, git+https://HOST/REPOSITORY@REVISION",
    ),
    "weights": (_matches(r"[^\0]+"), "a file or a URL"),
    "sha256": (_matches("[0-9A-Fa-f]{64}"), "64 hex digits"),
    "python": (_matches(r"3\.([89]|[1-9][0-9])(\.[0-9]+)?"), 'a version in quotes, "3.8" or later'),
    "requirements": (_are_requirements, 'a list of what pip takes, as ["torch==2.1", "librosa"]'),
    "device": (_matches("|".join(DEVICES)), " or ".join(DEVICES)),
    "options": (_is_json, f"a table of values that JSON has, at most {DEPTH} deep"),
}


def read_toml(file: Path) -> dict[str, Any]:
    """What a submission file says, as it is; raises HearevalError if there is no TOML."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        got, expected = "no such file", "a TOML file that describes a submission"
        raise HearevalError(f"submission {file}", got=got, expected=expected) from None
    except (ValueError, RecursionError) as error:
        # Beside what is no TOML: numbers of thousands of digits, thousands of brackets.
        raise HearevalError(f"submission {file}", got=str(error), expected="TOML") from None


def _check(values: Mapping[str, Any], called: Callable[[str], str]) -> None:
    """Raise HearevalError unless every key is known and every value right.

    Args:
        called: what the user knows a key as.
    """
    for key, value in values.items():
        if key not in CHECKS:
            raise unknown_name(f"key in {called(key).partition(': ')[0]}", key, CHECKS)
        is_right, expected = CHECKS[key]
        if not is_right(value):
            near = key == "module" and isinstance(value, str) and value.endswith(".py")
            remedy = f"Did you mean {Path(value).stem}?" if near else ""
            raise HearevalError(called(key), got=_shown(value), expected=expected, remedy=remedy)


def _placed(values: Mapping[str, Any], folder: Path, called: Callable[[str], str]) -> dict[str, Any]:
    """The values with their paths counted from a folder."""

    def path_of(key: str) -> Path:
        try:
            return folder / Path(values[key]).expanduser()
        except RuntimeError:
            expected = "the home of a user that there is"
            raise HearevalError(called(key), got=_shown(values[key]), expected=expected) from None

    placed = dict(values)
    if weights := values.get("weights"):
        placed["weights"] = weights if _is_url(weights) else str(path_of("weights"))
    if source := values.get("source"):
        path = path_of("source")
        is_path = source.startswith((".", "/", "~")) or ("://" not in source and path.exists())
        placed["source"] = str(path.absolute()) if is_path else source
    return placed


def _is_url(weights: str) -> bool:
    return "://" in weights


def _is_web_file(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and PurePosixPath(parts.path).name not in ("", "..")


def _check_source(source: str, called: str) -> None:
    """Raise HearevalError for what could be the name of a folder that is not there.

    pip would look for a package of that name, and run what a stranger has put there.
    """
    if Path(source).is_absolute():
        return
    if is_on_disk(source):
        expected = "a folder or file that is there, by its path alone"
        raise HearevalError(called, got=_shown(source), expected=expected)
    if not re.search("[=<>~!@]|://", source):
        expected = f"a folder that is there, or a version, as {source}==1.0"
        raise HearevalError(called, got=f"{source!r} and no such folder", expected=expected)


def _check_together(values: Mapping[str, Any], called: Callable[[str], str]) -> None:
    """Raise HearevalError if keys that are right alone don't fit each other."""
    if "module" not in values:
        raise HearevalError(called("module"), got="nothing", expected=CHECKS["module"][1])
    weights, has_sum = values.get("weights", ""), "sha256" in values
    if has_sum and not weights:
        raise HearevalError(called("sha256"), got="no weights", expected="weights that have it")
    if _is_url(weights):
        if not _is_web_file(weights):
            raise HearevalError(called("weights"), got=weights, expected="a path, or http(s)://HOST/FILE")
        if not has_sum:
            raise HearevalError(called("sha256"), got="nothing", expected=f"the SHA-256 of {weights}")
    _check_source(values.get("source", "/"), called("source"))
    for key in ("source", "requirements"):
        for text in [values[key]] if key == "source" and key in values else values.get(key, ()):
            if is_git(text) and not git_revision(text):
                expected = "a revision at its end, as @v1.2 or a commit"
                raise HearevalError(called(key), got=text, expected=expected)
