"""How Sphinx makes the site: `make docs`. Pages are Markdown as forges show it, from the whole repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

import heareval

project = "heareval"
version = release = heareval.__version__
project_copyright = "the authors of heareval; Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Links lead from README.md to docs/ and back, as on a forge.
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md", "docs/**"]
# Forges give no anchors to headings below these.
myst_heading_anchors = 4
# Indented blocks hold commands, Python and what they print.
highlight_language = "text"

html_theme = "furo"
html_title = "heareval"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
# Names of the API in docstrings are in single backticks.
default_role = "code"
smartquotes = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

CONTENTS = {
    "Tutorials": (
        *("docs/tutorials/score_my_model", "docs/tutorials/my_own_task", "docs/tutorials/what_a_score_means"),
        *("docs/tutorials/on_a_cluster", "docs/python"),
    ),
    "Guides": (
        *("docs/evaluating", "docs/submissions", "docs/results", "docs/own_tasks", "docs/tasks"),
        *("docs/cluster", "docs/containers", "docs/leaderboard", "docs/coming_from"),
    ),
    "Reference": ("docs/commands", "docs/options", "docs/python_api", "docs/protocol"),
    "Project": ("docs/architecture", "CONTRIBUTING", "benchmarks/README", "CHANGELOG"),
}


def add_contents(app: Sphinx, page: str, source: list[str]) -> None:
    """Give the front page the table of contents, which a forge would show as code."""
    if page != root_doc:
        return
    for title, pages in CONTENTS.items():
        listed = "\n".join(pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{listed}\n```\n"


class NotebookParser(MystParser):
    """Reads a notebook as it was saved. Nothing is run, so neither Jupyter nor pandoc is needed."""

    supported = ("ipynb",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the cells and their output as Markdown."""
        cells = json.loads(inputstring)["cells"]
        super().parse("\n\n".join(map(describe_cell, cells)), document)


def describe_cell(cell: dict[str, Any]) -> str:
    """Return a cell of a notebook as Markdown."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    blocks = [f"```python\n{source}\n```"]
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "text/html" in data:
            blocks.append("```{raw} html\n" + "".join(data["text/html"]) + "\n```")
        else:
            blocks.append("```text\n" + "".join(data["text/plain"]) + "\n```")
    return "\n\n".join(blocks)


def write_index(app: Sphinx, error: Exception | None) -> None:
    """Give the front page the name that web servers look for."""
    if not error and app.builder.format == "html":
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    """Connect all this to Sphinx."""
    app.add_source_suffix(".ipynb", "ipynb")
    app.add_source_parser(NotebookParser)
    app.connect("source-read", add_contents)
    app.connect("build-finished", write_index)
