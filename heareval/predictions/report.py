"""Reports: a folder of JSON and figures about one stored result."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heareval import drawing, files, layout
from heareval.drawing import Sheet, find_fonts
from heareval.errors import HearevalError
from heareval.formats.relations import name_relation
from heareval.formats.scores import defined_or_none, scores_to_json
from heareval.layout import Places
from heareval.predictions import figures
from heareval.predictions.breakdowns import Breakdown, Case, ErrorPlot, PartPlot, PartScores, Plot, break_down
from heareval.predictions.diagnostics import ClipScore, Timeline, make_timeline, rank_clips
from heareval.predictions.kinds import PairwiseKind
from heareval.predictions.kinds.kind import LabelScores
from heareval.predictions.metrics import METRICS
from heareval.predictions.stored import StoredResult, read_stored
from heareval.predictions.table import format_interval, format_number

if TYPE_CHECKING:
    from heareval.drawing import Figure

REPORT = "report.json"
WORST_CLIPS = 20
PLOTTED_TIMELINES = 3
# How many labels of the worst clip its line names.
NAMED_LABELS = 3
# How many pairs of confused labels are listed beside the matrix.
CONFUSED_PAIRS = 20
# Keys of the scores file that a report repeats.
COPIED = ("submission", "seed", "decided_by", "settings", "folds", "grid", "clips", "problems")


@dataclass(frozen=True)
class ResultReport:
    """A report before it is written: its JSON values, and what its figures show.

    Args:
        labels: the performance on each label; none in pairwise tasks.
        timelines: the events of some clips of event tasks.
        plots: further figures of pairwise tasks.
        sheet: what the figures share.
    """

    values: Mapping[str, Any]
    labels: tuple[LabelScores, ...]
    timelines: tuple[Timeline, ...]
    plots: tuple[Plot, ...]
    sheet: Sheet


def write_reports(
    folder: Path,
    protocols: tuple[str, ...],
    places: Places,
    *,
    out: Path | None,
    clips: tuple[str, ...],
    notify: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Write a report for each protocol, whole or not at all, and return the folders of the reports.

    Args:
        folder: embeddings/SUBMISSION/TASK.
        protocols: which protocols; empty means all that the folder has scores of.
        places: where the task folders are, whose sounds the reports refer to.
        out: where the reports go, by submission and task; None means the embeddings folder.
        clips: names of clips of an event task that are plotted in addition to the worst.
        notify: receives a line for each part that a report lacks.

    Raises:
        HearevalError: there are no results, or no such protocol or clip.
    """
    known = layout.scored_protocols(folder)
    if not known:
        got = "no scores" if folder.is_dir() else "no such folder"
        raise HearevalError(f"{folder}", got=got, remedy="Run `heareval predict` first.")
    written = []
    for protocol in protocols or known:
        result = read_stored(folder, protocol)
        target = folder if out is None else out / folder.parent.name / folder.name
        target /= layout.report(protocol)
        report = make_report(result, places, clips)
        with files.building_folder(target, replace=True, mark=REPORT) as scratch:
            files.write_json(scratch / REPORT, report.values)
            write_figures(scratch, result, report)
        for line in report.values.get("left_out", ()):
            notify(f"note: {layout.display_path(target)}: {line}")
        written.append(target)
    return written


