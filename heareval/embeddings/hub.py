"""Which commit a revision on the hub of Hugging Face is, asked of the hub or found in its cache."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from heareval.errors import HearevalError

COMMIT = re.compile("[0-9a-f]{40}")
DEFAULT_ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 10.0
MOST_BYTES = 1 << 24


def find_commit(name: str, revision: str) -> str:
    """Return the full commit of a revision of a model; a full commit needs no look-up.

    The variables of huggingface_hub hold: HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN, HF_HOME and HF_HUB_CACHE. If
    the hub can't be reached, the commit that was last downloaded counts.

    Args:
        name: such as `facebook/wav2vec2-base-960h`.
        revision: branch, tag or commit.

    Raises:
        HearevalError: the hub has no such model or revision, or can't be reached and the cache does not know.

    Example: `find_commit("facebook/wav2vec2-base-960h", "main")`
    """
    if COMMIT.fullmatch(revision):
        return revision
    cached = _read_cached_commit(name, revision)
    # The second one is that of earlier versions of transformers, which huggingface_hub obeys too.
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    if offline.upper() in ("1", "ON", "YES", "TRUE"):
        reason = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"
    else:
        try:
            return _ask_hub(name, revision)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = f"the hub can't be reached ({_describe(error)})"
    if cached:
        return cached
    raise HearevalError(
        f"hf:{name}@{revision}",
        got=f"{reason}, and no such revision in {_find_cache()}",
        expected="a model of the hub",
        remedy="Download it where there is a network, or give a folder: hf:./FOLDER.",
    )


def _describe(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{getattr(reason, 'strerror', None) or reason}"


def _ask_hub(name: str, revision: str) -> str:
    """Return the commit that the hub names.

    Raises:
        HearevalError: the hub has no such model or revision, or does not show it.
        OSError, ValueError: there is no answer, or none that can be read.
    """
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or DEFAULT_ENDPOINT
    url = f"{endpoint}/api/models/{name}/revision/{urllib.parse.quote(revision, safe='')}"
    headers = {"Authorization": f"Bearer {token}"} if (token := _read_token()) else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            found = json.loads(answer.read(MOST_BYTES)).get("sha", "")
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403, 404):
            raise
        got = error.headers.get("X-Error-Message") or f"HTTP {error.code} from {endpoint}"
        expected = "a model and a revision that the hub has, and that your token may read"
        raise HearevalError(f"hf:{name}@{revision}", got=got, expected=expected) from None
    if not COMMIT.fullmatch(found):
        raise ValueError(f"no commit in the answer of {url}")
    return str(found)


def _read_token() -> str:
    """Return the user's token; "" without one."""
    if token := os.environ.get("HF_TOKEN", "").strip():
        return token
    place = _find_home() / "token"
    return place.read_text(encoding="utf-8").strip() if place.is_file() else ""


def _find_home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser()


def _find_cache() -> Path:
    return Path(os.environ.get("HF_HUB_CACHE") or _find_home() / "hub").expanduser()


def _read_cached_commit(name: str, revision: str) -> str:
    """Return the commit of a revision that was downloaded last; "" if none was."""
    place = _find_cache() / f"models--{name.replace('/', '--')}" / "refs" / revision
    commit = place.read_text(encoding="utf-8").strip() if place.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else ""
