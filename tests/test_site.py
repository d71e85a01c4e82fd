"""`make docs` makes a site of README.md and docs/ that needs no network, and refuses broken links."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="`make docs` installs it, with Python 3.11 or later")

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "docs")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of `make docs` on other folders."""
    (line,) = re.findall(r"-m sphinx (.*) docs \. build/site\n", (ROOT / "Makefile").read_text())
    words = [sys.executable, "-m", "sphinx", *line.split(), str(source / "docs"), str(source), str(out)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def copy_pages(folder: Path) -> None:
    for name in PAGES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)
        else:
            shutil.copyfile(ROOT / name, folder / name)


@pytest.mark.slow
def test_every_page_is_in_the_site_which_needs_no_network(tmp_path: Path) -> None:
    done = build(ROOT, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    sources = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/python.ipynb"]
    sources += [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")]
    assert {page.rpartition(".")[0] for page in sources} <= {
        str(page.relative_to(tmp_path / "site").with_suffix("")) for page in tmp_path.rglob("*.html")
    }
    site = tmp_path / "site"
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()
    assert '<a class="reference internal" href="docs/tutorials/score_my_model.html">' in (
        site / "index.html"
    ).read_text(encoding="utf-8")
    # A table that the notebook shows, and what the docstring of a function says.
    assert "Bands-unfingerprinted</td>" in (site / "docs" / "python.html").read_text(encoding="utf-8")
    assert "Score a model: prepare the tasks" in (site / "docs" / "python_api.html").read_text(
        encoding="utf-8"
    )
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)", page.read_text(encoding="utf-8"))
        loaded += re.findall(r"<link[^>]* href=\"([^\"]+)", page.read_text(encoding="utf-8"))
        assert not [each for each in loaded if "//" in each], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
@pytest.mark.parametrize("link", ["nosuch.md", "protocol.md#nosuch", "../README.md#nosuch", "#nosuch"])
def test_a_broken_link_is_refused(tmp_path: Path, link: str) -> None:
    copy_pages(tmp_path)
    with (tmp_path / "docs" / "tasks.md").open("a") as page:
        page.write(f"\n[Broken]({link})\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0
    assert "tasks.md" in done.stderr
    assert link.rpartition("#")[2].removesuffix(".md") in done.stderr
