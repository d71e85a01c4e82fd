"""The static site of a board: HTML by Jinja2, one style sheet, one script, nothing from elsewhere.

Texts of cards are hostile. Jinja2 escapes all of them, and `_clean` removes what would control the reader's
browser or terminal in spite of that.
"""

from __future__ import annotations

import html
import importlib.resources
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

import heareval
from heareval import files
from heareval.errors import escape_controls
from heareval.leaderboard import pages
from heareval.leaderboard.board import Board
from heareval.leaderboard.plots import Strip

if TYPE_CHECKING:
    import jinja2

# By this file a folder is known to be a site, which may be replaced.
MARK = "heareval-site.json"
STATIC = ("board.css", "board.js")
SHORT_DOMAINS = {"environmental sound": "sound", "": "about"}


@dataclass(frozen=True)
class Attachment:
    """A file that pages link to.

    Args:
        path: where it lies in the site, such as `board.csv`.
        title: text of the link.
        content: the bytes.
        description: what a figure shows, for readers who cannot see it.
    """

    path: str
    title: str
    content: bytes
    description: str = ""


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a model's results.

    Args:
        path: where it lies in the site.
        source: the file that is copied there.
        description: what it shows, for readers who cannot see it.
        width_px: how wide it is shown, in pixels.
        height_px: how high.
    """

    path: str
    source: Path
    description: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class Report:
    """The figures of one result of a model.

    Args:
        anchor: id of its part of the model's page.
        protocol: recorded name of the protocol.
        column: key of the column that shows the score.
        task: name of the task's folder.
    """

    anchor: str
    protocol: str
    column: str
    task: str
    figures: tuple[ReportFigure, ...]


@dataclass(frozen=True)
class Attachments:
    """What the pages of a site offer besides the board.

    Args:
        downloads: files of the whole board.
        figures: images, shown on the first page.
        by_model: files of a model, by the key of its row.
        reports: figures of a model's results, by the key of its row.
    """

    downloads: Sequence[Attachment] = ()
    figures: Sequence[Attachment] = ()
    by_model: Mapping[str, Sequence[Attachment]] = field(default_factory=dict)
    reports: Mapping[str, Sequence[Report]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Attachment]:
        """Yield all but the reports."""
        yield from self.downloads
        yield from self.figures
        for several in self.by_model.values():
            yield from several

    def list_report_figures(self) -> Iterator[ReportFigure]:
        """Yield the figures of all reports."""
        for several in self.reports.values():
            for report in several:
                yield from report.figures


NOTHING_ATTACHED = Attachments()


def write_site(board: Board, folder: Path, attachments: Attachments = NOTHING_ATTACHED) -> None:
    """Write the site of a board, whole or not at all; the same board gives the same bytes.

    An existing folder is replaced only if it is a site.

    Args:
        board: what the pages show.
        folder: the site: `index.html`, `models/`, `tasks/`, `static/`.
        attachments: files that the pages link to.

    Raises:
        HearevalError: the key of a row or column would be an unusual file name.
        FileExistsError: the folder holds something else.

    Example: `write_site(Board("HEAR", ()), Path("site"))`
    """
    with files.building_folder(folder, replace=True, mark=MARK) as scratch:
        for name, content in render_site(board, attachments):
            path = scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def render_site(board: Board, attachments: Attachments = NOTHING_ATTACHED) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every file of a site."""
    environment = _make_environment(board)
    task_pages = list(pages.list_task_pages(board))
    tables = [pages.show_table(number, table) for number, table in enumerate(board.tables, 1)]
    index = environment.get_template("index.html").render(
        root="",
        tables=tables,
        task_pages=task_pages,
        has_several=any(each.has_several for each in tables),
        domains=sorted({domain for each in tables for domain in each.domains}),
        downloads=attachments.downloads,
        figures=attachments.figures,
    )
    yield "index.html", index.encode()
    anchors = _find_anchors(attachments)
    model_template, task_template = (environment.get_template(name) for name in ("model.html", "task.html"))
    for page in pages.list_model_pages(board):
        text = model_template.render(
            root="../",
            page=page,
            downloads=attachments.by_model.get(page.row.key, ()),
            reports=attachments.reports.get(page.row.key, ()),
            anchors=anchors.get(page.row.key, {}),
        )
        yield f"models/{page.row.key}.html", text.encode()
    for task in task_pages:
        text = task_template.render(root="../", page=task, anchors=anchors)
        yield f"tasks/{task.column.key}.html", text.encode()
    for name in STATIC:
        yield f"static/{name}", importlib.resources.files(__package__).joinpath("static", name).read_bytes()
    for each in attachments:
        yield each.path, each.content
    for figure in attachments.list_report_figures():
        yield figure.path, figure.source.read_bytes()
    yield MARK, files.dump_json({"heareval": heareval.__version__, "tables": len(board.tables)}).encode()


def _find_anchors(attachments: Attachments) -> dict[str, dict[tuple[str, str], str]]:
    """Return where the figures of a score begin: by the key of the row, then by protocol and column."""
    return {
        # A column of two tasks leads to the first.
        key: {(report.protocol, report.column): report.anchor for report in reversed(reports)}
        for key, reports in attachments.reports.items()
    }


def _make_environment(board: Board) -> jinja2.Environment:
    # Most commands import this module and write no site.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("heareval.leaderboard"),
        autoescape=True,
        finalize=_clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        board=board,
        aggregates=pages.AGGREGATES,
        definitions=pages.DEFINITIONS,
        groups=pages.GROUPS,
        version=heareval.__version__,
        refused=_count_refused(board),
        shorten=pages.shorten,
        format_score=pages.format_score,
        format_number=pages.format_number,
        render_strip=_render_strip,
        render_cells=_render_cells,
        short_domain=lambda domain: SHORT_DOMAINS.get(domain, domain),
    )
    return environment


def _count_refused(board: Board) -> str:
    count = len(board.refused)
    return f"{count} {'card was' if count == 1 else 'cards were'}" if count else ""


# What a site has a hundred thousand of is put together here: a template takes several times as long.


def _render_cells(texts: Iterable[str]) -> Markup:
    return Markup("".join([f"<td>{html.escape(text)}</td>" for text in texts]))


def _render_strip(strip: Strip) -> Markup:
    """Return a strip as SVG.

    The grey line spans the scores of all models, the dashed line is chance. Numbers beside it say the same.
    """
    lines = {
        "others": (strip.others, 8, 8),
        "chance": (None if strip.chance is None else (strip.chance, strip.chance), 1, 15),
        "interval": (strip.interval, 8, 8),
    }
    shapes = [
        f'<line class="{name}" x1="{ends[0]}" x2="{ends[1]}" y1="{top}" y2="{bottom}"/>'
        for name, (ends, top, bottom) in lines.items()
        if ends
    ]
    if strip.score is not None:
        shapes.append(f'<circle class="score" cx="{strip.score}" cy="8" r="3"/>')
    # Only numbers are in it.
    return Markup(
        '<svg class="strip" viewBox="-4 0 168 16" width="168" height="16" aria-hidden="true" '
        f'focusable="false">{"".join(shapes)}</svg>'
    )


def _clean(value: Any) -> Any:
    """Return a value as the pages may hold it: no control characters, and nothing that is no UTF-8."""
    # What is printable holds none of these, and most of a site is.
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return escape_controls(value).encode(errors="backslashreplace").decode()
