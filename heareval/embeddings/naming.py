"""Names of submissions, which are also names of folders."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from heareval.embeddings.published import PREFIXES, name_published
from heareval.embeddings.submission import Model

# File systems allow 255 bytes; scratch and lock files add to the name of a folder.
NAME_BYTES = 150


def name_submission(model: Model, weights_sha256: str) -> str:
    """Return a name made of the module and, where there are any, the weights and the options.

    >>> name_submission(Model("my_model", "weights/best.pt", '{"size": 3}'), "0123456789")
    'my_model+best-012345+804e33'
    """
    of_object = f"+{model.api_object}" if model.api_object else ""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", Path(model.weights_path).stem)[:60]
    of_weights = f"+{stem}-{weights_sha256[:6]}" if model.weights_path else ""
    if model.module in PREFIXES:
        return shorten_name(name_published(model.module, of_weights[1:], model.options))
    digest = hashlib.sha256(model.options.encode()).hexdigest()
    of_options = f"+{digest[:6]}" if model.options != "{}" else ""
    return shorten_name(f"{name_module(model)}{of_object}{of_weights}{of_options}")


def name_module(model: Model) -> str:
    """Return the name of a module; that of a file includes its folder, so that two files never share a name.

    A file in the working folder is named as the module that it is; elsewhere a digest of its path is added.

    >>> name_module(Model("my_model", file=str(Path("models/my_model.py").absolute())))
    'models.my_model'
    >>> name_module(Model("my_model", file="/elsewhere/my_model.py"))
    'my_model+4b9446'
    """
    if not model.file:
        return model.module
    file = Path(model.file).with_suffix("")
    parts = file.relative_to(Path.cwd()).parts if file.is_relative_to(Path.cwd()) else ()
    if parts and all(part.isidentifier() for part in parts):
        return ".".join(parts)
    digest = hashlib.sha256(model.file.encode()).hexdigest()[:6]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', file.name)}+{digest}"


def shorten_name(name: str) -> str:
    """Return a name that fits into NAME_BYTES: the end of a longer one is replaced by a digest.

    >>> shorten_name("my_model"), len(shorten_name("x" * 1000))
    ('my_model', 150)
    """
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return f"{encoded[: NAME_BYTES - 13].decode(errors='ignore')}-{digest}"
