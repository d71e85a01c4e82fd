"""Reports: their numbers against scikit-learn and METRICS, their files whole and the same each time."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from heareval import layout
from heareval.commands import main
from heareval.errors import HearevalError
from heareval.layout import Places
from heareval.predictions.data import read_task
from heareval.predictions.diagnostics import make_timeline, rank_clips
from heareval.predictions.evaluation import evaluate_folder
from heareval.predictions.kinds import find_kind, read_splits
from heareval.predictions.metrics import METRICS
from heareval.predictions.metrics.event import EventTable
from heareval.predictions.protocol import Protocol
from heareval.predictions.report import write_reports
from heareval.predictions.stored import read_stored
from heareval.predictions.writing import write_results
from tests.commands import command

NAME = "hear2021-2points"
DEFAULT = Places()
FOLDS = {"splits": ("fold00", "fold01", "fold02"), "split_mode": "new_split_kfold"}


def _stored(folder):
    result = evaluate_folder(folder, Protocol(grid_points=2, device="cpu"))
    write_results(folder, result, "beef", "0123456789abcdef")
    return read_stored(folder, NAME)


def _report(folder, out=None, clips=(), places=DEFAULT):
    (written,) = write_reports(folder, (), places, out=out, clips=clips)
    return written, json.loads((written / "report.json").read_text())


def test_labels_of_clips_are_scikit_learns(scene_folder):
    stored = _stored(scene_folder(**FOLDS))
    folds = [fold.scored for fold in stored.runs[0]]
    truth = np.concatenate([fold.reference.argmax(axis=1) for fold in folds])
    said = np.concatenate([fold.predicted.argmax(axis=1) for fold in folds])
    precision, recall, f1, support = precision_recall_fscore_support(truth, said, labels=range(3))
    for i, found in enumerate(stored.kind.score_labels(stored.first_folds)):
        assert (found.support, found.predicted) == (support[i], np.count_nonzero(said == i))
        ranked = [
            np.mean([score(fold.reference[:, i], fold.predicted[:, i]) for fold in folds])
            for score in (average_precision_score, roc_auc_score)
        ]
        expected = (precision[i], recall[i], f1[i], *ranked)
        assert tuple(found.scores.values()) == pytest.approx(expected, abs=1e-9)
    assert (
        stored.kind.count_confusions(stored.first_folds) == confusion_matrix(truth, said, labels=range(3))
    ).all()


def test_the_linear_probe_has_outputs_instead_of_probabilities(scene_folder):
    """Ridge regression predicts numbers outside of 0 and 1."""
    folder = scene_folder()
    words = {}
    for probe in ("linear", "knn-l1"):
        result = evaluate_folder(folder, Protocol(probe=probe, device="cpu"))
        write_results(folder, result, "beef", "0123456789abcdef")
        (written,) = write_reports(folder, (f"probe-{probe}",), DEFAULT, out=None, clips=())
        report = json.loads((written / "report.json").read_text())
        worst = report["worst_clips"]
        keys = {key for clip in worst["clips"] for said in clip["said"] for key in said}
        words[probe] = (worst["measure"], keys, "probability" in " ".join(report["findings"]))
    assert words == {
        "linear": ("output of its label", {"label", "output"}, False),
        "knn-l1": ("probability of its label", {"label", "probability"}, True),
    }


def test_labels_without_clips_have_no_score(scene_folder):
    folder = scene_folder(prediction_type="multilabel", evaluation=["mAP"])
    labels = {clip: [one for one in mine if one != 7] for clip, mine in _read(folder / "test.json").items()}
    (folder / "test.json").write_text(json.dumps(labels))
    stored = _stored(folder)
    *others, last = stored.kind.score_labels(stored.first_folds)
    assert last.support == 0
    assert math.isnan(last.scores["average_precision"])
    assert math.isnan(last.scores["recall"])
    assert not any(math.isnan(each.scores["average_precision"]) for each in others)
    assert stored.kind.count_confusions(stored.first_folds) is None


def _read(path):
    return json.loads(path.read_text())


def test_labels_of_events_have_the_tasks_metrics(event_folder):
    stored = _stored(event_folder(**FOLDS))
    tables = ([], [])
    for number, fold in enumerate(stored.runs[0]):
        for rows, table in zip(tables, (fold.scored.reference, fold.scored.predicted), strict=True):
            rows += zip(table.clip + 5 * number, table.label, table.onset_ms, table.offset_ms, strict=True)
    for i, found in enumerate(stored.kind.score_labels(stored.first_folds)):
        columns = [np.array([row for row in rows if row[1] == i]).T for rows in tables]
        mine = [EventTable(c[0].astype(int), c[1].astype(int), c[2], c[3]) for c in columns]
        assert found.support == len(mine[0])
        assert found.scores == {name: METRICS[name].function(*mine) for name in stored.scores.metrics}


def test_worst_clips_of_one_label(scene_folder):
    stored = _stored(scene_folder())
    ranking = rank_clips(stored)
    scores = [clip.value for clip in ranking.clips]
    fold = stored.runs[0][0]
    assert scores == sorted((fold.predictions.targets * fold.predictions.probabilities).sum(axis=1).tolist())
    worst = ranking.clips[0]
    said = dict(
        zip(
            stored.task.labels,
            fold.predictions.probabilities[fold.predictions.clips.index(worst.clip)],
            strict=True,
        )
    )
    assert worst.value == pytest.approx(said[worst.labels.reference[0]])
    assert worst.labels.predicted[0][1] == pytest.approx(max(said.values()))


def test_worst_clips_of_many_labels(scene_folder):
    stored = _stored(scene_folder(prediction_type="multilabel", evaluation=["mAP"]))
    ranking = rank_clips(stored)
    said = stored.runs[0][0].predictions
    losses = torch.nn.functional.binary_cross_entropy(
        torch.from_numpy(said.probabilities).double(),
        torch.from_numpy(said.targets).double(),
        reduction="none",
    )
    assert ranking.high_is_bad
    found = [clip.value for clip in ranking.clips]
    assert found == pytest.approx(sorted(losses.mean(dim=1).tolist(), reverse=True), abs=1e-6)


def test_worst_clips_of_events(event_folder):
    stored = _stored(event_folder())
    ranking = rank_clips(stored)
    assert (ranking.measure, ranking.high_is_bad) == ("event_onset_200ms_fms", False)
    fold = stored.runs[0][0]
    worst = ranking.clips[0]
    row = fold.predictions.clips.index(worst.clip)
    alone = [table.select(table.clip == row) for table in (fold.scored.reference, fold.scored.predicted)]
    assert worst.value == METRICS["event_onset_200ms_fms"].function(*alone)
    lane = make_timeline(stored, "test", worst.clip)
    assert len(lane.events.reference) == 4
    assert {event.label for event in lane.events.reference} == set(worst.labels.reference)
    split = read_splits(find_kind(read_task(stored.folder)), torch.device("cpu"))["test"]
    assert [event.start_ms for event in lane.events.reference] == split.events.onset_ms[
        split.events.clip == row
    ].tolist()


@pytest.mark.slow
def test_a_report_is_the_same_bytes_each_time(scene_folder, event_folder):
    for folder in (scene_folder(), event_folder()):
        _stored(folder)
        written, values = _report(folder)
        first = {path.name: path.read_bytes() for path in written.iterdir()}
        again, _ = _report(folder)
        assert again == written == folder / layout.report(NAME)
        assert first == {path.name: path.read_bytes() for path in again.iterdir()}
        assert values["scores"] == _read(folder / layout.scores(NAME))["scores"]
        kinds = {"confusion"} if values["confusion"] else {"timeline-1", "timeline-2", "timeline-3"}
        figures = {
            f"{name}.{kind}" for name in {"labels", "grid", "curves", *kinds} for kind in ("png", "svg")
        }
        assert set(first) == {"report.json", *figures}
        assert all(body.startswith(b"\x89PNG") for name, body in first.items() if name.endswith("png"))
        assert all(b"</svg>" in body for name, body in first.items() if name.endswith("svg"))


def test_curves_are_drawn_where_they_were_recorded(scene_folder):
    folder = scene_folder()
    _stored(folder)
    path = folder / layout.scores(NAME)
    results = _read(path)
    for point in results["grid"]:
        point["curve"] = [[3, 0.2], [6, None], [9, 0.5]]
    path.write_text(json.dumps(results))
    written, values = _report(folder)
    assert (written / "curves.svg").is_file()
    assert values["grid"][0]["curve"] == [[3, 0.2], [6, None], [9, 0.5]]


def test_paths_of_sounds_that_are_there(scene_folder, tmp_path):
    folder = scene_folder()
    (folder / "MANIFEST.json").write_text(
        json.dumps({"fingerprint": "0123456789abcdef", "arrays": [], "submission": {"sample_rate": 16000}})
    )
    stored = _stored(folder)
    clip = rank_clips(stored).clips[0].clip
    sound = tmp_path / "tasks" / "scene" / "16000" / "test" / clip
    sound.parent.mkdir(parents=True)
    sound.touch()
    _, values = _report(folder, places=Places(tasks=str(tmp_path / "tasks")))
    first, second = values["worst_clips"]["clips"][:2]
    assert (first["sound"], second["sound"]) == (str(sound), None)


def test_command(event_folder, tmp_path):
    folder = event_folder()
    stored = _stored(folder)
    best = rank_clips(stored).clips[-1].clip
    run = CliRunner().invoke(main, ["report", str(folder), "--clip", best, "--out", str(tmp_path / "out")])
    assert run.exit_code == 0
    written = tmp_path / "out" / tmp_path.name / "event" / "report-hear2021-2points"
    first, label, clip = run.stdout.splitlines()
    assert first == str(written)
    assert label.startswith("  worst label: ")
    assert clip.startswith("  worst clip: test/test_")
    assert _read(written / "report.json")["timelines"][0]["clip"] == best
    assert (written / "timeline-4.png").is_file()


def test_reports_of_the_same_name_do_not_replace_each_other(scene_folder, tmp_path):
    folders = []
    for name in ("today", "yesterday"):
        (tmp_path / name / "mine").mkdir(parents=True)
        folder = scene_folder()
        _stored(folder)
        folders.append(str(folder.rename(tmp_path / name / "mine" / "scene")))
    out = tmp_path / "out"
    run = CliRunner().invoke(main, ["report", *folders, "--out", str(out)])
    assert (run.exit_code, out.exists()) == (2, False)
    assert run.stderr.startswith(f"error: reports below --out on {folders[0]} and {folders[1]}: got the same")
    # The same folder twice is one report.
    assert CliRunner().invoke(main, ["report", folders[0], folders[0], "--out", str(out)]).exit_code == 0


def test_faults_are_told(scene_folder, event_folder):
    with pytest.raises(HearevalError, match="got no scores"):
        write_reports(scene_folder(), (), Places(), out=None, clips=())
    folder = event_folder()
    _stored(folder)
    with pytest.raises(
        HearevalError, match=r"unknown tested clip of event: got 'test_9.wav'.*Did you mean test_"
    ):
        write_reports(folder, (), Places(), out=None, clips=("test_9.wav",))
    assert not (folder / layout.report(NAME)).exists()
    with pytest.raises(HearevalError, match="got 'hear2021', expected one of hear2021-2points"):
        write_reports(folder, ("hear2021",), Places(), out=None, clips=())


def test_settings_of_matplotlib_do_not_reach_reports(scene_folder, tmp_path):
    """A notebook names a backend that is not installed, and the folder has settings of its own."""
    stored = _stored(scene_folder())
    (tmp_path / "matplotlibrc").write_text("bad.key: 3\nfont.size: huge\nimage.cmap: none\n")
    variables = {
        "MPLBACKEND": "module://matplotlib_inline.not_installed",
        "MPLCONFIGDIR": str(tmp_path / "matplotlibrc"),
    }
    done = command(tmp_path, "heareval", "report", str(stored.folder), **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].endswith(layout.report(NAME))


def test_settings_of_matplotlib_in_another_encoding_are_told_in_a_line(scene_folder, tmp_path):
    stored = _stored(scene_folder())
    (tmp_path / "matplotlibrc").write_text("# für alle\n", encoding="latin-1")
    done = command(tmp_path, "heareval", "report", str(stored.folder))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: matplotlibrc: got 'utf-8' codec can't decode byte 0xfc")
    assert len(done.stderr.splitlines()) == 1
    assert not (stored.folder / layout.report(NAME)).exists()


def test_the_command_prints_what_it_found(scene_folder):
    folder = scene_folder(**FOLDS)
    _stored(folder)
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    place, *found = done.output.splitlines()
    report = json.loads((Path(place) / "report.json").read_text())
    assert found == [f"  {line}" for line in report["findings"]]
    label, confusion, clip = report["findings"]
    worst = min(report["labels"], key=lambda each: each["recall"])
    assert (
        label == f"worst label: {worst['label']}, recall {worst['recall']:.4f} (support {worst['support']})"
    )
    pair = report["confusion"]["most_confused"][0]
    assert confusion == (
        f"most frequent confusion: {pair['true']} mistaken for {pair['predicted']} in {pair['clips']} of "
        f"{next(each['support'] for each in report['labels'] if each['label'] == pair['true'])} clips"
    )
    first = report["worst_clips"]["clips"][0]
    assert clip.startswith(
        f"worst clip: {first['split']}/{first['clip']}, probability of its label {first['score']:.4f}"
    )
    assert clip.endswith(
        f"predicted {first['said'][0]['label']} (probability {first['said'][0]['probability']:.4g})"
    )
