"""Figures: what they name, that all of it lies on the canvas, axes that models share, errors that show."""

import json
import logging
import warnings

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from sklearn.metrics import average_precision_score

from heareval import drawing
from heareval.drawing import Sheet, find_fonts, use_style
from heareval.errors import HearevalError
from heareval.formats.scores import GridEntry
from heareval.layout import Places
from heareval.predictions import figures
from heareval.predictions.breakdowns import ErrorPlot, PartPlot, PartScores, PartTable, RatedSet, RatingPlot
from heareval.predictions.diagnostics import Timeline
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds.kind import ClipEvents, LabelScores, TimelineEvent
from heareval.predictions.protocol import Protocol
from heareval.predictions.report import draw_figures, make_report, write_reports
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results
from tests.predictions.degenerate import FOLDS

pytestmark = [
    # No warning of matplotlib may reach the user.
    pytest.mark.filterwarnings("error"),
    pytest.mark.filterwarnings("ignore:pkg_resources is deprecated"),
]
LINEAR = Protocol(probe="linear", device="cpu")
HEADING = ("task nsynth_pitch-v2.2.3-5h", "model mine", "protocol hear2021: pitch_acc 0.5000")
LONG = [f"Sound number {i} of somebody who walks slowly over gravel in heavy boots ({i})" for i in range(50)]
# What matplotlib could take for math or for a legend to hide, other scripts, and what terminals obey.
ODD = [
    *("$x_1$ and $y$", "猫の鳴き声", "قطة صغيرة", "חתול", "a\nb", "\x1b[31mred", "emoji 🐱", "_hidden"),
    *("%d {x}", "\\alpha", "zero\u200bwidth", "\udc80"),
]
VOCABULARIES = {
    "1": ["only"],
    "3": ["drum", "flute", "7"],
    "12": [f"label {i}" for i in range(12)],
    "13": [f"label {i}" for i in range(13)],
    "50 long": LONG,
    "99": [str(pitch) for pitch in range(21, 120)],
    "527": [f"Label {i}, with a comma" for i in range(527)],
    "odd": ODD,
}


def _sheet(*texts, heading=HEADING):
    return Sheet(heading, find_fonts([*heading, *texts]))


def _stored(folder, protocol=LINEAR):
    write_results(folder, evaluate_folder(folder, protocol), "beef", "0123456789abcdef")
    return read_stored(folder, protocol.recorded_name)


def _label(name, value, support=10):
    return LabelScores(name, support, support, {"recall": value}, (max(0, value - 0.1), min(1, value + 0.1)))


def _counts(size):
    return np.random.default_rng(size).integers(0, 3, (size, size)) + 20 * np.eye(size, dtype=int)


