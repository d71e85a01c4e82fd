"""What the tests do with a page, in words of its reader."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

# The visible rows of the visible table: the texts of their visible cells.
READ_ROWS = """
const table = document.querySelector('section.board:not([hidden]) table');
return [...table.querySelectorAll('tbody tr')].filter((row) => row.offsetParent !== null).map((row) =>
  [...row.cells].filter((cell) => cell.offsetParent !== null).map((cell, place) =>
    (place ? cell : cell.firstElementChild ?? cell).textContent));
"""


class Window:
    """A browser's window."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def visit(self, address: str) -> None:
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width: int, height: int) -> None:
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, scheme: str) -> None:
        self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def choose(self, name: str, value: str) -> None:
        """Set a field as its reader does: with the events of a change."""
        script = "const field = document.querySelector(`[name=${arguments[0]}]`);"
        script += "if (field.type === 'checkbox') { field.click(); return; } field.value = arguments[1];"
        script += (
            "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}));"
        )
        self.run(script, name, value)

    @property
    def query(self) -> dict[str, str]:
        found = parse_qs(urlsplit(self.driver.current_url).query)
        return {key: values[0] for key, values in found.items()}

    def read_rows(self) -> list[list[str]]:
        """The cells of the rows that are shown, without the titles of groups."""
        rows: list[list[str]] = self.run(READ_ROWS)
        return [row for row in rows if len(row) > 1]

    def read_groups(self) -> list[str]:
        rows: list[list[str]] = self.run(READ_ROWS)
        return [row[0] for row in rows if len(row) == 1]

    def read_heads(self) -> list[str]:
        script = "return [...document.querySelectorAll('section.board:not([hidden]) thead th')]"
        script += ".filter((head) => head.offsetParent !== null).map((head) => head.dataset.title)"
        heads: list[str] = self.run(script)
        return heads

    def read_console(self) -> list[str]:
        return [each["message"] for each in self.driver.get_log("browser")]

    def find_faults(self) -> list[str]:
        """What axe-core finds wrong with the page: the rule and the element."""
        import importlib.resources

        axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()
        self.driver.execute_script(axe)
        script = (
            "const done = arguments[0]; axe.run().then((found) => done(JSON.stringify(found.violations)));"
        )
        found = json.loads(self.driver.execute_async_script(script))
        return [f"{each['id']}: {node['html'][:150]}" for each in found for node in each["nodes"]]
