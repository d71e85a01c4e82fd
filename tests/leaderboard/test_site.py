"""The static site: valid HTML, links that lead somewhere, hostile texts, the same bytes again."""

from __future__ import annotations

import dataclasses
import functools
import html.parser
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest

from heareval.errors import HearevalError
from heareval.leaderboard.board import Board, Cell, MetricValue, Origin, ProtocolTable
from heareval.leaderboard.build import build_board
from heareval.leaderboard.pages import AGGREGATES, show_table
from heareval.leaderboard.published import read_published
from heareval.leaderboard.site import (
    MARK,
    Attachment,
    Attachments,
    Report,
    ReportFigure,
    render_site,
    write_site,
)
from tests.leaderboard.boards import HOSTILE, make_board, make_columns, make_rows, make_table, stand
from tests.leaderboard.cards import make_card, make_result

VOID = {"meta", "link", "br", "img", "input", "hr", "line", "rect", "circle"}
FIGURE = ReportFigure(
    "models/figures/1/labels.svg", Path(__file__).with_name("figure.svg"), 'Recall of "each" label', 640, 400
)
ATTACHED = Attachments(
    downloads=(Attachment("board.csv", "board.csv", b"a,b\n"), Attachment("board.json", "board.json", b"{}")),
    figures=(Attachment("figures/heat.svg", "Heat map", b"<svg/>", "Ranks of models on tasks"),),
    by_model={"recomputed-0": (Attachment("models/recomputed-0.yaml", "eval results", b"[]\n"),)},
    reports={
        "recomputed-0": (
            Report("figures-1", "hear2021", "task0-v1.0.0-full", "task0-v1.0.0-full", (FIGURE,)),
            Report("figures-2", "hear2021", "task1-v1.0.0-full", "fold00-v1.0.0-full", ()),
            Report("figures-3", "hear2021", "task1-v1.0.0-full", "fold01-v1.0.0-full", ()),
        )
    },
)
BOARDS = {
    "usual": make_board(),
    "hostile": make_board(len(HOSTILE), 6, names=HOSTILE),
    "empty": Board("HEAR leaderboard", ()),
    "no tasks": Board("HEAR", (ProtocolTable("hear2021", (), (), {}, {}),)),
    "one origin": make_board(3, 4, published=0),
}


