"""Configurations of submissions: read from a TOML file, from the options of a command, or from both."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from heareval.embeddings.published import is_published, read_word
from heareval.embeddings.source import find_revision, is_git, is_on_disk
from heareval.errors import HearevalError, unknown_name
from heareval.folders import describe_unusual_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SUFFIX = ".toml"
PYTHON_SUFFIX = ".py"
DEVICES = ("auto", "cpu", "cuda")
# Key of the file of a run: its models. One of them is named by the file and its number: `run.toml#2`.
MODELS = "models"
MODEL_OF_RUN = re.compile(r"(.+\.toml)#([0-9]+)")
# Nested tables and lists: Python's JSON functions are recursive.
MAX_DEPTH = 50
# Characters of a wrong value that an error repeats.
SHOWN_LENGTH = 200
# Key of a file -> option, where the option is not called `--key`.
OPTION_NAMES = {
    "module": "MODULE",
    "weights": "--model",
    "requirements": "--requirement",
    "options": "--model-options",
    "trust_remote_code": "--trust-remote-code",
}


@dataclass(frozen=True)
class SubmissionArgs:
    """What a command line says about submissions; None and () for options that are not given.

    Args:
        submissions: modules and TOML files.
        name, source, weights, sha256, python, requirements, device: as in SubmissionConfig.
        options: further arguments of load_model, as a JSON object.
        trust_remote_code: whether code that comes with a published model may run.
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
    trust_remote_code: bool | None = None

    def given_options(self) -> dict[str, Any]:
        """Return the options that are given, with the keys and types of a submission file.

        Raises:
            HearevalError: `options` is not a JSON object.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        values = {key: value for key, value in values.items() if value not in (None, ())}
        if "options" in values:
            values["options"] = parse_model_options(values["options"])
        # Scripts written in 2021 may pass an empty --model.
        return {key: value for key, value in values.items() if (key, value) != ("weights", "")}


@dataclass(frozen=True)
class SubmissionConfig:
    """The configuration of a submission; whether its files exist has not been checked.

    Args:
        module: importable module with the HEAR API, or the absolute path of its file; after a colon perhaps
            the name of an object in it.
        name: name of its folder; "" = made from the module, the weights and the options.
        source: what is installed: an absolute path, or a requirement for pip; "" = nothing.
        weights: file or URL, or "".
        sha256: SHA-256 of the weights, in lower case; "" = any.
        python: version of its interpreter, such as `3.10`; "" = the version of this process.
        requirements: further requirements for pip.
        device: one of DEVICES.
        options: further arguments of load_model, as JSON.
        trust_remote_code: whether code that comes with a published model may run; `options` then say so.
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
    trust_remote_code: bool = False

    @property
    def file(self) -> str:
        """The path of the module's file; "" for a module that Python finds by its name."""
        place, _ = split_module(self.module)
        return place if place.endswith(PYTHON_SUFFIX) else ""

    @property
    def module_name(self) -> str:
        """The name of the module, for a file that of the file.

        >>> SubmissionConfig("/models/mine.py:Large").module_name
        'mine'
        """
        place, _ = split_module(self.module)
        return Path(place).stem if self.file else place

    @property
    def api_object(self) -> str:
        """The name of the object in the module that has the functions of the API; "" for the module itself.

        >>> SubmissionConfig("/models/mine.py:Large").api_object
        'Large'
        """
        return split_module(self.module)[1] or ""

    @property
    def needs_environment(self) -> bool:
        """Whether it needs its own environment, instead of that of this process."""
        return bool(self.source or self.python or self.requirements)


def split_module(module: str) -> tuple[str, str | None]:
    """Return the name or file of a module, and the name of an object in it; None if there is no colon.

    >>> split_module("mine:Large"), split_module("/data/run:1/mine.py")
    (('mine', 'Large'), ('/data/run:1/mine.py', None))
    """
    # Folders may have colons in their names, too.
    if module.endswith(PYTHON_SUFFIX) or ":" not in module:
        return module, None
    place, _, name = module.rpartition(":")
    return place, name


def list_config_readers(args: SubmissionArgs) -> list[Callable[[], SubmissionConfig]]:
    """Return a function for each submission that reads its configuration.

    An error in one configuration thus does not affect the others.

    Raises:
        HearevalError: options that describe one submission are given for several.
    """
    given = args.given_options()
    describing = [key for key in given if key != "device"]
    if len(args.submissions) > 1 and describing:
        raise HearevalError(
            ", ".join(map(_option_name, describing)),
            got=f"{len(args.submissions)} submissions",
            expected="one, which it describes",
            remedy=f"Write it into a {SUFFIX} file for each submission.",
        )
    return [functools.partial(read_config, word, given) for word in args.submissions]


