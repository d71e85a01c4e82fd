"""`--limit N`: a few clips of each split, for smoke tests, kept apart from the results of all clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import heareval
from heareval import api, layout
from heareval.api import EvaluationRequest, Places, SubmissionArgs
from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.formats.task_folder import read_task_folder
from heareval.layout import name_limited
from heareval.workflow.evaluate import Embed, Predict
from heareval.workflow.step import Step
from tests.commands import MODEL, SPOKEN, command
from tests.test_api import places_in, spoken

LIMITED = f"{SPOKEN}-limit4"
LINEAR = heareval.Protocol(probe="linear")
NAME = "probe-linear-limit4"


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def evaluate(folder: Path, mirror: Path, *words: str) -> str:
    """Evaluate my_model on spoken_digit, and return what was said."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    asked = ("evaluate", "my_model", "--tasks", "spoken_digit", "--probe", "linear", *sums, *words)
    done = command(folder, "heareval", *asked)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, prepared: Path, mirror: Path) -> Path:
    """A folder where a model was evaluated on four clips of each split."""
    folder = tmp_path_factory.mktemp("limited")
    (folder / "my_model.py").write_text(MODEL)
    (folder / "tasks").symlink_to(prepared / "tasks")
    assert NAME in evaluate(folder, mirror, "--limit", "4")
    return folder


