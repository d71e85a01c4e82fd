"""What all figures share: style, fonts, names that can be drawn, axes, and a canvas that holds all of it."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heareval.errors import HearevalError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    # Others import the type from here.
    from matplotlib.figure import Figure as Figure

# Two colours that people with any kind of colour blindness tell apart, by Okabe and Ito.
BLUE, ORANGE = "#0072b2", "#d55e00"
GREY = "#777777"
FONT = "DejaVu Sans"
# A font that has a box for every character.
BOXES = "Last Resort"
# Longer names are shortened in the middle.
MAX_NAME_CHARS = 40
# Titles of narrower figures would take many lines.
MIN_WIDTH_INCHES = 6.0
MARGIN_INCHES, TITLE_GAP_INCHES = 0.12, 0.15
CHARS_PER_INCH = 15
# Ends of the axes of scores that may lie outside of 0 and 1; others are not known to.
USUAL_MINIMA: Mapping[str, float] = {"spearman": -1.0, "kendall": -1.0}
USUAL_MAXIMA: Mapping[str, float] = {"segment_1s_er": 2.0, "d_prime": 4.0, "loss": 1.0}
# Leave out dates and versions, so that equal figures are equal files.
METADATA: Mapping[str, Mapping[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}
STYLE: Mapping[str, Any] = {
    "svg.hashsalt": "heareval",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 8,
    "figure.dpi": 120,
    "savefig.dpi": "figure",
}


@dataclass(frozen=True)
class Fonts:
    """The fonts of a figure.

    Args:
        families: names of the fonts; the first one that has a character draws it.
        characters: code points that one of them has.
        missing: printable characters of the texts that none of them has.
    """

    families: tuple[str, ...]
    characters: frozenset[int]
    missing: str = ""

    def write(self, text: str) -> str:
        r"""Return a text that can be drawn: escapes stand for control characters and for missing ones.

        >>> Fonts((FONT,), frozenset(map(ord, "ab"))).write("a\x1bb\n\u732b")
        'a\\x1bb\\n\\u732b'
        """
        return "".join(
            char if char.isprintable() and ord(char) in self.characters else _escape(char) for char in text
        )


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def find_fonts(texts: Iterable[str]) -> Fonts:
    """Return the usual font, and installed fonts with those characters of some texts that it lacks."""
    with _without_log():
        from matplotlib import font_manager

        characters = _list_characters(font_manager.findfont(FONT))
        families = [FONT]
        missing = {ord(char) for text in texts for char in text if char.isprintable()} - characters
        for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
            if not missing:
                break
            is_usual = font.style == "normal" and font.weight in (400, "normal", "regular", "book")
            if not is_usual or font.name in families or font.name.startswith(BOXES):
                continue
            found = missing & _list_characters(font.fname)
            # Another file of the family may lack the character, so ask for the one that will be used.
            if found and (found := found & _list_characters(font_manager.findfont(font.name))):
                families.append(font.name)
                characters |= found
                missing -= found
    return Fonts(tuple(families), frozenset(characters), "".join(map(chr, sorted(missing))))


def _list_characters(font_file: str) -> set[int]:
    from matplotlib.ft2font import FT2Font

    with contextlib.suppress(RuntimeError, OSError):
        return set(FT2Font(font_file).get_charmap())
    return set()


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Import matplotlib, and keep it from logging, such as that it looks for fonts the first time."""
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        _import_matplotlib()
        yield
    finally:
        log.setLevel(level)


def _import_matplotlib() -> None:
    """Import matplotlib, also where MPLBACKEND names a backend that is not installed.

    Notebooks name theirs to the commands that they start. Figures in files need none.

    Raises:
        HearevalError: a matplotlibrc is not UTF-8.
    """
    if "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except UnicodeDecodeError as error:
        remedy = "Save it as UTF-8, or remove it from this folder or from matplotlib's configuration folder."
        raise HearevalError("matplotlibrc", got=str(error), expected="UTF-8", remedy=remedy) from None
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


@contextlib.contextmanager
def use_style(fonts: Fonts) -> Iterator[None]:
    """Let figures look alike on every machine."""
    with _without_log():
        from matplotlib import style

        # "default" undoes the user's matplotlibrc.
        with style.context(["default", {**STYLE, "font.family": list(fonts.families)}]):
            yield


@contextlib.contextmanager
def use_web_style(fonts: Fonts) -> Iterator[None]:
    """Let figures of web pages look alike; readers who lack the font get another one without serifs."""
    with use_style(replace(fonts, families=(*fonts.families, "sans-serif"))):
        yield