def make_report(
    result: StoredResult, places: Places, clips: tuple[str, ...] = (), *, model: str = ""
) -> ResultReport:
    """Return the report on a result.

    Args:
        clips: names of clips of an event task that get a timeline in addition to the worst.
        model: name of the model in the headings of figures; "" means that of the submission's folder.

    Raises:
        HearevalError: no such clip was tested, or the task has no events.
    """
    if clips and not result.kind.has_frames:
        raise HearevalError(
            f"clip {clips[0]} of {result.folder.name}",
            got=f"a {result.kind.name} task",
            expected="an event task, whose clips have events to plot",
            remedy="Leave out --clip; report.json lists the worst clips.",
        )
    if isinstance(result.kind, PairwiseKind):
        found = break_down(result, result.kind)
        values = _describe_result(result) | {"findings": _find_hardest(found)}
        values |= _breakdown_json(found, result, places)
        return ResultReport(values, (), (), found.plots, _make_sheet(result, model, _list_texts(found)))
    labels, ranking = result.trained_kind.score_labels(result.first_folds), rank_clips(result)
    worst, measure = ranking.clips[:WORST_CLIPS], _name_predicted(ranking.measure, result)
    timelines = _make_timelines(result, worst, clips) if result.kind.has_frames else ()
    confusion = _confusion_json(result)
    values = _describe_result(result) | {
        "findings": _find_worst(result, labels, confusion, worst, measure),
        "averaging": dict(result.trained_kind.averaging),
        "labels": [_label_json(label) for label in labels],
        "confusion": confusion,
        "worst_clips": {
            "measure": measure,
            "worst": "highest" if ranking.high_is_bad else "lowest",
            "clips": [_clip_json(clip, result, places) for clip in worst],
        },
        "timelines": [_timeline_json(timeline) for timeline in timelines],
    }
    shown = [*result.task.labels, *(timeline.clip for timeline in timelines)]
    return ResultReport(values, labels, timelines, (), _make_sheet(result, model, shown))


def _name_predicted(name: str, result: StoredResult) -> str:
    """Return a name with the word for what was predicted: the linear probe's outputs are no probabilities."""
    return name if result.has_probabilities else name.replace("probability", "output")


def _find_worst(
    result: StoredResult,
    labels: Sequence[LabelScores],
    confusion: Mapping[str, Any] | None,
    clips: Sequence[ClipScore],
    measure: str,
) -> list[str]:
    """Return lines on the worst label, the most frequent confusion and the worst clip, if there are any."""
    name = result.trained_kind.plotted_score
    unit = _name_predicted(result.trained_kind.predicted_unit, result)
    found = []
    if scored := [label for label in labels if label.support and math.isfinite(label.scores[name])]:
        is_error = name in METRICS and not METRICS[name].maximise
        worst = (max if is_error else min)(scored, key=lambda label: label.scores[name])
        found.append(f"worst label: {worst.label}, {name} {worst.scores[name]:.4f} (support {worst.support})")
    if confusion and (pairs := confusion["most_confused"]):
        first = pairs[0]
        true = confusion["counts"][confusion["labels"].index(first["true"])]
        found.append(
            f"most frequent confusion: {first['true']} mistaken for {first['predicted']} in "
            f"{first['clips']} of {sum(true)} clips"
        )
    if clips:
        clip = clips[0]
        said = ", ".join(f"{label} ({unit} {value:.4g})" for label, value in clip.labels.predicted[:1])
        labels_of_clip = [str(label) for label in clip.labels.reference]
        more = len(labels_of_clip) - NAMED_LABELS
        truth = ", ".join(labels_of_clip[:NAMED_LABELS]) + (f" and {more} more" if more > 0 else "")
        found.append(
            f"worst clip: {clip.split}/{clip.clip}, {measure} {format_number(clip.value)}: labelled "
            f"{truth or 'nothing'}, predicted {said or 'nothing'}"
        )
    return found


def _find_hardest(found: Breakdown) -> list[str]:
    """Return the hardest case of each kind in a pairwise task, a line each."""
    lines = []
    for cases in found.cases:
        for case in cases.cases[:1]:
            clips = ", ".join(f"{role} {clip}" for role, clip in case.clips.items())
            values = ", ".join(f"{name} {_show_value(value)}" for name, value in case.values.items())
            lines.append(f"hardest of the {cases.name}: {clips}{f' ({values})' if values else ''}")
    return lines


def _show_value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _describe_result(result: StoredResult) -> dict[str, Any]:
    """Return what every report says, whatever the kind of the task."""
    scores = scores_to_json(result.scores)
    return {
        "submission_folder": result.folder.parent.name,
        "task": result.folder.name,
        "protocol": result.protocol,
        "fingerprint": scores["fingerprint"],
        "scores": scores["scores"],
        "seeds": scores["seeds"],
        "shown": _describe_seed(result),
        **{key: scores[key] for key in COPIED},
    }


