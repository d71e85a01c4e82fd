"""The figures of reports, drawn from the results of cards and kept: an unchanged card is drawn once."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import heareval
from heareval import drawing, files
from heareval.errors import HearevalError
from heareval.formats.card import Card, CardResult
from heareval.formats.fields import Fields, read_fields
from heareval.layout import Places
from heareval.predictions.card_checks import read_result
from heareval.predictions.card_ledger import digest_references
from heareval.predictions.data import read_references
from heareval.predictions.report import draw_figures, make_report
from heareval.predictions.stored import StoredResult

# The file that lists the figures of a result; written last.
DRAWN = "figures.json"
VERSION = 1


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as SVG.

    Args:
        path: the file.
        description: its heading, which says what it shows, for readers who cannot see it.
        width_px: how wide it is shown, in pixels of a web page.
        height_px: how high.
    """

    path: Path
    description: str
    width_px: int
    height_px: int


@dataclass(frozen=True)
class DrawnResult:
    """The figures of one result of a card, in the order of its report.

    Args:
        folder: where they are kept; its name changes with the card, the references and heareval.
    """

    result: CardResult
    folder: Path
    figures: tuple[DrawnFigure, ...]


def draw_card(card: Card, tasks: Path, kept: Path, known: dict[str, str]) -> tuple[DrawnResult, ...]:
    """Draw the figures of every result of a card that passed a check, or find them where they are kept.

    They are those of `heareval report`, but for those of validation, which a card says nothing about.

    Args:
        tasks: the folder of the checker's task folders.
        kept: the folder where figures are kept, one folder for each result.
        known: digests of task folders that were read before; see `digest_references`.

    Raises:
        HearevalError: a result is not what it was when it was checked.
    """
    made_from = {
        "heareval": heareval.__version__,
        "card": card.sha256,
        "references": digest_references(card, tasks, known),
    }
    return tuple(_draw_result(card, result, tasks, kept, made_from) for result in card.results)


def _draw_result(
    card: Card, result: CardResult, tasks: Path, kept: Path, made_from: dict[str, str]
) -> DrawnResult:
    name = [result.task_folder, result.protocol]
    folder = kept / files.fingerprint("card-figures", VERSION, result=name, **made_from)
    # What is missing or damaged is drawn again.
    with contextlib.suppress(HearevalError):
        return DrawnResult(result, folder, _read_figures(folder))
    stored = read_result(card, result, read_references(tasks / result.task_folder))
    with files.building_folder(folder, replace=True, mark=DRAWN) as scratch:
        listed = _write_figures(stored, card.model.name, tasks, scratch)
        files.write_json(scratch / DRAWN, {"figures": listed})
    return DrawnResult(result, folder, _read_figures(folder))


def _write_figures(stored: StoredResult, model: str, tasks: Path, folder: Path) -> list[dict[str, Any]]:
    report = make_report(stored, Places(tasks=str(tasks)), model=model)
    listed = []
    with drawing.use_web_style(report.sheet.fonts):
        for name, figure in draw_figures(stored, report).items():
            (folder / f"{name}.svg").write_bytes(drawing.render_svg(figure))
            width_px, height_px = drawing.measure_css(figure)
            sizes = {"width_px": width_px, "height_px": height_px}
            listed.append({"name": name, "description": drawing.read_heading(figure), **sizes})
    return listed


def _read_figures(folder: Path) -> tuple[DrawnFigure, ...]:
    entries = read_fields(folder / DRAWN).objects("figures")
    return tuple(_read_figure(folder, entry) for entry in entries)


def _read_figure(folder: Path, entry: Fields) -> DrawnFigure:
    name = entry.text("name")
    path = folder / f"{name}.svg"
    if not re.fullmatch("[a-z0-9-]+", name) or not path.is_file():
        raise entry.error("name", name, f"the name of a figure in {folder}")
    return DrawnFigure(path, entry.text("description"), entry.integer("width_px"), entry.integer("height_px"))