@pytest.fixture
def copy(limited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(limited, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_a_limited_run_scores_at_most_that_many_clips_of_each_split(limited: Path) -> None:
    submission = limited / "embeddings" / "my_model"
    assert [each.name for each in submission.glob("[!.]*")] == [LIMITED]
    (scores,) = heareval.results(submission)
    assert (scores.protocol, set(scores.clips.values())) == (NAME, {4})
    assert scores.tested_clips == 20
    task, whole = read_task_folder(submission / LIMITED), read_task_folder(limited / "tasks" / SPOKEN)
    for split, clips in task.clips.items():
        assert np.load(submission / LIMITED / f"{split}.npy").shape == (4, 8)
        # Four digits, the same in every fold: others could not be learned.
        assert {clip.labels[0] for clip in clips} == {"0", "1", "2", "3"}
        assert [clip for clip in whole.clips[split] if clip in clips] == list(clips)
    assert task.vocabulary == whole.vocabulary


def test_its_embeddings_are_those_of_the_whole_task(limited: Path, copy: Path, mirror: Path) -> None:
    before = list_files(copy / "embeddings")
    # The whole task is embedded and scored, and what was limited stays.
    said = evaluate(copy, mirror)
    assert f"[step 2 of 2] my_model on {SPOKEN}: predictor" in said
    folder = copy / "embeddings" / "my_model" / SPOKEN
    assert layout.scored_protocols(folder) == ("probe-linear",)
    after = list_files(copy / "embeddings")
    assert before.items() <= after.items()
    whole, few = read_task_folder(folder), read_task_folder(folder.with_name(LIMITED))
    for split, clips in few.clips.items():
        rows = [whole.clips[split].index(clip) for clip in clips]
        arrays = [np.load(each / f"{split}.npy") for each in (folder, folder.with_name(LIMITED))]
        np.testing.assert_allclose(arrays[0][rows], arrays[1], rtol=1e-5)
    # Neither has anything left to do, whichever comes first.
    for words in ((), ("--limit", "4")):
        assert "nothing to do" in evaluate(copy, mirror, *words)
    assert list_files(copy / "embeddings") == after
    # And neither is compared, averaged or shown with the other.
    shutil.copytree(folder.parent, folder.parent.with_name("other"))
    found = api.compare(folder.parent.name, "other", places_in(copy))
    assert {(each.task, each.protocol) for each in found.differences} == {
        (SPOKEN, "probe-linear"),
        (LIMITED, NAME),
    }
    assert found.overall == ()
    tables = heareval.results(copy / "embeddings").to_overview().board.tables
    assert [table.protocol for table in tables] == ["probe-linear", NAME]
    assert [each.path for each in api.verify(places_in(copy)) if each.changes] == []


def test_status_tells_limited_scores_from_whole_ones(
    limited: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(limited)

    def judge(limit: int | None) -> list[tuple[str, str]]:
        protocol = replace(LINEAR, limit=limit)
        request = EvaluationRequest(SubmissionArgs(("my_model",)), spoken(mirror), protocol=protocol)
        (row,) = api.status(request, places_in(limited)).rows
        assert row.task_folder == name_limited(SPOKEN, limit)
        return [(row.protocol, row.state)]

    assert judge(4) == [(NAME, "complete")]
    assert judge(5) == [("probe-linear-limit5", "missing")]
    assert judge(None) == [("probe-linear", "missing")]
    made = [row for row in api.status(None, places_in(limited)).rows if row.kind == "scores"]
    assert [(row.task_folder, row.protocol, row.state) for row in made] == [(LIMITED, NAME, "complete")]


def test_limited_scores_make_no_card(copy: Path) -> None:
    submission = copy / "embeddings" / "my_model"
    with pytest.raises(HearevalError, match="got no scores of all clips"):
        api.make_card(submission.name, places_in(copy), out=copy / "cards", missing_others="a test")
    with pytest.raises(HearevalError, match=f"protocol {NAME}: got scores of a few clips"):
        api.make_card(
            submission.name, places_in(copy), out=copy / "cards", protocols=(NAME,), missing_others="a test"
        )
    assert not (copy / "cards").exists()


def test_a_limit_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="limit: got 0, expected 1 or more clips of each split"):
        heareval.evaluate("heareval.embeddings.baseline", places_in(tmp_path), tasks="esc50", limit=0)
    with pytest.raises(HearevalError, match="limit: got -1, expected 1 or more clips of each split"):
        heareval.embed(SubmissionArgs(("m",)), places_in(tmp_path), limit=-1)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_this_process_is_limited_as_well(prepared: Path, mirror: Path) -> None:
    def embed(waves: torch.Tensor) -> torch.Tensor:
        seen.extend([1] * len(waves))
        return waves[:, :8]

    seen: list[int] = []
    (scores,) = heareval.evaluate(
        embed, places_in(prepared), tasks=spoken(mirror), sample_rate=16000, limit=4, protocol=LINEAR
    )
    assert (scores.protocol, set(scores.clips.values())) == (NAME, {4})
    # Five folds, and the clips with which the size of the embeddings is measured.
    assert 20 <= len(seen) < 30


def test_embed_and_predict_from_a_shell(copy: Path) -> None:
    words = ("heareval", "embed", "my_model", "--tasks", "spoken_digit")
    done = command(copy, *words, "--limit", "4")
    assert done.stdout.splitlines()[0] == f"embeddings/my_model/{LIMITED}"
    assert "nothing to do" in done.stdout
    folder = f"embeddings/my_model/{LIMITED}"
    done = command(copy, "heareval", "predict", folder, "--probe", "knn-l1")
    assert done.returncode == 0, done.stderr
    assert (copy / folder / "test.probe-knn-l1-limit4.predicted-scores.json").is_file()
    # The sounds of a report are those of the whole task.
    done = command(copy, "heareval", "report", folder, "--protocol", NAME)
    assert done.returncode == 0, done.stderr
    report = json.loads((copy / folder / f"report-{NAME}" / "report.json").read_text())
    assert f"/tasks/{SPOKEN}/16000/fold" in report["worst_clips"]["clips"][0]["sound"]


def test_embeddings_have_one_limit(copy: Path) -> None:
    told = "limit of 5 clips: got embeddings of 4 clips .* Make them with `heareval embed --limit 5`"
    with pytest.raises(HearevalError, match=told):
        api.predict([copy / "embeddings" / "my_model" / LIMITED], replace(LINEAR, limit=5), places_in(copy))


def test_steps_carry_the_limit_to_other_machines(limited: Path) -> None:
    """luigid and the cluster know steps by their parameters only."""
    embed = Embed(
        Places(embeddings=str(limited / "embeddings")),
        task_folder=SPOKEN,
        task_fingerprint="0",
        submission=Submission("m"),
        limit=4,
    )
    predict = Predict(
        embed.places,
        path=f"m/{LIMITED}",
        embeddings_fingerprint=embed.fingerprint,
        protocol=replace(LINEAR, limit=4),
        upstream=embed.as_upstream(),
    )
    (upstream,) = Step.from_upstream(predict.as_upstream()).requires()
    assert (upstream.limit, upstream.folder, upstream.fingerprint) == (4, embed.folder, embed.fingerprint)
    assert Step.from_upstream(predict.as_upstream()).scores == predict.scores
    whole = embed.clone(limit=None)
    assert Step.from_upstream(whole.as_upstream()).fingerprint == whole.fingerprint
    assert whole.fingerprint != embed.fingerprint
    assert whole.folder.name == SPOKEN


def test_a_limit_of_nothing_is_refused_before_anything_starts(tmp_path: Path) -> None:
    for words in (("evaluate", "m", "--tasks", "esc50"), ("embed", "m"), ("status", "m", "--tasks", "esc50")):
        done = command(tmp_path, "heareval", *words, "--limit", "0")
        assert done.returncode == 2
        assert "'--limit': 0 is not in the range x>=1" in done.stderr
    assert list(tmp_path.iterdir()) == []
