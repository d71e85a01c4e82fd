"""A real browser, Chromium, and sites of synthetic boards on a real server; skipped where there is none."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heareval.leaderboard.board import Board
from heareval.leaderboard.site import write_site
from tests.browser.window import Window
from tests.leaderboard.boards import HOSTILE, make_board
from tests.leaderboard.test_site import ATTACHED

BOARDS: dict[str, Callable[[], Board]] = {
    "usual": lambda: make_board(30, 8),
    "hostile": lambda: make_board(len(HOSTILE), 6, names=HOSTILE),
    "large": lambda: make_board(1000, 40, published=34),
}
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--lang=en-GB"),
)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, *words: Any) -> None:
        """Write nothing."""


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Window]:
    """A window of Chromium."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="no selenium: pip install 'heareval[browser]'"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.skip("no Chromium with chromedriver: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield Window(driver)
    driver.quit()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Writes the site of a kind of board, once, and returns its address."""
    servers = []

    @functools.cache
    def address(kind: str) -> str:
        folder: Path = tmp_path_factory.mktemp("sites") / kind
        write_site(BOARDS[kind](), folder, ATTACHED if kind == "usual" else type(ATTACHED)())
        handler = functools.partial(QuietHandler, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield address
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def board(window: Window, serve: Callable[[str], str]) -> Iterator[Window]:
    """The window with the first page of a usual site; afterwards, nothing may be on its console."""
    window.resize(1280, 900)
    window.visit(serve("usual") + "/index.html")
    yield window
    assert window.read_console() == []
