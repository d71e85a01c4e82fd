"""The site in a real browser: sorting, filters, permalinks, keyboard, sizes, no JavaScript, accessibility."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from tests.browser.window import Window

pytestmark = pytest.mark.browser
Serve = Callable[[str], str]
ENTER, TAB, ESCAPE = "\ue007", "\ue004", "\ue00c"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
GROUPS = [
    "Recomputed from the stored predictions",
    "As submitted, not recomputed",
    "Published, not recomputed",
]


def numbers(rows: list[list[str]], place: int) -> list[float]:
    return [float(row[place]) for row in rows if row[place]]


def recomputed(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows if row[0].startswith("Model recomputed")]


def test_a_column_sorts_within_groups_and_turns(board: Window) -> None:
    head = board.find("th[data-task^=task2] button")
    head.click()
    rows = board.read_rows()
    assert board.read_groups() == GROUPS
    assert [row[0].split()[1] for row in rows] == sorted(
        (row[0].split()[1] for row in rows), key=["recomputed", "submitted", "published"].index
    )
    assert len(numbers(recomputed(rows), 10)) > 20
    assert numbers(recomputed(rows), 10) == sorted(numbers(recomputed(rows), 10), reverse=True)
    # Missing scores come last, whatever the order.
    assert sum(not row[10] for row in recomputed(rows)) > 0
    assert not any(row[10] for row in recomputed(rows)[len(numbers(recomputed(rows), 10)) :])
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    head.click()
    assert numbers(recomputed(board.read_rows()), 10) == sorted(numbers(recomputed(rows), 10))
    assert not any(row[10] for row in recomputed(board.read_rows())[len(numbers(recomputed(rows), 10)) :])
    assert board.run("return document.querySelectorAll('#table1 [aria-sort]').length") == 1


def test_lower_is_better_sorts_the_lowest_first(board: Window) -> None:
    board.find("th[data-task^=task4] button").click()
    found = numbers(recomputed(board.read_rows()), 12)
    assert found == sorted(found)


def test_names_and_dates_sort_as_texts(board: Window) -> None:
    board.find("th[data-column=model] button").click()
    names = [row[0].lower() for row in recomputed(board.read_rows())]
    assert names == sorted(names)
    board.find("th[data-column=released] button").click()
    dates = [row[7] for row in recomputed(board.read_rows())]
    assert dates == sorted(dates, reverse=True)


def test_the_address_keeps_what_is_shown_and_the_back_button_undoes(board: Window) -> None:
    first = board.read_rows()
    board.find("th[data-task^=task2] button").click()
    sorted_rows = board.read_rows()
    board.choose("domain", "music")
    board.choose("complete", "1")
    board.choose("q", "recomputed")
    shown = board.read_rows()
    assert board.query == {
        "sort": "task2-v1.0.0-full",
        "order": "descending",
        "domain": "music",
        "complete": "1",
        "q": "recomputed",
    }
    assert 0 < len(shown) < len(first)
    assert {row[0] for row in shown} <= {row[0] for row in recomputed(first)}
    address = board.driver.current_url
    board.visit("about:blank")
    board.visit(address)
    assert board.read_rows() == shown
    assert board.find("[name=q]").get_property("value") == "recomputed"
    assert board.find("[name=complete]").is_selected()
    board.visit(address.partition("?")[0])
    board.find("th[data-task^=task2] button").click()
    board.choose("domain", "music")
    board.driver.back()
    assert board.read_rows() == sorted_rows
    board.driver.back()
    assert board.read_rows() == first
    assert board.query == {}


def test_filters_hide_rows_and_columns(board: Window) -> None:
    everything = board.read_rows()
    board.choose("min", "100")
    board.choose("max", "500")
    sizes = numbers(board.read_rows(), 6)
    assert 0 < len(sizes) == len(board.read_rows())
    assert all(100 <= size <= 500 for size in sizes)
    board.find("button[type=reset]").click()
    assert board.read_rows() == everything
    board.choose("since", "2022-01-01")
    assert 0 < len(board.read_rows()) < len(everything)
    assert all(row[7] >= "2022-01-01" for row in board.read_rows())
    board.choose("since", "")
    board.choose("complete", "1")
    assert 0 < len(board.read_rows()) < len(everything)
    assert all(row[1] and all(row[8:]) for row in board.read_rows())
    board.choose("complete", "")
    board.choose("open", "1")
    assert 0 < len(board.read_rows()) < len(everything)
    board.choose("open", "")
    board.choose("domain", "speech")
    assert board.read_heads()[8:] == ["Task number 0", "Task number 3", "Task number 6"]
    assert {len(row) for row in board.read_rows()} == {11}
    assert "3 of 8 tasks" in board.find("#status").text


def test_tasks_can_be_chosen_with_the_keyboard(board: Window) -> None:
    board.find("details.chooser summary").send_keys(ENTER)
    box = board.find("#choices input[value^=task1]")
    box.send_keys(" ")
    assert "Task number 1" not in board.read_heads()
    assert board.driver.switch_to.active_element.get_attribute("value") == "task1-v1.0.0-full"
    board.press(" ")
    assert "Task number 1" in board.read_heads()
    assert board.query == {}


def test_published_rows_are_ranked_with_ours_only_on_request(board: Window) -> None:
    marks = "return [...document.querySelectorAll('#table1 th i')].filter((each) => each.offsetParent)"
    marks += ".map((each) => each.textContent)"
    before = {row[0]: row for row in board.read_rows()}
    assert board.run(marks) == []
    assert sum(row[1] == "1" for row in before.values()) == 3
    best = "return document.querySelectorAll('#table1 td.a, #table1 td.b').length"
    board.choose("together", "1")
    rows = board.read_rows()
    assert board.query == {"together": "1"}
    assert board.read_groups() == []
    assert sorted(board.run(marks)) == ["as submitted"] * 2 + ["published"] * 5
    assert {row[0] for row in rows} == before.keys()
    ranks = numbers(rows, 1)
    assert ranks == sorted(ranks)
    assert ranks.count(1) == 1
    assert any(row[1] != before[row[0]][1] for row in rows)
    weights = (
        "return [...document.querySelectorAll('#table1 td.b')].map((e) => getComputedStyle(e).fontWeight)"
    )
    assert set(board.run(weights)) == {"400"}
    assert board.run(best) > 0
    board.choose("together", "")
    assert board.read_groups() == GROUPS
    assert {row[0]: row for row in board.read_rows()} == before


def test_the_other_protocol_has_its_own_table(board: Window) -> None:
    board.choose("protocol", "2")
    assert board.query == {"protocol": "pairwise-l1"}
    assert len(board.read_rows()) == 3
    assert board.read_heads()[8:] == ["Task number 0", "Task number 1"]
    assert "3 of 3 models" in board.find("#status").text


def test_intervals_appear_on_hover_and_with_the_keyboard(board: Window) -> None:
    assert not board.find("#tip").is_displayed()
    board.find("th[data-task^=task2] button").click()
    cell = board.find("#table1 tr[data-v] td:nth-child(11)")
    board.run("arguments[0].dispatchEvent(new MouseEvent('mouseover', {bubbles: true}))", cell)
    assert "95 % interval" in board.find("#tip").text
    board.run("document.querySelector('#table1 .scroller').focus()")
    board.press(TAB)
    while board.driver.switch_to.active_element.tag_name != "td":
        board.press(TAB)
    active = board.driver.switch_to.active_element
    assert active.get_attribute("aria-describedby") == "tip"
    board.press(*[RIGHT] * 9)
    first = board.find("#tip").text
    assert first.startswith("Model recomputed")
    assert "Task number 2" in first
    low, high = first.rpartition("95 % interval ")[2].split(" to ")
    shown = float(board.driver.switch_to.active_element.text)
    assert float(low) == pytest.approx(shown - 2.1, abs=0.11)
    assert float(high) == pytest.approx(shown + 2.0, abs=0.11)
    board.press(DOWN)
    assert board.find("#tip").text.split("·")[0] != first.split("·")[0]
    assert "Task number 2" in board.find("#tip").text
    board.press(ESCAPE)
    assert not board.find("#tip").is_displayed()


def test_rows_are_copied_as_text(board: Window) -> None:
    board.run(
        "window.copied = []; Object.defineProperty(navigator, 'clipboard', "
        "{value: {writeText: async (text) => { window.copied.push(text); }}, configurable: true})"
    )
    board.choose("domain", "speech")
    board.choose("q", "published")
    for kind, delimiter in (("csv", ","), ("tsv", "\t")):
        board.find(f"[data-copy={kind}]").click()
        text = board.run("return window.copied.pop()")
        head, *lines = csv.reader(io.StringIO(text), delimiter=delimiter)
        assert head == board.read_heads()
        assert lines == board.read_rows()
        assert len(lines) == 5


def test_copied_formulas_are_text(window: Window, serve: Serve) -> None:
    window.visit(serve("hostile") + "/index.html")
    window.run(
        "Object.defineProperty(navigator, 'clipboard', "
        "{value: {writeText: async (text) => { window.copied = text; }}, configurable: true})"
    )
    window.find("[data-copy=csv]").click()
    cells = [row[0] for row in csv.reader(io.StringIO(window.run("return window.copied")))]
    assert sum(cell.startswith("'=HYPERLINK(") for cell in cells) == 1
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\uff1d"))]
    assert "'-1+cmd|' /C calc'!A0" in cells


def test_hostile_names_do_nothing(window: Window, serve: Serve) -> None:
    window.resize(1280, 900)
    pages = ["index.html", *(f"models/recomputed-{number}.html" for number in range(10))]
    for page in pages:
        window.visit(f"{serve('hostile')}/{page}")
        assert "owned" not in window.driver.title or "<" in window.driver.title
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")
        assert window.run("return document.scripts.length") == (page == "index.html")
        assert window.read_console() == []


@pytest.mark.parametrize("page", ["index.html", "models/recomputed-1.html", "tasks/task2-v1.0.0-full.html"])
@pytest.mark.parametrize("kind", ["usual", "hostile"])
def test_a_narrow_page_does_not_scroll_sideways(window: Window, serve: Serve, kind: str, page: str) -> None:
    window.resize(400, 800)
    window.visit(f"{serve(kind)}/{page}")
    assert window.run("return document.documentElement.scrollWidth <= innerWidth")
    if page == "index.html":
        wide = "const box = document.querySelector('.scroller');"
        wide += "return [box.scrollWidth > box.clientWidth, box.tabIndex]"
        assert window.run(wide) == [True, 0]


def test_names_and_heads_stay_when_the_table_scrolls(board: Window) -> None:
    board.resize(700, 500)
    places = "const box = document.querySelector('.scroller').getBoundingClientRect();"
    places += "const name = document.querySelectorAll('tr[data-v] > th')[20].getBoundingClientRect();"
    places += "const head = document.querySelector('thead th:nth-child(9)').getBoundingClientRect();"
    places += "return [name.left - box.left, head.top - box.top]"
    board.run("document.querySelector('.scroller').scrollTo(300, 200)")
    assert [round(place) for place in board.run(places)] == [1, 1]


def test_everything_is_there_without_javascript(window: Window, serve: Serve) -> None:
    window.resize(1280, 900)
    window.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        window.visit(serve("usual") + "/index.html?domain=music&q=nobody")
        nodes = window.command("DOM.getDocument", depth=-1, pierce=True)["root"]
        tree = window.command("Accessibility.getFullAXTree")["nodes"]
        assert nodes
    finally:
        window.command("Emulation.setScriptExecutionDisabled", value=False)
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("table") == 2
    assert roles.count("rowheader") >= 30 + 2 + 5 + 3
    assert not {"form", "searchbox", "combobox", "button"} & set(roles)
    names = {node.get("name", {}).get("value") for node in tree if not node["ignored"]}
    assert {"Model recomputed 7", "Model published 4", "Task number 7", "What the columns mean"} <= names


def test_dark_mode_has_dark_pages(board: Window) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = board.run(colour)
    board.prefer("dark")
    try:
        assert board.run(colour) not in (light, "rgba(0, 0, 0, 0)")
    finally:
        board.prefer("light")


def test_print_shows_the_whole_table(board: Window) -> None:
    board.command("Emulation.setEmulatedMedia", media="print")
    try:
        style = "const style = getComputedStyle(document.querySelector('.scroller'));"
        style += "return [style.overflow, style.maxHeight, getComputedStyle(document.forms[0]).display]"
        assert board.run(style) == ["visible", "none", "none"]
    finally:
        board.command("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "models/recomputed-1.html", "tasks/task2-v1.0.0-full.html"])
@pytest.mark.parametrize("width", [400, 1280])
def test_axe_finds_no_fault(window: Window, serve: Serve, page: str, scheme: str, width: int) -> None:
    window.resize(width, 900)
    window.prefer(scheme)
    try:
        window.visit(f"{serve('usual')}/{page}")
        if page == "index.html":
            window.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert window.find_faults() == []
    finally:
        window.prefer("light")


def test_a_thousand_models_are_all_there(window: Window, serve: Serve) -> None:
    window.resize(1280, 900)
    window.visit(serve("large") + "/index.html")
    assert len(window.read_rows()) == 1036
    window.find("th[data-task^=task39] button").click()
    found = numbers(recomputed(window.read_rows()), 47)
    assert len(found) > 700
    assert found == sorted(found, reverse=True)
    window.choose("q", "recomputed 99")
    assert {row[0] for row in window.read_rows()} == {
        f"Model recomputed {number}" for number in range(1000) if "99" in str(number)
    }
    assert window.read_console() == []