def read_config(module_or_file: str, given: Mapping[str, Any]) -> SubmissionConfig:
    """Return the configuration of a module or of a TOML file.

    Args:
        module_or_file: a module, or a file whose name ends in SUFFIX.
        given: options by the keys of a file; they override the file.

    Raises:
        HearevalError: a key is unknown or a value is wrong.
    """
    of_run = MODEL_OF_RUN.fullmatch(module_or_file)
    is_file = of_run is not None or module_or_file.endswith(SUFFIX)
    file = Path(of_run.group(1) if of_run else module_or_file)
    where = f"{file}, model {of_run.group(2)}: " if of_run else f"{file}: " if is_file else ""
    values = read_toml(file) if is_file else {"module": module_or_file}
    if of_run:
        values = _read_model_of_run(file, int(of_run.group(2)), values)
    elif MODELS in values:
        raise HearevalError(
            str(file),
            got=f"the file of a run, as it has `{MODELS}`",
            expected="one that describes a model",
            remedy=f"Name a model of it: {file}#1.",
        )
    _check_keys(values, lambda key: f"{where}{key}" if is_file else f"submission {module_or_file}")
    _check_keys(given, _option_name)
    if "weights" in given:
        values.pop("sha256", None)  # it belongs to the file's own weights

    def name_of(key: str) -> str:
        return f"{where}{key}" if is_file else _option_name(key)

    folder = file.parent if is_file else Path()
    if is_published(values.get("module", "")):
        values, given = read_word(values["module"], folder, {**values, **given}), {}
    elif given.get("trust_remote_code") or values.get("trust_remote_code"):
        got = values.get("module", module_or_file)
        raise HearevalError(
            name_of("trust_remote_code"), got=got, expected="a published model, such as hf:NAME"
        )
    values = {
        **_resolve_paths(values, folder, name_of),
        **_resolve_paths(given, Path(), _option_name),
    }
    _check_together(values, name_of)
    return _make_config(values)


def address_model(file: Path, number: int) -> str:
    """Return the word that names a model of the file of a run, counted from 1.

    >>> address_model(Path("runs/run.toml"), 2)
    'runs/run.toml#2'
    """
    return f"{file}#{number}"


