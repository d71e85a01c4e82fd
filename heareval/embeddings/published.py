"""Published models that users name in one word, such as `hf:facebook/wav2vec2-base-960h#layer=7`."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heareval.errors import HearevalError

# The package of adapters, which runs in the submission's environment.
ADAPTERS = f"{__package__}.adapters"


@dataclass(frozen=True)
class Library:
    """A library of published models.

    Args:
        adapter: module of ADAPTERS with the HEAR API of its models.
        package: what must be installed beside heareval; otherwise the submission gets an environment of its
            own. "" = nothing.
        requirements: what pip then installs.
        takes: what follows the prefix, in words.
        has_layers: whether `#layer=` may follow.
    """

    adapter: str
    package: str
    requirements: tuple[str, ...]
    takes: str
    has_layers: bool = False

    @property
    def module(self) -> str:
        """The full name of its adapter."""
        return f"{ADAPTERS}.{self.adapter}"


# Prefix of a word -> the library.
LIBRARIES = {
    "hf": Library(
        "huggingface", "transformers", ("torch", "transformers"), "NAME[@REVISION] or FOLDER", has_layers=True
    ),
    "torchaudio": Library(
        "torchaudio_bundles", "torchaudio", ("torch", "torchaudio"), "BUNDLE", has_layers=True
    ),
    "xares": Library("xares_encoders", "", (), "FILE.py:CLASS"),
    "s3prl": Library("s3prl_upstreams", "s3prl", ("torch", "torchaudio", "s3prl"), "NAME"),
}
PREFIXES = {library.module: prefix for prefix, library in LIBRARIES.items()}
# A name on the hub of Hugging Face.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
REVISION = re.compile(r"[\w./+-]+", re.ASCII)


def is_published(module: str) -> bool:
    """Return whether a word names a published model.

    >>> is_published("hf:openai/whisper-tiny"), is_published("my_model:Large")
    (True, False)
    """
    return module.partition(":")[0] in LIBRARIES and ":" in module


def read_word(word: str, folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a submission file for a published model.

    Args:
        word: what the user calls it.
        folder: what relative paths are relative to.
        values: what is said of the submission beside its module, by the keys of a submission file.

    Raises:
        HearevalError: the word or a value is wrong.
    """
    prefix, _, rest = word.partition(":")
    library = LIBRARIES[prefix]
    for key in ("weights", "source"):
        if values.get(key):
            expected = f"no {'--model' if key == 'weights' else '--source'}: {prefix}: says what is loaded"
            raise HearevalError(f"submission {word}", got=f"{key} {values[key]}", expected=expected)
    place, _, fragment = rest.partition("#")
    options = {**values.get("options", {}), **_read_fragment(word, fragment, library)}
    found: dict[str, Any] = {}
    if "layer" in options:
        # A number in a file is the same layer as in a word.
        options["layer"] = str(options["layer"])
    if prefix == "hf":
        found, named = _read_hub_word(word, place, folder)
        options |= named
        if values.get("trust_remote_code"):
            options["trust_remote_code"] = True
    elif prefix == "xares":
        options |= _read_class(word, place, folder)
    elif not re.fullmatch(r"\w[\w.-]*", place):
        raise _word_error(word, library)
    else:
        options["name"] = place
    return {
        **values,
        **found,
        "module": library.module,
        "options": options,
        "requirements": _complete_requirements(library, values),
    }


def _word_error(word: str, library: Library) -> HearevalError:
    prefix = word.partition(":")[0]
    layers = "[#layer=NUMBER or #layer=mean]" if library.has_layers else ""
    return HearevalError(f"submission {word}", got=repr(word), expected=f"{prefix}:{library.takes}{layers}")


def _read_fragment(word: str, fragment: str, library: Library) -> dict[str, str]:
    if not fragment and "#" not in word:
        return {}
    found = re.fullmatch(r"layer=([0-9]{1,4}|mean)", fragment)
    if not found or not library.has_layers:
        raise _word_error(word, library)
    return {"layer": found.group(1)}


