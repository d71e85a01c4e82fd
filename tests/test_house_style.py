"""The habits of this house that a linter does not know."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE_FILES = sorted((ROOT / "heareval").rglob("*.py"))
ALL_FILES = [*PACKAGE_FILES, *sorted((ROOT / "tests").rglob("*.py"))]
# What runs in a submission's environment.
OLD_PYTHONS = [
    *sorted((ROOT / "heareval" / "embeddings" / "inside").rglob("*.py")),
    *sorted((ROOT / "heareval" / "embeddings" / "adapters").rglob("*.py")),
    *(ROOT / "heareval" / "__init__.py", ROOT / "heareval" / "embeddings" / "__init__.py"),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# Each rule is one test, which names all files that break it: hundreds of tests take seconds to be collected
# and reported.
def test_files_are_finished() -> None:
    unfinished = re.compile(r"\b(TODO|FIXME|XXX|NotImplemented)\b")
    # A submission may raise NotImplementedError, which is handled; heareval itself may not.
    unmade = re.compile(r"raise NotImplementedError")
    faults = [name_of(path) for path in ALL_FILES if path != Path(__file__) and unfinished.search(read(path))]
    assert faults == []
    assert [name_of(path) for path in PACKAGE_FILES if unmade.search(read(path))] == []


def test_files_and_public_things_say_what_they_are() -> None:
    faults = []
    for path in ALL_FILES:
        module = ast.parse(read(path))
        if not ast.get_docstring(module) and path.name != "__init__.py":
            faults.append(name_of(path))
        if path in PACKAGE_FILES:
            faults += [f"{name_of(path)}: {name}" for name in find_without_docstring(module)]
    assert faults == []


def find_without_docstring(module: ast.Module) -> Iterator[str]:
    """Yield the public functions and classes of a module that have no docstring."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                # What the function does is said where it does it.
                continue
            if not ast.get_docstring(node):
                yield node.name


def test_no_global_seeding_and_no_swallowed_options() -> None:
    seeding = re.compile(r"\b(np|numpy)\.random\.seed|(?<!\.)\brandom\.seed\(")
    swallowing = re.compile(r"except( Exception| BaseException)?:\s*\n\s*pass\b")
    texts = {name_of(path): read(path) for path in PACKAGE_FILES}
    assert [name for name, text in texts.items() if seeding.search(text) or swallowing.search(text)] == []


@pytest.mark.parametrize("path", OLD_PYTHONS, ids=name_of)
def test_submissions_may_have_an_old_python(path: Path) -> None:
    """Python 3.8 reads it; tests/embeddings/test_pythons.py runs it there."""
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("suffix", ["py", "md", "toml", "cfg", "txt"])
def test_nothing_of_one_machine(suffix: str) -> None:
    """No path and no package index of the machine this was written on."""
    ours = re.compile(r"/(work|root|farm)/|file:///|pypi\.org|simple/")
    for path in ROOT.rglob(f"*.{suffix}"):
        inside = path.relative_to(ROOT).parts
        if (
            not any(part.startswith(".") for part in inside)
            and "golden" not in inside
            and path != Path(__file__)
        ):
            if inside[0] in ("demo", "build") or inside[0].endswith(".egg-info"):
                continue
            assert not ours.search(path.read_text(encoding="utf-8")), path


@functools.cache
def find_anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md")]), ids=name_of
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        if anchor and target.suffix == ".md":
            assert anchor in find_anchors(target), f"{name_of(page)} links to {link}"


def test_pages_that_the_code_names_are_there() -> None:
    faults = []
    for path in PACKAGE_FILES:
        for name, anchor in re.findall(r"\b(docs/[\w/]+\.md)(?:#([\w-]+))?", read(path)):
            page = ROOT / name
            if not page.exists() or (anchor and anchor not in find_anchors(page)):
                faults.append(f"{name_of(path)} names {name}#{anchor}")
    assert faults == []