def _read_model_of_run(file: Path, number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file of a run says of one of its models, unchecked."""
    models = values.get(MODELS)
    count = len(models) if isinstance(models, list) else 0
    if not isinstance(models, list) or not 1 <= number <= count:
        raise HearevalError(f"{file}#{number}", got=f"{count} models in {file}", expected="the number of one")
    model = models[number - 1]
    return dict(model) if isinstance(model, dict) else {"module": model}


def _option_name(key: str) -> str:
    return OPTION_NAMES.get(key, f"--{key}")


def _make_config(values: Mapping[str, Any]) -> SubmissionConfig:
    normalised = {
        "options": json.dumps(values.get("options", {}), sort_keys=True),
        "sha256": values.get("sha256", "").lower(),
        "requirements": tuple(values.get("requirements", ())),
    }
    return SubmissionConfig(**{**values, **normalised})


def parse_model_options(options: str) -> dict[str, Any]:
    """Return further arguments of load_model from a JSON object.

    >>> parse_model_options('{"size": 512}')
    {'size': 512}

    Raises:
        HearevalError: it is not a JSON object.
    """
    try:
        values = json.loads(options or "{}")
    except (ValueError, RecursionError) as error:
        got = f"{options[:SHOWN_LENGTH]!r} ({error})"
        raise HearevalError("model options", got=got, expected="a JSON object") from error
    if not isinstance(values, dict):
        expected = "a JSON object such as '{\"size\": 512}'"
        raise HearevalError("model options", got=options[:SHOWN_LENGTH], expected=expected)
    return values


def _matches(pattern: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value))


def _is_module(value: object) -> bool:
    if not isinstance(value, str):
        return False
    if is_published(value):
        # Its own reader says what is wrong with it.
        return True
    place, name = split_module(value)
    is_object = name is None or name.isidentifier()
    is_file = place.endswith(PYTHON_SUFFIX) and "." not in Path(place).stem and place.isprintable()
    return is_object and (is_file or all(part.isidentifier() for part in place.split(".")))


def _is_requirement(value: object) -> bool:
    # Refuse options of pip, and paths: a change of their content would go unnoticed.
    is_one = isinstance(value, str) and bool(re.fullmatch(r"[^\s.~/-][^\n\r\0]*", value))
    return is_one and not is_on_disk(str(value))


def _is_source(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[^\s-][^\n\r\0]*", value))


def _are_requirements(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_requirement, value))


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
        return isinstance(value, dict) and _depth(value) <= MAX_DEPTH
    except (TypeError, ValueError, RecursionError):
        return False


def _depth(value: object) -> int:
    """Return how deeply tables and lists are nested."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inside is None else 1 + max(map(_depth, inside), default=0)


def _format_value(value: object) -> str:
    """Return a value as an error shows it."""
    try:
        text = ascii(value)
    except (ValueError, RecursionError):
        # Python refuses to format integers with thousands of digits, and very deep nesting.
        return "a value that can't be shown"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


# Key -> a function that returns whether a value is right, and what the value should be.
KEY_RULES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "module": (
        _is_module,
        "an importable module, such as my_model or my_package.module, or a file, such as my_model.py, or a "
        "published model, such as hf:facebook/wav2vec2-base-960h",
    ),
    "name": (
        # It becomes the name of a folder.
        _matches(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"),
        "at most 100 letters, digits and _ . + -, beginning with a letter, a digit or _",
    ),
    "source": (
        _is_source,
        "a folder, or a requirement for pip: my-model==1.2, git+https://HOST/REPOSITORY@REVISION",
    ),
    "weights": (_matches(r"[^\0]+"), "a file or a URL"),
    "sha256": (_matches("[0-9A-Fa-f]{64}"), "64 hex digits"),
    "python": (_matches(r"3\.([89]|[1-9][0-9])(\.[0-9]+)?"), 'a version in quotes, "3.8" or later'),
    "requirements": (_are_requirements, 'a list of requirements for pip, such as ["torch==2.1", "librosa"]'),
    "device": (_matches("|".join(DEVICES)), " or ".join(DEVICES)),
    "options": (_is_json, f"a table of JSON values, at most {MAX_DEPTH} levels deep"),
    "trust_remote_code": (lambda value: isinstance(value, bool), "true or false"),
}


def read_toml(file: Path) -> dict[str, Any]:
    """Return the content of a submission file, unchecked.

    Raises:
        HearevalError: there is no such file, or it is not TOML.
    """
    if unusual := describe_unusual_file(file):
        expected = "a TOML file that describes a submission"
        raise HearevalError(f"submission {file}", got=unusual, expected=expected)
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        # Not only for invalid TOML: also for integers with thousands of digits, and for deep nesting.
        raise HearevalError(f"submission {file}", got=str(error), expected="TOML") from None


def _check_keys(values: Mapping[str, Any], name_of: Callable[[str], str]) -> None:
    """Raise HearevalError unless every key is known and every value is right.

    Args:
        values: the values.
        name_of: returns the name under which the user knows a key.
    """
    for key, value in values.items():
        if key not in KEY_RULES:
            raise unknown_name(f"key in {name_of(key).partition(': ')[0]}", key, KEY_RULES)
        is_right, expected = KEY_RULES[key]
        if not is_right(value):
            raise HearevalError(name_of(key), got=_format_value(value), expected=expected)


def _resolve_paths(values: Mapping[str, Any], folder: Path, name_of: Callable[[str], str]) -> dict[str, Any]:
    """Return the values with relative paths resolved against a folder."""

    def path_of(key: str, path: str) -> Path:
        try:
            return folder / Path(path).expanduser()
        except RuntimeError:
            expected = "the home of an existing user"
            raise HearevalError(name_of(key), got=_format_value(values[key]), expected=expected) from None

    resolved = dict(values)
    place, name = split_module(values.get("module", ""))
    if place.endswith(PYTHON_SUFFIX):
        file = os.path.abspath(path_of("module", place))  # noqa: PTH100 - links are kept
        resolved["module"] = file if name is None else f"{file}:{name}"
    if weights := values.get("weights"):
        resolved["weights"] = weights if _is_url(weights) else str(path_of("weights", weights))
    if source := values.get("source"):
        path = path_of("source", source)
        is_path = source.startswith((".", "/", "~")) or ("://" not in source and path.exists())
        resolved["source"] = str(path.absolute()) if is_path else source
    return resolved


def _is_url(weights: str) -> bool:
    return "://" in weights


def _is_web_file(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and PurePosixPath(parts.path).name not in ("", "..")


def _check_source(source: str, name: str) -> None:
    """Raise HearevalError if a source may be the name of a missing folder.

    pip would install a package of that name from an index, and run a stranger's code.
    """
    if Path(source).is_absolute():
        return
    if is_on_disk(source):
        expected = "a folder or file that exists, given by its path alone"
        raise HearevalError(name, got=_format_value(source), expected=expected)
    if not re.search("[=<>~!@]|://", source):
        expected = f"a folder that exists, or a version, such as {source}==1.0"
        raise HearevalError(name, got=f"{source!r} and no such folder", expected=expected)


def _check_together(values: Mapping[str, Any], name_of: Callable[[str], str]) -> None:
    """Raise HearevalError if values that are right alone contradict each other."""
    if "module" not in values:
        raise HearevalError(name_of("module"), got="nothing", expected=KEY_RULES["module"][1])
    if values.get("source") and split_module(values["module"])[0].endswith(PYTHON_SUFFIX):
        raise HearevalError(
            name_of("module"),
            got=f"the path {values['module']} and a source",
            expected="the name of a module that the source installs",
        )
    weights, has_sha256 = values.get("weights", ""), "sha256" in values
    if has_sha256 and not weights:
        raise HearevalError(name_of("sha256"), got="no weights", expected="the weights it belongs to")
    if _is_url(weights):
        if not _is_web_file(weights):
            raise HearevalError(name_of("weights"), got=weights, expected="a path, or http(s)://HOST/FILE")
        if not has_sha256:
            raise HearevalError(name_of("sha256"), got="nothing", expected=f"the SHA-256 of {weights}")
    _check_source(values.get("source", "/"), name_of("source"))
    for key in ("source", "requirements"):
        for text in [values[key]] if key == "source" and key in values else values.get(key, ()):
            if is_git(text) and not find_revision(text):
                expected = "a revision at its end, such as @v1.2 or a commit"
                raise HearevalError(name_of(key), got=text, expected=expected)