def _read_hub_word(word: str, place: str, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the weights and the options for a folder, or for a name on the hub."""
    path = folder / Path(place).expanduser() if place else None
    if path and (place.startswith((".", "/", "~")) or path.is_dir()):
        if not path.is_dir():
            got = "no such folder" if not path.exists() else "a file"
            if "@" in place and path.with_name(path.name.partition("@")[0]).is_dir():
                raise HearevalError(
                    f"submission {word}", got="a folder with a revision", expected="a folder alone"
                )
            raise HearevalError(f"submission {word}", got=got, expected="a folder, or a name on the hub")
        return {"weights": os.path.abspath(path)}, {}  # noqa: PTH100 - links are kept
    name, at, revision = place.partition("@")
    if not HUB_NAME.fullmatch(name) or (at and not REVISION.fullmatch(revision)):
        raise _word_error(word, LIBRARIES["hf"])
    return {}, {"name": name, "revision": revision or "main"}


def _read_class(word: str, place: str, folder: Path) -> dict[str, str]:
    file, _, name = place.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise _word_error(word, LIBRARIES["xares"])
    path = os.path.abspath(folder / Path(file).expanduser())  # noqa: PTH100 - links are kept
    if not Path(path).is_file():
        raise HearevalError(f"submission {word}", got=f"no file {path}", expected="a Python file")
    return {"file": path, "encoder": name}


def _complete_requirements(library: Library, values: Mapping[str, Any]) -> list[str]:
    """Return what pip installs into an environment of the submission; [] if it needs none.

    A requirement of the user replaces ours for the same distribution.
    """
    given: Sequence[str] = values.get("requirements", ())
    is_here = not library.package or importlib.util.find_spec(library.package) is not None
    if is_here and not given and not values.get("python"):
        return []
    named = {re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower() for text in given}
    return [*(text for text in library.requirements if text not in named), *given]


def pin_options(module: str, options: str) -> str:
    """Return the options of a submission with the commit in place of a revision on the hub, which may move.

    Args:
        module: module of the submission.
        options: further arguments of load_model, as JSON.

    Raises:
        HearevalError: there is no such revision, or it is not known without the network.
    """
    from heareval.embeddings.hub import find_commit

    values = json.loads(options)
    if module != LIBRARIES["hf"].module or "name" not in values:
        return options
    values["revision"] = find_commit(values["name"], values.get("revision", "main"))
    return json.dumps(values, sort_keys=True)


def identify_options(module: str, options: str) -> str:
    """Return the options of a submission as its fingerprint holds them: a file by its name, not its place.

    The contents of such a file are among the sources of the submission.
    """
    if module != LIBRARIES["xares"].module:
        return options
    values = json.loads(options)
    return json.dumps({**values, "file": Path(values.get("file", "")).name}, sort_keys=True)


def name_published(module: str, weights: str, options: str) -> str:
    """Return the name of a published model as a submission.

    Args:
        module: module of its adapter.
        weights: name of its folder, with a digest; "" without one.
        options: further arguments of load_model, as JSON; a digest stands for what the word does not tell.

    >>> name_published(LIBRARIES["torchaudio"].module, "", '{"layer": "7", "name": "HUBERT_BASE"}')
    'torchaudio-HUBERT_BASE+layer7'
    """
    values = json.loads(options)
    file, layer = values.pop("file", ""), values.pop("layer", "")
    parts = [PREFIXES[module], weights, Path(file).stem if file else ""]
    parts += [values.pop("name", ""), values.pop("encoder", ""), values.pop("revision", "")[:6]]
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(filter(None, parts)))
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return name + (f"+layer{layer}" if layer else "") + (f"+{digest[:6]}" if values else "")


def find_adapter_version(module: str) -> str:
    """Return the version of a module of ADAPTERS, without importing it; "" if there is none."""
    path = Path(__file__).with_name("adapters") / f"{module.rpartition('.')[2]}.py"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    found = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    return found.group(1) if found else ""