def _ticks(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def _title(figure):
    return figure.get_suptitle()


def _assert_all_is_on_the_canvas(figure):
    """Every text that is drawn lies within the figure, whose size is that of the file."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.size
    for text in _drawn_texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


def _drawn_texts(figure):
    drawn = [*figure.texts]
    assert figure.get_suptitle() in [text.get_text() for text in drawn]
    for axes in figure.axes:
        drawn += [axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, ends in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            # Ticks beyond the ends of an axis are not drawn.
            places = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            drawn += [text for place, text in places if min(ends) <= place <= max(ends)]
        drawn += axes.get_legend().get_texts() if axes.get_legend() else []
    return [text for text in drawn if text.get_text()]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow) if case in ("13", "527") else case for case in VOCABULARIES],
)
def test_all_texts_are_on_the_canvas(case, tmp_path):
    labels = VOCABULARIES[case]
    sheet = _sheet(*labels)
    with use_style(sheet.fonts):
        bars = figures.plot_labels(sheet, [_label(name, 0.5) for name in labels], "recall")
        matrix = figures.plot_confusion(sheet, _counts(len(labels)), labels)
        for name, figure in (("bars", bars), ("matrix", matrix)):
            _assert_all_is_on_the_canvas(figure)
            assert all(line in _title(figure) for line in HEADING)
            if case == "odd":
                drawing.save(figure, tmp_path / name)
    assert matrix.axes[0].get_xlabel() == "predicted label"
    assert matrix.axes[0].get_ylabel() == "true label (clips)"


def test_beyond_60_labels_every_nth_is_named():
    """Pitch "60" was the 40th label, and the tick of pitch 81 said 60."""
    pitches = VOCABULARIES["99"]
    sheet = _sheet()
    with use_style(sheet.fonts):
        axes = figures.plot_confusion(sheet, _counts(99), pitches).axes[0]
    assert [pitches[int(place)] for place in axes.get_xticks()] == _ticks(axes.xaxis) == pitches[::2]
    assert [text.split(" (")[0] for text in _ticks(axes.yaxis)] == pitches[::2]


def test_names_are_distinct_readable_and_short():
    sheet = _sheet(*ODD)
    names = sheet.name([*LONG, *ODD])
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= drawing.MAX_NAME_CHARS + len("99: ")
    assert all(name.isprintable() for name in names)
    assert names[len(LONG)] == "$x_1$ and $y$"
    assert r"a\nb" in names
    assert r"\x1b[31mred" in names
    twins = ["same beginning " + letter * 30 + " and the same end of both" for letter in "ab"]
    assert len(set(sheet.name(twins))) == 2


def test_characters_without_a_font_are_escaped_and_explained(monkeypatch):
    usual = font_manager.fontManager.findfont("DejaVu Sans")
    only = [font for font in font_manager.fontManager.ttflist if font.fname == usual]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", only)
    sheet = _sheet("猫", "cat")
    assert sheet.name(["猫", "cat"]) == [r"\u732b", "cat"]
    with use_style(sheet.fonts):
        figure = figures.plot_labels(sheet, [_label("猫", 0.5)], "recall")
    assert r"\u732b and the like stand for characters that no installed font has." in " ".join(
        _title(figure).split()
    )


def test_looking_for_fonts_logs_nothing(caplog):
    fonts = find_fonts(["ab"])
    with use_style(fonts):
        logging.getLogger("matplotlib.font_manager").warning("building the font cache")
    assert not caplog.records
    logging.getLogger("matplotlib.font_manager").warning("after it")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("score", ["recall", "average_precision", "event_onset_200ms_fms", "segment_1s_er"])
def test_models_share_the_axis_of_a_score(score):
    sheet = _sheet()
    ends = set()
    with use_style(sheet.fonts):
        for value in (0.02, 0.5, 1.0):
            bars = figures.plot_labels(sheet, [LabelScores("a", 9, 9, {score: value})], score)
            grid = figures.plot_grid(sheet, [_point(value)], _point(value), score)
            ends |= {bars.axes[0].get_xlim(), grid.axes[0].get_xlim()}
    assert ends == {(0.0, 2.0 if score == "segment_1s_er" else 1.0)}


def test_bars_have_intervals_and_numbers_and_undefined_labels_are_named():
    sheet = _sheet()
    labels = [_label("good", 0.9), _label("bad", 0.25), LabelScores("absent", 0, 3, {"recall": np.nan})]
    with use_style(sheet.fonts):
        figure = figures.plot_labels(sheet, labels, "recall")
    axes = figure.axes[0]
    assert _ticks(axes.yaxis) == ["bad (10)", "good (10)"]
    assert [text.get_text() for text in axes.texts] == ["0.250", "0.900"]
    intervals = [labels[1].interval_95, labels[0].interval_95]
    assert [tuple(line.get_xdata()) for line in axes.lines] == intervals
    assert "Undefined, so left out: absent." in " ".join(_title(figure).split())


def test_of_many_labels_the_worst_are_shown():
    sheet = _sheet()
    labels = [_label(f"label {i}", i / 527) for i in reversed(range(527))]
    with use_style(sheet.fonts):
        figure = figures.plot_labels(sheet, labels, "recall")
    assert _ticks(figure.axes[0].yaxis)[0] == "label 0 (10)"
    assert len(_ticks(figure.axes[0].yaxis)) == figures.MAX_BARS
    assert f"the {figures.MAX_BARS} worst of 527 labels" in " ".join(_title(figure).split())


def _parts(metric, scores, chance=0.25):
    parts = [
        PartScores({"class": name}, {"queries": 7}, {metric: value}, {metric: chance})
        for name, value in scores.items()
    ]
    return PartPlot("classes", PartTable("classes", "the queries of each label", tuple(parts)), metric)


@pytest.mark.parametrize(("metric", "order"), [("mrr", ["bad", "good"]), ("abx_error", ["good", "bad"])])
def test_parts_have_their_chance_level_and_the_worst_is_first(metric, order):
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_parts(sheet, _parts(metric, {"good": 0.9, "none": np.nan, "bad": 0.1}))
    axes = figure.axes[0]
    assert _ticks(axes.yaxis) == [f"{name} (7)" for name in order]
    assert [tuple(line.get_xdata()) for line in axes.lines] == [(0.25, 0.25)] * 2
    assert axes.get_xlim() == (0, 1)
    title = " ".join(_title(figure).split())
    assert "In brackets: queries; orange: chance. Undefined, so left out: 1." in title
    _assert_all_is_on_the_canvas(figure)


def test_odd_names_of_parts_are_on_the_canvas(tmp_path):
    sheet = _sheet(*ODD)
    with use_style(sheet.fonts):
        figure = figures.plot_parts(sheet, _parts("mrr", dict.fromkeys([*ODD, *LONG], 0.5)))
        _assert_all_is_on_the_canvas(figure)
        drawing.save(figure, tmp_path / "parts")


@pytest.mark.parametrize("size", [3, 13, 99])
def test_errors_are_written_where_there_is_room_and_can_be_read(size):
    names = tuple(f"speaker {i}" for i in range(size))
    errors = np.linspace(0, 1, size * size).reshape(size, size)
    np.fill_diagonal(errors, np.nan)
    plot = ErrorPlot("speakers", "ABX error.", names, names, errors, "speaker of a", "speaker of x")
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_errors(sheet, plot)
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("speaker of a", "speaker of x")
    assert _ticks(axes.yaxis) == list(names[:: 2 if size == 99 else 1])
    # 1 is the end of the scale of every model.
    assert axes.images[0].get_clim() == (0, 1)
    assert axes.images[0].get_array().mask.tolist() == np.eye(size, dtype=bool).tolist()
    assert len(axes.texts) == (6 if size == 3 else 0)
    for text in axes.texts:
        column, row = (int(each) for each in text.get_position())
        assert text.get_text() == f"{errors[row, column]:.2f}"
        assert _contrast(_color(figure, row, column), to_hex(text.get_color())) > 3
    _assert_all_is_on_the_canvas(figure)


def _rated(name, score, pairs=20):
    return RatedSet(name, score, np.linspace(0, 1, pairs), np.linspace(0.1, 1, pairs))


@pytest.mark.parametrize("count", [1, 4, 21])
def test_every_set_has_a_map_of_its_own(count):
    sets = tuple(_rated(f"Iverson{i}", i / count) for i in range(count))
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_ratings(sheet, RatingPlot("distances", "spearman", sets))
        _assert_all_is_on_the_canvas(figure)
    frame, *panels = figure.axes
    assert [text.get_text() for text in frame.texts] == ["rated difference", "distance"]
    assert [axes.get_title() for axes in panels] == [
        f"Iverson{i}\nspearman {i / count:.3f}" for i in range(count)
    ]
    for axes, rated in zip(panels, sets, strict=True):
        (line,) = axes.lines
        assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (
            rated.ratings.tolist(),
            rated.distances.tolist(),
        )
    boxes = [axes.get_window_extent() for axes in panels]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_of_many_sets_the_worst_have_maps_and_of_many_pairs_some_have_points():
    scores = [np.nan, *np.linspace(1, 0, 59)]
    sets = tuple(_rated(f"set {i}", score, pairs=5000) for i, score in enumerate(scores))
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_ratings(sheet, RatingPlot("distances", "spearman", sets))
        _assert_all_is_on_the_canvas(figure)
        undefined = figures.plot_ratings(sheet, RatingPlot("distances", "spearman", (_rated("", np.nan),)))
    panels = figure.axes[1:]
    assert [axes.get_title().split("\n")[0] for axes in panels] == [f"set {i}" for i in range(35, 60)]
    assert "of the 25 worst of 60 sets" in " ".join(_title(figure).split())
    assert {axes.get_xlim() for axes in panels} == {(0, 1)}
    assert {len(axes.lines[0].get_xdata()) for axes in panels} == {1667}
    assert undefined.axes[1].get_title() == "spearman undefined"


def _color(figure, row, column):
    """Return the colour of a cell of a confusion matrix."""
    image = figure.axes[0].images[0]
    return to_hex(image.to_rgba(image.get_array())[row, column])


def _contrast(color, other="#ffffff"):
    """Return the contrast of two colours by WCAG 2.1, from 1 to 21."""

    def luminance(text):
        shares = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_few_errors_are_visible():
    """One clip in a thousand has a colour of its own, and none is white."""
    counts = np.array([[999, 1, 0], [0, 970, 30], [0, 0, 0]])
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_confusion(sheet, counts, ["a", "b", "c"])
    image = figure.axes[0].images[0]
    assert image.get_array().mask.tolist() == (counts == 0).tolist()
    assert _contrast(_color(figure, 0, 1)) > 1.25
    assert _contrast(_color(figure, 1, 2)) > 2.5
    assert len({_color(figure, *cell) for cell in ((0, 0), (0, 1), (1, 2))}) == 3
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [str(count) for count in counts.ravel()]
    assert "1969 of 2000 clips have the right label" in " ".join(_title(figure).split())
    assert _ticks(figure.axes[0].yaxis) == ["a (1000)", "b (1000)", "c (0)"]


def test_counts_can_be_read_on_their_cells():
    counts = np.diag([1000, 800, 500, 200, 90, 40, 20, 10, 5, 2, 1, 0]) + 1
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_confusion(sheet, counts, VOCABULARIES["12"])
        many = figures.plot_confusion(sheet, _counts(13), VOCABULARIES["13"])
    for text in figure.axes[0].texts:
        column, row = (int(each) for each in text.get_position())
        assert _contrast(_color(figure, row, column), to_hex(text.get_color())) > 3
    assert len(figure.axes[0].texts) == 144
    assert not many.axes[0].texts


def _point(score, curve=(), best=None, **settings):
    return GridEntry({"lr": 0.1, **settings}, score, None, best, None, 0.0, tuple(curve))


def test_the_chosen_grid_point_is_marked():
    grid = [_point(0.5, lr=0.1), _point(None, lr=0.2), _point(0.75, lr=0.3)]
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_grid(sheet, grid, grid[2], "pitch_acc")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["0.5000", "undefined", "0.7500, chosen"]
    assert [(line.get_ydata()[0], line.get_marker()) for line in axes.lines] == [(0, "o"), (2, "*")]
    _assert_all_is_on_the_canvas(figure)


def test_curves_mark_the_best_epoch_and_show_single_validations():
    grid = [
        _point(0.6, [(3, 0.5), (6, 0.6), (9, 0.4)], 6, lr=0.1),
        _point(0.1, [(3, 0.1)], 3, lr=0.2),
        _point(None, [(3, None)], lr=0.3),
    ]
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_curves(sheet, grid, grid[0], "pitch_acc")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "lr 0.1, chosen",
        "lr 0.2",
        "lr 0.3, undefined",
    ]
    (star,) = [line for line in axes.lines if line.get_marker() == "*"]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([6], [0.6])
    assert all(line.get_marker() not in ("", "None") for line in axes.lines)
    assert axes.get_ylim() == (0, 1)
    _assert_all_is_on_the_canvas(figure)


def test_no_two_of_32_curves_look_alike():
    grid = [_point(0.5, [(3, 0.5)], 3, lr=i / 100) for i in range(32)]
    sheet = _sheet()
    with use_style(sheet.fonts):
        figure = figures.plot_curves(sheet, grid, grid[0], "pitch_acc")
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "*"]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 32
    _assert_all_is_on_the_canvas(figure)


def test_timelines_keep_the_order_of_the_vocabulary():
    events = ClipEvents((TimelineEvent("100", 0, 900),), (TimelineEvent("20", 100, 100.5),))
    sheet = _sheet("a.wav")
    with use_style(sheet.fonts):
        figure = figures.plot_timeline(sheet, Timeline("test", "$a_$.wav", events), ["20", "21", "100"])
        empty = figures.plot_timeline(sheet, Timeline("test", "b.wav", ClipEvents((), ())), ["20"])
    axes = figure.axes[0]
    assert _ticks(axes.yaxis) == ["20", "100"]
    # Half a millisecond would be invisible without its edge.
    assert all(bar.get_linewidth() > 0 for bar in axes.patches)
    assert "test/$a_$.wav" in _title(figure)
    assert [text.get_text() for text in empty.axes[0].texts] == ["no events"]
    for each in (figure, empty):
        _assert_all_is_on_the_canvas(each)


@pytest.mark.parametrize("kind", ["scene", "folds", "multilabel", "event"])
def test_every_figure_of_a_report_is_headed(kind, scene_folder, event_folder, tmp_path):
    changes = {
        "scene": {},
        "folds": FOLDS,
        "multilabel": {"prediction_type": "multilabel", "evaluation": ["mAP", "aucroc"]},
        "event": {"clips": 16},
    }
    folder = (event_folder if kind == "event" else scene_folder)(**changes[kind])
    stored = _stored(folder, Protocol(grid_points=2, seeds=2, device="cpu"))
    report = make_report(stored, Places())
    metric = stored.scores.metrics[0]
    with use_style(report.sheet.fonts):
        drawn = draw_figures(stored, report)
    assert {"labels", "grid", "curves"} <= set(drawn)
    for figure in drawn.values():
        title = " ".join(_title(figure).split())
        assert f"task {folder.name}" in title
        assert f"model {folder.parent.name}" in title
        assert (
            f"protocol hear2021-2points-2seeds: {metric} {stored.score(metric):.4f} (95 % interval" in title
        )
        assert f"), chance {stored.scores.scores[metric].chance:.4f}" in title
        assert "seed 0" in title
        _assert_all_is_on_the_canvas(figure)
    for label in report.values["labels"]:
        low, high = label["interval_95"]
        assert low <= label[stored.kind.plotted_score] <= high
    named = set(report.values["labels"][0]) - {"label", "support", "predicted"}
    assert set(report.values["averaging"]) == named


def test_interval_of_a_label_is_the_bootstraps(scene_folder):
    """Against resamples that are drawn and scored one by one."""
    folder = scene_folder(prediction_type="multilabel", evaluation=["mAP"])
    stored = _stored(folder)
    (fold,) = stored.first_folds
    rng = np.random.default_rng(3)
    for i, label in enumerate(stored.kind.score_labels(stored.first_folds)):
        scores = []
        while len(scores) < 400:
            rows = rng.integers(fold.clips, size=fold.clips)
            if fold.reference[rows, i].any():
                scores.append(average_precision_score(fold.reference[rows, i], fold.predicted[rows, i]))
        shift = label.scores["average_precision"] - np.median(scores)
        expected = np.clip(np.quantile(scores, [0.025, 0.975]) + shift, 0, 1)
        assert label.interval_95 == pytest.approx(expected, abs=0.06)


def test_interval_of_recall_has_a_width_where_all_clips_are_right(scene_folder):
    folder = scene_folder()
    stored = _stored(folder)
    (fold,) = stored.first_folds
    perfect = type(fold)(fold.clips, fold.reference, fold.reference.astype(np.float32))
    for label in stored.kind.score_labels([perfect]):
        # Wilson's interval of 8 out of 8.
        assert (label.support, label.scores["recall"]) == (8, 1.0)
        assert label.interval_95 == pytest.approx((0.6756, 1.0), abs=1e-4)


def test_clips_of_scene_tasks_are_refused(scene_folder):
    folder = scene_folder()
    _stored(folder)
    with pytest.raises(HearevalError, match="got a scene task, expected an event task") as refused:
        write_reports(folder, (), Places(), out=None, clips=("test_0.wav",))
    assert "\n" not in str(refused.value)
    assert not list(folder.glob("report-*"))


def test_unknown_clips_are_told_without_listing_all(event_folder):
    folder = event_folder(clips=30)
    _stored(folder)
    with pytest.raises(HearevalError, match="one of its 30 tested clips") as refused:
        write_reports(folder, (), Places(), out=None, clips=("test_99.wav",))
    assert len(str(refused.value)) < 200


def test_reports_of_odd_labels_are_written_without_a_warning(scene_folder, tmp_path):
    folder = scene_folder()
    odd = dict(zip(("drum", "flute", "7"), ("$x_1$", "猫", "a\u202eb"), strict=True))
    vocabulary = "".join(f"{i},{label}\n" for i, label in enumerate(odd.values()))
    (folder / "labelvocabulary.csv").write_text("idx,label\n" + vocabulary, encoding="utf-8")
    for split in ("train", "valid", "test"):
        path = folder / f"{split}.json"
        labels = {
            clip: [odd[str(one)] for one in mine] for clip, mine in json.loads(path.read_text()).items()
        }
        path.write_text(json.dumps(labels))
    _stored(folder)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        (written,) = write_reports(folder, (), Places(), out=None, clips=())
    assert not raised
    assert (written / "confusion.svg").is_file()
