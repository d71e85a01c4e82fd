"""Digests of code: equal wherever the code is equal, whoever formats it and whichever Python reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heareval.workflow import code_digest
from heareval.workflow.code_digest import digest_code

ROOT = Path(__file__).parents[2]
CORPORA = ROOT / "heareval" / "tasks" / "corpora"
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
# Loads the module from its file, without heareval and its dependencies, and digests the sources on stdin.
SCRIPT = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("code_digest", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps([module.digest_code(source) for source in json.load(sys.stdin)]))
"""
SOURCE = '''
"""Read labels."""
import re

LABELS = ("a", "b")


def read(path, *, limit=None):
    """Yield rows."""
    for number, line in enumerate(open(path)):
        if limit is not None and number >= limit:
            return
        yield f"{number:03d}-{line!r:>{len(LABELS)}}", re.sub(r"\\d+", "", line)
'''
# The same code as another formatter and another author would write it.
REFORMATTED = """
import re
# The labels there are.
LABELS = (
    'a',
    'b',
)
def read(
    path,
    *,
    limit=None,
):

    for number, line in enumerate((open(path))):
        if (limit is not None
                and number >= limit):  # enough
            return
        yield (
            f'{number:03d}-'
            f'{line!r:>{len(LABELS)}}'
        ), re.sub(
            r'\\d+', '', line)
"""
# Code in which Python's own ways to write code down differ between versions.
DELICATE = (
    'f"{x!r:>{w}.{p}}"',
    'f"{x:{{}}}"',
    'f"a{{b}}c{x = !s:^3}" "d" f"{y}"',
    "with open(a) as b, open(c) as d: pass",
    "async def f(): 'docstring'",
    "match x:\n    case {'a': [1, *_]}: pass",
    "1j; -1; 1_000; 0x10; b'a\\xff'; '\\u0378'; 1e400; None; ...",
    "class A:\n    'docstring'\n    x: int = 1",
    "type_ = lambda *a, k=1, **b: (yield)",
)


def interpreters() -> list[Path]:
    """The supported Pythons of this machine: the running one and those that pyenv has installed."""
    installed = Path.home().glob(".pyenv/versions/*/bin/python")
    supported = [p for p in sorted(installed) if p.parts[-3].rpartition(".")[0] in SUPPORTED]
    return [Path(sys.executable), *supported]


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: path.parts[-3])
def test_every_python_computes_the_same_digest(python: Path) -> None:
    sources = [path.read_text() for path in sorted(CORPORA.glob("*.py"))]
    sources += [SOURCE, REFORMATTED, *DELICATE]
    done = subprocess.run(
        [str(python), "-I", "-c", SCRIPT, code_digest.__file__],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [digest_code(source) for source in sources]


def test_digests_do_not_change_with_a_release() -> None:
    """Prepared tasks are found by these digests: another value makes every user prepare every task again."""
    assert digest_code(SOURCE) == "4afc7acaa66912db671f1a5b09f3a42bbe85ec2012fc15003d76a8dde882b450"
    assert digest_code("x = 1") == "f3ae4c4d830f6911586670f8196895b91743d7bb9b6b21e05df66a68becbe356"


def test_layout_comments_and_docstrings_do_not_count() -> None:
    assert digest_code(REFORMATTED) == digest_code(SOURCE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('("a", "b")', '("a", "c")'),
        ('("a", "b")', '["a", "b"]'),
        ('("a", "b")', '("a", b"b")'),
        (">= limit", "> limit"),
        ("number:03d", "number:04d"),
        ("!r", "!s"),
        ("limit=None", "limit=0"),
        ("limit=None", "limit=False"),
        ("return", "break"),
        ("*, ", ""),
        ("import re", "import re as r"),
        ("def read", "def read_rows"),
    ],
)
def test_every_change_of_the_code_counts(old: str, new: str) -> None:
    assert old in SOURCE
    assert digest_code(SOURCE.replace(old, new)) != digest_code(SOURCE)


def test_the_text_of_a_string_that_is_no_docstring_counts() -> None:
    assert digest_code("x = 1\n'text'") != digest_code("x = 1\n'other'")
    assert digest_code("f('text')") != digest_code("f('other')")


def test_all_corpus_modules_differ() -> None:
    digests = {digest_code(path.read_text()) for path in CORPORA.glob("[a-z]*.py")}
    assert len(digests) == len(list(CORPORA.glob("[a-z]*.py"))) > 15