def _make_sheet(result: StoredResult, model: str, texts: Sequence[str]) -> Sheet:
    """Return the heading of all figures, with fonts for the texts that they show."""
    metric = result.scores.metrics[0]
    score = result.scores.scores[metric]
    interval = format_interval(score.interval_95)
    heading = (
        f"task {result.folder.name}",
        f"model {model or result.folder.parent.name}",
        f"protocol {result.protocol}: {metric} {format_number(score.score)}"
        + (f" (95 % interval {interval})" if interval else "")
        + (f", chance {format_number(score.chance)}" if score.chance is not None else "")
        + (f"; the figure shows {_describe_seed(result)}" if len(result.runs) > 1 else ""),
    )
    return Sheet(heading, find_fonts([*heading, *texts]))


def _describe_seed(result: StoredResult) -> str:
    """Return which seed everything but the scores shows."""
    seeds = len(result.runs)
    seed = f"seed {result.scores.runs[0].seed}"
    return seed + (f"; scores are means over {seeds} seeds" if seeds > 1 else "")


def _make_timelines(
    result: StoredResult, worst: tuple[ClipScore, ...], clips: tuple[str, ...]
) -> tuple[Timeline, ...]:
    """Return the timelines of the requested clips, then of the worst ones."""
    splits = {clip: fold.split for fold in result.runs[0] for clip in fold.predictions.clips}
    for clip in clips:
        if clip not in splits:
            # There may be thousands, so don't list them all.
            near = difflib.get_close_matches(clip, splits, n=2)
            raise HearevalError(
                f"unknown tested clip of {result.folder.name}",
                got=repr(clip),
                expected=f"one of its {len(splits)} tested clips",
                remedy=f"Did you mean {' or '.join(near)}?" if near else "",
            )
    worst_names = [each.clip for each in worst[:PLOTTED_TIMELINES]]
    return tuple(make_timeline(result, splits[clip], clip) for clip in dict.fromkeys([*clips, *worst_names]))


def _label_json(label: LabelScores) -> dict[str, Any]:
    scores = {name: score if math.isfinite(score) else None for name, score in label.scores.items()}
    counted = {"label": label.label, "support": label.support, "predicted": label.predicted}
    # The interval is that of the plotted score.
    return {**counted, **scores, "interval_95": _interval_json(label.interval_95)}