class Page(html.parser.HTMLParser):
    """The elements of a page; every tag is closed in its place, cells at the latest by what follows them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes), f"{tag} has an attribute twice"
        if tag == "td":
            self.close_cell()
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            self.close_cell()
        assert self.open.pop() == tag

    def close_cell(self) -> None:
        if self.open[-1] == "td":
            self.open.pop()

    def find(self, name: str) -> Iterator[str]:
        """All values of an attribute."""
        yield from (each[name] or "" for _, each in self.elements if name in each)


@functools.cache
def site(kind: str) -> Mapping[str, bytes]:
    attached = ATTACHED if kind in ("usual", "hostile") else Attachments()
    return dict(render_site(BOARDS[kind], attached))


def read_pages(kind: str) -> dict[str, str]:
    return {name: content.decode() for name, content in site(kind).items() if name.endswith(".html")}


def text_of(element: object) -> str:
    return " ".join("".join(element.itertext()).split())  # type: ignore[attr-defined]


def facts_of(page: str) -> set[tuple[str, str]]:
    """The terms and descriptions of all lists."""
    document = html5lib.parse(page, namespaceHTMLElements=False)
    terms, texts = map(text_of, document.iter("dt")), map(text_of, document.iter("dd"))
    return set(zip(terms, texts, strict=True))


def table_rows(page: str, caption: str = "") -> list[list[str]]:
    """The cells of the first table whose caption begins with a text."""
    document = html5lib.parse(page, namespaceHTMLElements=False)
    table = next(each for each in document.iter("table") if text_of(each.find("caption")).startswith(caption))
    return [[text_of(cell) for cell in row] for row in table.iter("tr")]


@pytest.mark.parametrize("kind", BOARDS)
def test_html_is_valid(kind: str) -> None:
    for name, text in read_pages(kind).items():
        html5lib.HTMLParser(strict=True).parse(text)
        page = Page(text)
        assert [key for key, count in Counter(page.find("id")).items() if count > 1] == [], name
        ids = set(page.find("id"))
        for reference in [*page.find("aria-labelledby"), *page.find("aria-describedby"), *page.find("for")]:
            assert reference in ids, (name, reference)
        for tag, attributes in page.elements:
            if tag == "th":
                assert attributes["scope"] in ("col", "row", "rowgroup")
            if tag == "img":
                assert attributes["alt"]
        assert page.elements[0] == ("html", {"lang": "en"})
        assert Counter(tag for tag, _ in page.elements)["h1"] == 1


@pytest.mark.parametrize("kind", BOARDS)
def test_internal_links_lead_somewhere(kind: str) -> None:
    for name, text in read_pages(kind).items():
        page = Page(text)
        for link in [*page.find("href"), *page.find("src")]:
            if link.startswith(("http://", "https://", "data:")):
                continue
            path, _, anchor = link.partition("#")
            target = str((Path("/") / name).parent / path) if path else f"/{name}"
            target = str(Path(re.sub(r"/[^/]+/\.\.", "", target)))
            assert target[1:] in site(kind), (name, link)
            assert not anchor or anchor in Page(site(kind)[target[1:]].decode()).find("id")


@pytest.mark.parametrize("kind", BOARDS)
def test_nothing_is_loaded_from_elsewhere_and_nothing_runs_in_the_page(kind: str) -> None:
    for text in read_pages(kind).values():
        page = Page(text)
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert tag not in ("style", "iframe", "object", "embed", "base")
            if tag == "script":
                assert attributes == {"src": "static/board.js", "defer": None}
            for name in ("src", "href"):
                value = attributes.get(name) or ""
                assert not re.match(r"(?i)\s*(javascript|vbscript|data:text)", value)
                if tag != "a":
                    assert "//" not in value
                elif "//" in value:
                    assert attributes["rel"] == "noopener nofollow"
        policy = next(
            each["content"]
            for tag, each in page.elements
            if each.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        assert policy.startswith(
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:"
        )


def test_hostile_texts_are_shown_as_text() -> None:
    rows = {row.key: row for row in BOARDS["hostile"].tables[0].rows}
    pages = read_pages("hostile")
    for number, name in enumerate(HOSTILE):
        page = pages[f"models/recomputed-{number}.html"]
        (heading,) = html5lib.parse(page, namespaceHTMLElements=False).iter("h1")
        assert [child.tag for child in heading] == ["bdi"]
        shown = "".join(heading.itertext())
        assert not re.search("[\x00-\x08\u202a-\u202e\ud800]", page)
        assert rows[f"recomputed-{number}"].name == name
        if name.isprintable() and name.isascii():
            whole = {
                "".join(each.itertext())
                for each in html5lib.parse(page, namespaceHTMLElements=False).iter("bdi")
            }
            assert name in whole
            assert shown == (name if len(name) <= 100 else "x" * 99 + "…")
    assert len(pages["index.html"]) < 40_000


def test_each_group_says_over_how_many_tasks_it_is_ranked() -> None:
    results = [make_result("esc50"), make_result("my_task", "v1")]
    board = build_board({Origin.RECOMPUTED: [make_card(results=results)]}, read_published())
    ours, published = show_table(1, board.tables[0]).groups
    assert (ours.remark, published.remark) == ("ranked over 1 of 20 tasks", "ranked over 19 of 20 tasks")
    (table,) = build_board({}, read_published()).tables
    assert show_table(1, table).groups[0].remark == "ranked over 19 tasks"
    pages = dict(render_site(board))
    assert b"Recomputed from the stored predictions <small>(ranked over 1 of 20 tasks)" in pages["index.html"]


def test_long_names_are_short_in_the_table() -> None:
    cells = [row[0] for row in table_rows(read_pages("hostile")["index.html"])]
    assert any(cell.startswith("x" * 47 + "…") for cell in cells)
    assert max(map(len, cells)) < 150


def test_urls_of_cards_are_links_only_if_they_are_urls() -> None:
    board = make_board(2, 2, published=0)
    links = [
        ("https://example.org/a?b=1&c=<2>", True),
        ("javascript:alert(1)", False),
        ("http://", False),
        ("https://exa mple.org", False),
        ("https:\\\\example.org", False),
        ("http://[bad", False),
        (" https://example.org", False),
    ]
    for url, is_link in links:
        table = board.tables[0]
        rows = tuple(dataclasses.replace(row, facts={"url": url}) for row in table.rows)
        page = dict(render_site(Board("b", (dataclasses.replace(table, rows=rows),))))[
            "models/recomputed-0.html"
        ]
        external = [link for link in Page(page.decode()).find("href") if link.startswith("http")]
        assert external == ([url] if is_link else []), url


def test_the_table_shows_what_the_board_holds() -> None:
    table = BOARDS["usual"].tables[0]
    head, *rows = table_rows(read_pages("usual")["index.html"])
    assert head[:8] == ["Model", *(each.title for each in AGGREGATES), "Params (M)", "Released"]
    assert len(head) == 8 + len(table.columns)
    groups = [row[0] for row in rows if len(row) == 1]
    assert groups == [
        "Recomputed from the stored predictions",
        "As submitted, not recomputed",
        "Published, not recomputed",
    ]
    shown = {row[0]: row for row in rows if len(row) > 1}
    assert len(shown) == len(table.rows)
    for row in table.rows:
        tag = {Origin.PUBLISHED: " published", Origin.SUBMITTED: " as submitted"}.get(row.origin, "")
        warning = (
            " trained on evaluation data" if row.facts.get("trained_on_evaluation_data") == "yes" else ""
        )
        cells = shown[f"{row.name}{tag}{warning} {row.source or row.revision}"]
        standing = table.standings[row.key]
        assert cells[1] == ("" if standing.rank is None else str(standing.rank))
        assert cells[2] == ("" if standing.mean is None else f"{standing.mean:.1f}")
        for column, cell in zip(table.columns, cells[8:], strict=True):
            score = row.cells.get(column.key)
            assert cell == ("" if score is None else f"{100 * score.score:.1f}")


def test_the_best_of_each_group_is_marked() -> None:
    document = html5lib.parse(read_pages("usual")["index.html"], namespaceHTMLElements=False)
    table = BOARDS["usual"].tables[0]
    bodies = next(document.iter("table")).findall("tbody")
    for body, origin in zip(bodies, (Origin.RECOMPUTED, Origin.SUBMITTED, Origin.PUBLISHED), strict=True):
        rows = [row for row in table.rows if row.origin is origin]
        shown = [row for row in body if len(row) > 1]
        for place, column in enumerate(table.columns):
            choose = min if column.is_lower_better else max
            best = choose(row.cells[column.key].score for row in rows if column.key in row.cells)
            best_of_all = choose(row.cells[column.key].score for row in table.rows if column.key in row.cells)
            for row, element in zip(rows, shown, strict=True):
                cell = row.cells.get(column.key)
                expected = None
                if cell is not None and cell.score == best:
                    expected = "a" if best == best_of_all else "b"
                assert element[8 + place].get("class") == expected


def test_rows_carry_what_is_sorted_by_and_intervals() -> None:
    table = BOARDS["usual"].tables[0]
    by_page = {}
    for element in html5lib.parse(read_pages("usual")["index.html"], namespaceHTMLElements=False).iter("tr"):
        if element.get("data-v"):
            link = element.find("th").find("a").get("href")
            by_page.setdefault(link, element)
    for row in table.rows:
        element = by_page[f"models/{row.key}.html"]
        values = element.get("data-v").split(";")
        assert len(values) == 7 + len(table.columns)
        for column, value in zip(table.columns, values[7:], strict=True):
            cell = row.cells.get(column.key)
            if cell is None:
                assert value == ""
                continue
            score, *interval = map(float, value.split(","))
            assert score == pytest.approx(100 * cell.score, abs=1e-4)
            ends = next(iter(cell.metrics.values())).interval_95
            assert interval == ([] if ends is None else [pytest.approx(100 * end, abs=0.051) for end in ends])
        together = table.standings_together[row.key]
        rank = "" if together.rank is None else str(together.rank)
        ends = list(map(str, together.rank_interval or ()))
        assert element.get("data-t").split(";")[0].split(",") == [rank, rank, *ends]


def test_the_page_of_a_model_says_everything() -> None:
    table = BOARDS["usual"].tables[0]
    row = next(each for each in table.rows if each.missing)
    page = read_pages("usual")[f"models/{row.key}.html"]
    text = text_of(html5lib.parse(page, namespaceHTMLElements=False).find("body"))
    shared: dict[str, list[str]] = {}
    for column in table.columns:
        if column.key not in row.cells:
            reason = row.missing.get(column.key, "no reason is given")
            shared.setdefault(reason, []).append(column.title)
    assert all(f"{', '.join(titles)}: {reason}" in text for reason, titles in shared.items())
    assert {
        ("Pre-training data", "AudioSet"),
        ("Parameters", f"{row.facts['parameters']:,}"),
        ("heareval", "0.2.0"),
    } <= facts_of(page)
    rows = table_rows(page, "Scores")
    cells = {(cells[0], cells[2]): cells for cells in rows if len(cells) == 10}
    for key, cell in row.cells.items():
        column = next(each for each in table.columns if each.key == key)
        value = cell.metrics["top1_acc"]
        assert value.interval_95
        low, high = value.interval_95
        shown = cells[column.title, "top1_acc"]
        assert shown[1] == f"{table.standings[row.key].task_ranks[key]:g}"
        assert shown[3:7] == [
            f"{100 * value.score:.1f}",
            f"{100 * low:.1f} to {100 * high:.1f}",
            "10.0",
            "0.4",
        ]
        assert shown[8:] == ["2,000", "3"]
    assert {tuple(cells[1:3]) for cells in rows if len(cells) == 9} >= {("d_prime", "1.500")}


def test_the_page_of_a_model_names_what_it_is_ranked_among() -> None:
    several = BOARDS["usual"].tables[0]
    own = {"recomputed": 12, "as submitted": 2, "published": 5}
    for name, count in own.items():
        page = read_pages("usual")[f"models/{name.split()[-1]}-0.html"]
        rows = table_rows(page, "Where it stands, protocol hear2021")
        assert [row[0] for row in rows[1:]] == [f"{count} rows {name}", f"all {len(several.rows)} rows"]
    # All rows are of one kind: the same standing is not told twice.
    columns, rows = make_columns(2), make_rows(1, make_columns(2), missing=0)
    board = Board("HEAR", (make_table("hear2021", columns, rows),))
    pages = {name: content.decode() for name, content in render_site(board) if name.startswith("models/")}
    assert [row[0] for row in table_rows(pages["models/recomputed-0.html"])[1:]] == ["1 row recomputed"]


def test_the_page_of_a_model_says_what_it_took() -> None:
    columns, (first, second) = make_columns(1), make_rows(2, make_columns(1), missing=0)
    ((key, cell),) = first.cells.items()
    cell = replace(cell, cost_s=12.34, device="cpu", memory_bytes=1_530_000_000)
    rows = [
        replace(first, cells={key: cell}),
        replace(second, cells={key: replace(cell, memory_bytes=None, joules=99.6)}),
    ]
    site = dict(render_site(Board("HEAR", (make_table("hear2021", columns, rows),))))
    shown = [table_rows(site[f"models/{row.key}.html"].decode(), "Cost") for row in rows]
    assert shown[0] == [
        ["Task", "Seconds", "Memory (GB)", "Device"],
        ["Task number 0", "12.3", "1.53", "cpu"],
    ]
    assert shown[1][0] == ["Task", "Seconds", "Memory (GB)", "Joules", "Device"]
    assert shown[1][1] == ["Task number 0", "12.3", "", "100", "cpu"]


def test_missing_tasks_have_the_titles_of_published_columns() -> None:
    columns = make_columns(1)
    reasons = dict.fromkeys(("esc50-v2.0.0-full", "fsd50k-v1.0-full", "mine"), "a demo")
    rows = [replace(row, missing=reasons) for row in make_rows(1, columns, missing=0)]
    board = Board("HEAR", (make_table("hear2021", columns, rows),))
    pages = {name: content.decode() for name, content in render_site(board) if name.startswith("models/")}
    text = text_of(html5lib.parse(pages["models/recomputed-0.html"], namespaceHTMLElements=False))
    assert "ESC-50, FSD50K, mine: a demo" in text


def test_a_reason_for_a_task_is_that_of_its_column() -> None:
    columns = make_columns(2)
    first, second = make_rows(2, columns, missing=0)
    (key, cell), (lacking, _) = first.cells.items()
    rows = [replace(first, cells={key: cell}, missing={lacking.partition("-")[0]: "late"}), second]
    site = dict(render_site(Board("HEAR", (make_table("pairwise-l1", columns, rows),))))
    text = text_of(html5lib.parse(site[f"models/{first.key}.html"].decode(), namespaceHTMLElements=False))
    assert f"Missing tasks {columns[1].title}: late" in text
    assert "no reason is given" not in text


def test_the_page_of_a_task_ranks_and_describes() -> None:
    table = BOARDS["usual"].tables[0]
    column = table.columns[4]
    page = read_pages("usual")[f"tasks/{column.key}.html"]
    text = text_of(html5lib.parse(page, namespaceHTMLElements=False).find("body"))
    assert "lower is better. Chance is 10.0." in text
    assert column.description in text
    assert {("Licence of the corpus", column.licence), ("Citation", column.citation)} <= facts_of(page)
    scores = [row.cells[column.key].score for row in table.rows if column.key in row.cells]
    assert f"{len(scores)} models: lowest {100 * min(scores):.1f}, median " in text
    ranked = [row[2] for row in table_rows(page, "Recomputed")[1:]]
    expected = sorted(
        row.cells[column.key].score
        for row in table.rows
        if row.origin is Origin.RECOMPUTED and column.key in row.cells
    )
    assert ranked == [f"{100 * score:.1f}" for score in expected]


def test_a_task_and_a_model_of_two_protocols_have_one_page() -> None:
    columns, rows = make_columns(2), make_rows(2, make_columns(2), missing=0)
    tables = tuple(make_table(protocol, columns, rows) for protocol in ("hear2021", "hear2021-linear"))
    pages = dict(render_site(Board("b", tables)))
    for name in ("models/recomputed-0.html", f"tasks/{columns[0].key}.html"):
        assert pages[name].decode().count("<h2") == 2 + name.startswith("models")


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), 1e300, -0.0, 1e-12])
def test_unusual_scores_spoil_nothing(score: float) -> None:
    columns = make_columns(2)
    rows = make_rows(3, columns, missing=0)
    value = MetricValue(score, (score, score), chance=score, seed_std=score)
    cells = {**rows[0].cells, columns[0].key: Cell({"top1_acc": value}, cost_s=score)}
    rows[0] = dataclasses.replace(rows[0], cells=cells)
    standings = stand(rows, columns)
    pages = dict(render_site(Board("b", (ProtocolTable("p", columns, tuple(rows), standings, standings),))))
    for name, content in pages.items():
        if name.endswith(".html"):
            text = content.decode()
            assert not re.search(r'="nan|\bnan<|Infinity', text)
            for place in re.findall(r' (?:x|y|cx|x1|x2|height)="([^"]*)"', text):
                assert 0 <= float(place) <= 640


def test_the_site_is_the_same_again_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    write_site(BOARDS["usual"], folder, ATTACHED)
    first = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert first == dict(site("usual"))
    write_site(BOARDS["empty"], folder)
    assert not (folder / "models").exists()
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["site"]


def test_a_site_replaces_only_a_site(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match=f"did not make .no {MARK}"):
        write_site(BOARDS["usual"], tmp_path / "site")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["thesis.tex"]


def test_every_name_that_a_task_may_have_is_that_of_a_page(tmp_path: Path) -> None:
    columns = [dataclasses.replace(make_columns(1)[0], key="_My_task-_v1.0-full")]
    write_site(Board("b", (make_table("p", columns, make_rows(2, columns)),)), tmp_path / "site")
    assert (tmp_path / "site" / "tasks" / "_My_task-_v1.0-full.html").exists()


@pytest.mark.parametrize("key", ["../up", "a/b", "", ".hidden", "a b", "ü", "x" * 300, "a\x00"])
def test_keys_that_are_no_file_names_are_refused(key: str, tmp_path: Path) -> None:
    columns = make_columns(1)
    row = dataclasses.replace(make_rows(1, columns)[0], key=key)
    with pytest.raises(HearevalError, match="page of the site"):
        write_site(Board("b", (make_table("p", columns, [row]),)), tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_skeleton_is_small() -> None:
    """What every reader loads, whatever the number of models."""
    files = dict(render_site(BOARDS["empty"]))
    assert (
        sum(len(content) for name, content in files.items() if name.startswith(("static", "index"))) < 60_000
    )


def test_scores_lead_to_the_figures_of_their_results() -> None:
    pages = read_pages("usual")
    page = Page(pages["models/recomputed-0.html"])
    (image,) = (attributes for tag, attributes in page.elements if tag == "img")
    assert image == {
        "src": "../models/figures/1/labels.svg",
        "alt": 'Recall of "each" label',
        "width": "640",
        "height": "400",
        "loading": "lazy",
    }
    assert site("usual")["models/figures/1/labels.svg"] == FIGURE.source.read_bytes()
    links = [link for link in page.find("href") if link.startswith("#figures-")]
    # A column of two tasks leads to the first.
    assert links == ["#figures-1", "#figures-2"]
    assert {"figures-1", "figures-2", "figures-3"} <= set(page.find("id"))
    for number in (0, 1, 2):
        links = [
            link for link in Page(pages[f"tasks/task{number}-v1.0.0-full.html"]).find("href") if "#" in link
        ]
        assert links == ([f"../models/recomputed-0.html#figures-{number + 1}"] if number < 2 else [])
    assert "#figures" not in pages["models/recomputed-1.html"]