@dataclass(frozen=True)
class Sheet:
    """What all figures of a report share.

    Args:
        heading: the lines above every figure: the task, the model, the protocol and the score.
        fonts: what can be drawn.
    """

    heading: tuple[str, ...]
    fonts: Fonts

    def name(self, names: Sequence[str]) -> list[str]:
        """Return distinct names that can be drawn and are short enough for an axis."""
        short = [_shorten(self.fonts.write(name)) for name in names]
        times = Counter(short)
        return [f"{number}: {name}" if times[name] > 1 else name for number, name in enumerate(short)]

    def finish(self, figure: Figure, caption: str) -> Figure:
        """Add the title, and make the canvas as large as all that is drawn.

        Args:
            caption: what the figure shows.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        figure.draw_without_rendering()
        body = figure.get_tightbbox(renderer)
        width = max(body.width, MIN_WIDTH_INCHES)
        lines = [
            line
            for text in (*self.heading, caption, *self._explain_escapes())
            for line in textwrap.wrap(self.fonts.write(text), int(width * CHARS_PER_INCH))
        ]
        title = figure.suptitle("\n".join(lines), x=0, y=1, ha="left", va="top", linespacing=1.4, size=8)
        extent = title.get_window_extent(renderer)
        title_width, title_height = extent.width / figure.dpi, extent.height / figure.dpi
        old_width, old_height = figure.get_size_inches()
        new_width = max(width, title_width) + 2 * MARGIN_INCHES
        new_height = body.height + TITLE_GAP_INCHES + title_height + 2 * MARGIN_INCHES
        places = [axes.get_position(original=True).bounds for axes in figure.axes]
        figure.set_size_inches(new_width, new_height)
        for axes, (left, bottom, wide, high) in zip(figure.axes, places, strict=True):
            axes.set_position(
                (
                    (left * old_width - body.x0 + MARGIN_INCHES) / new_width,
                    (bottom * old_height - body.y0 + MARGIN_INCHES) / new_height,
                    wide * old_width / new_width,
                    high * old_height / new_height,
                )
            )
        title.set_position((MARGIN_INCHES / new_width, 1 - MARGIN_INCHES / new_height))
        return figure

    def _explain_escapes(self) -> Iterator[str]:
        if self.fonts.missing:
            example = _escape(self.fonts.missing[0])
            yield f"{example} and the like stand for characters that no installed font has."


def _shorten(name: str) -> str:
    if len(name) <= MAX_NAME_CHARS:
        return name
    end = MAX_NAME_CHARS // 3
    return f"{name[: MAX_NAME_CHARS - end - 3]}...{name[-end:]}"


def new_figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    """Return a figure, and axes of this size, whose labels lie outside; it never opens a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches))
    return figure, figure.add_axes((0, 0, 1, 1))


def save(figure: Figure, path: Path) -> None:
    """Write `path.png` and `path.svg`."""
    for kind, metadata in METADATA.items():
        figure.savefig(path.with_name(f"{path.name}.{kind}"), metadata=dict(metadata))


def render_svg(figure: Figure) -> bytes:
    """Return a figure as SVG for a web page, drawn in the style of `use_web_style`."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    # Text that stays text takes less than half the room, and can be searched and copied.
    with rc_context({"svg.fonttype": "none", "font.sans-serif": [FONT]}):
        figure.savefig(stream, format="svg", metadata=dict(METADATA["svg"]))
    return stream.getvalue()


def read_heading(figure: Figure) -> str:
    """Return the heading of a figure in one line: what `Sheet.finish` wrote above it."""
    return " ".join(figure.get_suptitle().split())


def measure_css(figure: Figure) -> tuple[int, int]:
    """Return the width and height of a figure in pixels of a web page, of which an inch has 96."""
    width, height = figure.get_size_inches()
    return round(96 * width), round(96 * height)


def score_limits(score: str, values: Collection[float]) -> tuple[float, float]:
    """Return the ends of an axis for a score: equal for all models, unless a value lies beyond them.

    Args:
        score: name of a metric, of the score of a label, or "loss".

    >>> score_limits("recall", [0.2, 0.3]), score_limits("segment_1s_er", [0.4, 2.1])
    ((0.0, 1.0), (0.0, 3.0))
    >>> score_limits("spearman", [0.2])
    (-1.0, 1.0)
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = USUAL_MINIMA.get(score, 0.0), USUAL_MAXIMA.get(score, 1.0)
    return float(math.floor(min([low, *finite]))), float(math.ceil(max([high, *finite])))
