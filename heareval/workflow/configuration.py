"""The configuration of Luigi and heareval, luigi.cfg: every error in it is one line that names the file.

Luigi reads its files when it is imported, so this module must not import it before it has checked them.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError, file_error

# Where Luigi looks, in its order; the last file wins. LUIGI_CONFIG_PATH names one more.
FOLDERS = ("/etc/luigi", ".")
NAMES = ("client.cfg", "luigi.cfg")
PATH_VARIABLE = "LUIGI_CONFIG_PATH"
PACKAGED = Path(__file__).parent.parent / "luigi.cfg"
# Sections whose values are whole numbers, and the keys of [core] that are numbers or whole numbers.
WHOLE_NUMBERS = ("resources", "retcode")
CORE_NUMBERS = ("rpc_connect_timeout",)
CORE_WHOLE_NUMBERS = ("rpc_retry_attempts", "rpc_retry_wait")
# Type of a parameter of Luigi -> what it takes.
EXPECTED = {"IntParameter": "a whole number", "FloatParameter": "a number", "BoolParameter": "true or false"}
REMEDY = "Correct or remove it; heareval brings a complete luigi.cfg to copy."


def check_config_files() -> None:
    """Raise HearevalError if Luigi could not read one of its files, or would silently pass over it.

    Example: `check_config_files()` raises `luigi.cfg, line 1: got '[core', expected a section ...`.
    """
    for path in _list_files():
        _read(path)


def _list_files() -> list[Path]:
    """Return the configuration files that exist, and the one that the user named."""
    usual = [Path(folder, name) for folder in FOLDERS for name in NAMES]
    named = os.environ.get(PATH_VARIABLE, "")
    return [path for path in usual if path.exists()] + ([Path(named)] if named else [])


def _read(path: Path) -> configparser.RawConfigParser:
    """Return the content of a configuration file, checked as Luigi would."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except OSError as error:
        raise file_error(error) from None
    except UnicodeDecodeError:
        raise HearevalError(f"{path}", got="no text", expected="UTF-8 text", remedy=REMEDY) from None
    except configparser.Error as error:
        raise _syntax_error(path, error) from None
    return parser


def _syntax_error(path: Path, error: configparser.Error) -> HearevalError:
    """Return the error for a file that is not in ini syntax, with the line at which that shows."""
    number, got, expected = getattr(error, "lineno", None), error.message, "ini syntax"
    if isinstance(error, configparser.MissingSectionHeaderError):
        got, expected = ascii(str(error.line).strip()), "a section, such as [heareval]"
        if "\ufeff" in str(error.line):
            got, expected = "a byte order mark", "UTF-8 text without one"
    elif isinstance(error, configparser.DuplicateOptionError):
        got, expected = f"{error.option} in [{error.section}] again", "every key once"
    elif isinstance(error, configparser.DuplicateSectionError):
        got, expected = f"[{error.section}] again", "every section once"
    elif isinstance(error, configparser.ParsingError) and error.errors:
        number, line = error.errors[0]
        got, expected = str(line).replace("\\n", "").strip("'"), "key = value"
    place = f"{path}, line {number}" if number else str(path)
    return HearevalError(place, got=got, expected=expected, remedy=REMEDY)


def load_config() -> Any:
    """Return Luigi's configuration, with the packaged luigi.cfg for whatever the user's files leave out.

    Raises:
        HearevalError: a value has the wrong type.

    Example: `load_config().get("heareval", "mirror", "")`
    """
    import luigi

    paths = _list_files()
    for path in paths:
        _check_dashes(path)
    config = luigi.configuration.get_config()
    # `add_config_path` would read again what earlier calls added, so each would take longer than the last.
    config.read([PACKAGED, *paths])
    _check_values(config)
    return config


def _check_dashes(path: Path) -> None:
    """Raise HearevalError if a key is spelled with dashes and the packaged file has it: that would win."""
    parser, packaged = _read(path), _read(PACKAGED)
    for section in parser.sections():
        for key in parser.options(section):
            spelled = key.replace("-", "_")
            if key != spelled and packaged.has_option(section, spelled):
                raise HearevalError(f"{path}: [{section}]", got=key, expected=spelled, remedy=REMEDY)


def read_value(key: str) -> str:
    """Return the value of a key in section [heareval]; "" if there is none.

    A `%` stands for itself unless Luigi takes it for a reference, so that URLs need no escaping.

    Example: `read_value("mirror")`
    """
    config = load_config()
    try:
        return str(config.get("heareval", key, ""))
    except configparser.InterpolationError:
        return str(config.get("heareval", key, "", raw=True))


def _check_values(config: Any) -> None:
    """Raise HearevalError if Luigi, when it needs a value, could not convert it."""
    import luigi.scheduler
    import luigi.worker

    readers: dict[tuple[str, str], tuple[Callable[[str], Any], str]] = {
        ("core", key): (float, "a number") for key in CORE_NUMBERS
    }
    readers |= {("core", key): (int, "a whole number") for key in CORE_WHOLE_NUMBERS}
    readers["heareval", "input_wait_s"] = float, "a number"
    for section in WHOLE_NUMBERS:
        keys = config.options(section) if config.has_section(section) else []
        readers |= {(section, key): (int, "a whole number") for key in keys}
    for step in (luigi.worker.worker, luigi.scheduler.scheduler):
        for key, parameter in step.get_params():
            expected = EXPECTED.get(type(parameter).__name__, "a value for Luigi")
            readers[step.get_task_family(), key] = parameter.parse, expected
    for (section, key), (read, expected) in readers.items():
        if not config.has_option(section, key):
            continue
        try:
            value = config.get(section, key)
            read(value)
        except (ValueError, TypeError, KeyError, configparser.InterpolationError):
            value = ascii(config.get(section, key, raw=True))
            path, written = _find_key(section, key)
            name = f"{path}: {written} in [{section}]"
            raise HearevalError(name, got=value, expected=expected, remedy=REMEDY) from None


def _find_key(section: str, key: str) -> tuple[Path, str]:
    """Return the configuration file that decides the value of a key, and the key as it is written there."""
    # Luigi takes dashes for underscores where no file has the key with underscores.
    return next(
        (path, written)
        for written in (key, key.replace("_", "-"))
        for path in reversed([PACKAGED, *_list_files()])
        if _read(path).has_option(section, written)
    )