def _interval_json(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [end if math.isfinite(end) else None for end in interval]


def _confusion_json(result: StoredResult) -> dict[str, Any] | None:
    """Return the confusion matrix, with a row for each true label, and the pairs confused most often."""
    counts = result.trained_kind.count_confusions(result.first_folds)
    if counts is None:
        return None
    names = result.task.labels
    pairs = [
        {"true": names[i], "predicted": names[j], "clips": int(counts[i, j])}
        for i, j in zip(*counts.nonzero(), strict=True)
        if i != j
    ]
    pairs.sort(key=lambda pair: -pair["clips"])  # type: ignore[operator]
    return {"labels": list(names), "counts": counts.tolist(), "most_confused": pairs[:CONFUSED_PAIRS]}


def _clip_json(clip: ClipScore, result: StoredResult, places: Places) -> dict[str, Any]:
    """Return a clip with the path of its sound."""
    unit = _name_predicted(result.trained_kind.predicted_unit, result)
    return {
        "split": clip.split,
        "clip": clip.clip,
        "score": clip.value,
        "truth": clip.labels.reference,
        "said": [{"label": label, unit: value} for label, value in clip.labels.predicted],
        "sound": _find_sound(clip.split, clip.clip, result, places),
    }


def _find_sound(split: str, clip: str, result: StoredResult, places: Places) -> str | None:
    """Return the path of a clip's sound, None if that is missing."""
    rate = result.scores.submission.get("sample_rate", 0)
    manifest = result.task.manifest
    task_folder = manifest.task if manifest and manifest.limit is not None else result.folder.name
    path = places.clip(task_folder, rate, split, clip)
    return str(path) if path.is_file() else None


def _breakdown_json(found: Breakdown, result: StoredResult, places: Places) -> dict[str, Any]:
    """Return what lies behind the scores of a pairwise task."""
    return {
        "relation": name_relation(result.task.relation) if result.task.relation else "",
        "left_out": list(found.left_out),
        "tables": {
            table.name: {"about": table.about, "parts": [_part_json(part) for part in table.parts]}
            for table in found.tables
        },
        "hardest": {
            cases.name: {
                "order": cases.order,
                "cases": [_case_json(case, result, places) for case in cases.cases],
            }
            for cases in found.cases
        },
    }


def _part_json(part: PartScores) -> dict[str, Any]:
    scores, chance = (
        {name: defined_or_none(value) for name, value in values.items()}
        for values in (part.scores, part.chance)
    )
    return {**part.names, **part.counts, **scores, "chance": chance}


def _case_json(case: Case, result: StoredResult, places: Places) -> dict[str, Any]:
    """Return the clips of a case with their attributes and sounds, and what was measured."""
    (split,) = (fold.split for fold in result.runs[0])
    attributes = {clip.name: clip.attributes for clip in result.kind.find_order(split).clips}
    clips = {
        role: {
            "clip": clip,
            "attributes": dict(attributes[clip]),
            "sound": _find_sound(split, clip, result, places),
        }
        for role, clip in case.clips.items()
    }
    return {**clips, **case.values}


def _list_texts(found: Breakdown) -> list[str]:
    """Return the names that the figures of a pairwise task show."""
    return [name for table in found.tables for part in table.parts for name in part.names.values()]


def _timeline_json(timeline: Timeline) -> dict[str, Any]:
    return {
        "split": timeline.split,
        "clip": timeline.clip,
        "truth": [asdict(event) for event in timeline.events.reference],
        "said": [asdict(event) for event in timeline.events.predicted],
    }


def draw_figures(result: StoredResult, report: ResultReport) -> dict[str, Figure]:
    """Return all figures of a report by the names of their files, drawn in the style of `use_style`.

    Those of validation are missing if the result does not say which settings were tried, as in a card.
    """
    if isinstance(result.kind, PairwiseKind):
        return {plot.name: _draw_plot(report.sheet, plot) for plot in report.plots}
    run, decided_by = result.scores.runs[0], result.scores.decided_by
    sheet, labels = report.sheet, result.task.labels
    chosen = run.folds[0].model
    drawn = {"labels": figures.plot_labels(sheet, report.labels, result.trained_kind.plotted_score)}
    if (counts := result.trained_kind.count_confusions(result.first_folds)) is not None:
        drawn["confusion"] = figures.plot_confusion(sheet, counts, labels)
    for number, timeline in enumerate(report.timelines, start=1):
        drawn[f"timeline-{number}"] = figures.plot_timeline(sheet, timeline, labels)
    if run.grid:
        drawn["grid"] = figures.plot_grid(sheet, run.grid, chosen, decided_by)
    if any(point.curve for point in run.grid):
        drawn["curves"] = figures.plot_curves(sheet, run.grid, chosen, decided_by)
    return drawn


def _draw_plot(sheet: Sheet, plot: Plot) -> Figure:
    if isinstance(plot, PartPlot):
        return figures.plot_parts(sheet, plot)
    if isinstance(plot, ErrorPlot):
        return figures.plot_errors(sheet, plot)
    return figures.plot_ratings(sheet, plot)


def write_figures(folder: Path, result: StoredResult, report: ResultReport) -> None:
    """Write all figures of a report, as PNG and SVG."""
    with drawing.use_style(report.sheet.fonts):
        for name, figure in draw_figures(result, report).items():
            drawing.save(figure, folder / name)
