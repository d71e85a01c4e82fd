"""The habits of this house that a linter does not know."""

from __future__ import annotations

import ast
import re
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


@pytest.mark.parametrize("path", ALL_FILES, ids=name_of)
def test_files_are_finished_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    if path != Path(__file__):
        # A submission may raise NotImplementedError, which is handled; heareval itself may not.
        unfinished = r"\b(TODO|FIXME|XXX|NotImplemented)\b"
        unfinished += r"|raise NotImplementedError" if path in PACKAGE_FILES else ""
        assert not re.search(unfinished, text)
    assert ast.get_docstring(ast.parse(text)) or path.name == "__init__.py"


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=name_of)
def test_public_things_say_what_they_are(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list):
                # What the function does is said where it does it.
                continue
            assert ast.get_docstring(node), f"{name_of(path)}: {node.name} has no docstring"


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=name_of)
def test_no_global_seeding_and_no_swallowed_options(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(np|numpy)\.random\.seed|(?<!\.)\brandom\.seed\(", text)
    assert not re.search(r"except( Exception| BaseException)?:\s*\n\s*pass\b", text)


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


@pytest.mark.parametrize("path", PACKAGE_FILES, ids=name_of)
def test_pages_that_the_code_names_are_there(path: Path) -> None:
    for name, anchor in re.findall(r"\b(docs/[\w/]+\.md)(?:#([\w-]+))?", path.read_text()):
        assert (ROOT / name).exists(), f"{name_of(path)} names {name}"
        assert not anchor or anchor in find_anchors(ROOT / name), f"{name_of(path)} names {name}#{anchor}"
