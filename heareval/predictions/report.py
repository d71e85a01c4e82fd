"""A report on one result: a folder of JSON and figures, made of what the evaluation left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import HearevalError, unknown_name
from heareval.layout import Places
from heareval.predictions import figures
from heareval.predictions.diagnostics import (
    ClipScore,
    LabelScores,
    Timeline,
    confusion,
    label_scores,
    ranked_clips,
    timeline,
)
from heareval.predictions.stored import Stored, read_stored

REPORT = "report.json"
WORST_CLIPS = 20
DRAWN_TIMELINES = 3
# Of a confusion matrix, the pairs that are told in words.
CONFUSED_PAIRS = 20


@dataclass(frozen=True)
class Report:
    """What a report says: JSON values, and what its figures are drawn from."""

    values: Mapping[str, Any]
    labels: tuple[LabelScores, ...]
    timelines: tuple[Timeline, ...]


def write_reports(
    folder: Path, protocols: tuple[str, ...], places: Places, *, out: Path | None, clips: tuple[str, ...]
) -> list[Path]:
    """A report for each protocol that an embeddings folder has scores of, whole or not at all; their folders.

    Args:
        folder: embeddings/SUBMISSION/TASK.
        protocols: only these; empty means all.
        out: where the reports go, by submission and task; None is the embeddings folder.
        clips: names of clips of an event task to draw beside the worst.

    Raises:
        HearevalError: there are no results, or no such protocol or clip.
    """
    known = layout.scored_protocols(folder)
    if not known:
        got = "no scores" if folder.is_dir() else "no such folder"
        raise HearevalError(f"{folder}", got=got, remedy="Make them with `heareval predict`.")
    written = []
    for protocol in protocols or known:
        stored = read_stored(folder, protocol)
        target = folder if out is None else out / folder.parent.name / folder.name
        target /= layout.report(protocol)
        report = make_report(stored, places, clips)
        with files.building_folder(target, replace=True) as scratch:
            files.write_json(scratch / REPORT, report.values)
            draw(scratch, stored, report)
        written.append(target)
    return written


def make_report(stored: Stored, places: Places, clips: tuple[str, ...] = ()) -> Report:
    """All that there is to say about a result."""
    labels, ranking = label_scores(stored), ranked_clips(stored)
    worst = ranking.clips[:WORST_CLIPS]
    timelines = _timelines(stored, worst, clips) if stored.task.is_event else ()
    copied = ("submission", "seed", "decided_by", "settings", "folds", "grid", "clips", "problems")
    values = {
        "submission_folder": stored.folder.parent.name,
        "task": stored.folder.name,
        "protocol": stored.protocol,
        "fingerprint": stored.results["fingerprint"],
        "scores": stored.results["scores"],
        "seeds": stored.results.get("seeds", 1),
        "shown": _shown(stored),
        "labels": [_label_json(each) for each in labels],
        "confusion": _confusion_json(stored),
        "worst_clips": {
            "measure": ranking.measure,
            "worst": "highest" if ranking.high_is_bad else "lowest",
            "clips": [_clip_json(each, stored, places) for each in worst],
        },
        "timelines": [asdict(each) for each in timelines],
        **{name: stored.results[name] for name in copied},
    }
    return Report(values, labels, timelines)


def _shown(stored: Stored) -> str:
    """What labels, clips, settings and figures are of, beside the scores."""
    seeds = len(stored.runs)
    return f"seed {stored.results['seed']}" + (f"; scores are means over {seeds} seeds" if seeds > 1 else "")


def _timelines(stored: Stored, worst: tuple[ClipScore, ...], clips: tuple[str, ...]) -> tuple[Timeline, ...]:
    """Those of the clips asked for, then of the worst."""
    splits = {clip: fold.split for fold in stored.runs[0] for clip in fold.predictions.clips}
    for clip in clips:
        if clip not in splits:
            raise unknown_name(f"tested clip of {stored.folder.name}", clip, splits)
    worst_names = [each.clip for each in worst[:DRAWN_TIMELINES]]
    return tuple(timeline(stored, splits[clip], clip) for clip in dict.fromkeys([*clips, *worst_names]))


def _label_json(label: LabelScores) -> dict[str, Any]:
    scores = {name: score if math.isfinite(score) else None for name, score in label.scores.items()}
    return {"label": label.label, "support": label.support, "predicted": label.predicted, **scores}


def _confusion_json(stored: Stored) -> dict[str, Any] | None:
    """The matrix, a row for each true label, and which labels are most often taken for which."""
    counts = confusion(stored)
    if counts is None:
        return None
    names = stored.task.labels
    pairs = [
        {"true": names[i], "predicted": names[j], "clips": int(counts[i, j])}
        for i, j in zip(*counts.nonzero(), strict=True)
        if i != j
    ]
    pairs.sort(key=lambda pair: -pair["clips"])  # type: ignore[operator]
    return {"labels": list(names), "counts": counts.tolist(), "most_confused": pairs[:CONFUSED_PAIRS]}


def _clip_json(clip: ClipScore, stored: Stored, places: Places) -> dict[str, Any]:
    """A clip, with the path of its sound where that is there."""
    rate = stored.task.submission.get("sample_rate", 0)
    path = places.clip(stored.folder.name, rate, clip.split, clip.clip)
    unit = "events" if stored.task.is_event else "probability"
    said = [{"label": label, unit: value} for label, value in clip.said]
    return {
        **asdict(clip),
        "said": said,
        "sound": str(path) if path.is_file() else None,
    }


def draw(folder: Path, stored: Stored, report: Report) -> None:
    """All figures of a report, as PNG and SVG."""
    decided_by, grid = report.values["decided_by"], report.values["grid"]
    with figures.style():
        figures.draw_labels(folder / "labels", report.labels, _drawn_score(stored))
        if (counts := confusion(stored)) is not None:
            figures.draw_confusion(folder / "confusion", counts, stored.task.labels)
        for number, each in enumerate(report.timelines, start=1):
            figures.draw_timeline(folder / f"timeline-{number}", each)
        figures.draw_grid(folder / "grid", grid, decided_by)
        if any(point.get("curve") for point in grid):
            figures.draw_curves(folder / "curves", grid, decided_by)


def _drawn_score(stored: Stored) -> str:
    """What the bars of labels show."""
    if stored.task.is_event:
        return str(next(iter(stored.results["scores"])))
    return "average_precision" if stored.task.is_multilabel else "recall"
