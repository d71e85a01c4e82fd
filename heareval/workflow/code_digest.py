"""Digests of Python source that depend on what the code does, not on how it is written down.

Fingerprints of prepared tasks contain the digest of the corpus module that read the labels: the code is an
input like any archive. A digest must therefore be the same on every machine. Two obvious candidates are not:

* `ast.unparse` and `ast.dump` write the same code differently in Python 3.10, 3.11, 3.12 and 3.13;
* tokens differ as well (an f-string is one token up to 3.11 and several from 3.12 on), and they change when a
  formatter adds parentheses or a trailing comma to wrap a line.

So this module writes the syntax tree down itself, leaving out what layout or the Python version decides.
Standard library only.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from typing import Any

# Fields that say nothing about behaviour: load or store follows from the place in the tree, `kind` is the u
# of u"text", and type comments are comments.
IGNORED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@functools.cache
def digest_code(source: str) -> str:
    """Return the SHA-256 of Python source, as 64 hex digits, regardless of how it is written down.

    Comments, docstrings, blank lines, line wrapping, redundant parentheses and the style of quotes do not
    count; every name, value and operation does. The digest is the same under Python 3.10 to 3.13.

    Raises:
        SyntaxError: the source is not valid Python.

    >>> digest_code("x = (1)  # one") == digest_code("x = 1")
    True
    >>> digest_code("x = 1") == digest_code("x = 2")
    False
    """
    tree = _describe(ast.parse(source))
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@functools.cache
def legacy_digest_code(source: str) -> str:
    """Return the digest that heareval 0.1.0 computed; it depends on the Python version.

    It only serves to recognise what that version made under the running Python, see
    `TaskStep.clips_fingerprint`. What another Python made may have a different digest and is rebuilt.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _describe(value: Any) -> Any:
    """Return a node, or the value of a node's field, as JSON values."""
    if isinstance(value, ast.AST):
        fields = {name: _describe(field) for name, field in _fields_of(value).items()}
        # A newer Python gives nodes further optional fields, which are empty in code of today.
        return [type(value).__name__, {name: field for name, field in fields.items() if field is not None}]
    if isinstance(value, list):
        return [_describe(each) for each in value] or None
    if value is None:
        return None
    # repr() of text depends on the Unicode version of the interpreter; ascii() does not.
    return f"{type(value).__name__} {value!a}"


def _fields_of(node: ast.AST) -> dict[str, Any]:
    """Return the fields of a node that count, by name."""
    fields = {name: value for name, value in ast.iter_fields(node) if name not in IGNORED_FIELDS}
    if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 puts empty text between the parts of an f-string where other versions put nothing.
        fields["values"] = [part for part in node.values if not _is_empty_text(part)]
    return fields


def _is_empty_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""
