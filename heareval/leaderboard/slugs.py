"""Names of pages: what names of models become in URLs and file names."""

from __future__ import annotations

import hashlib
import re

MAX_CHARS = 60
# So many that nobody finds another name with the same digest.
DIGEST_CHARS = 16


def make_slug(*names: str) -> str:
    """Return a name for a page: lower-case ASCII letters, digits and hyphens.

    Equal names have equal slugs. Where much of a name is lost, a digest keeps slugs of different names apart.

    >>> make_slug("CREPE", "v1.0"), make_slug("../../etc")[:4]
    ('crepe-v1-0', 'etc-')
    """
    text = " ".join(filter(None, names))
    slug = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    # Spaces, dots and the like become hyphens, which loses little.
    lost = re.sub(r"[A-Za-z0-9 ._/()+-]", "", text)
    if lost or not slug or len(slug) > MAX_CHARS or ".." in text:
        return add_digest(slug, *names)
    return slug


def add_digest(slug: str, *names: str) -> str:
    """Return a slug that a digest of names keeps apart from others.

    >>> add_digest("crepe", "CREPE", "1")
    'crepe-f9255b4732c55daf'
    """
    # The separator can't be in both names in a way that makes two pairs equal.
    digest = hashlib.sha256(repr(names).encode()).hexdigest()[:DIGEST_CHARS]
    return f"{slug[: MAX_CHARS - DIGEST_CHARS - 1].strip('-') or 'model'}-{digest}"
