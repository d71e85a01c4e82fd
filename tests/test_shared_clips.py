"""Clips that several tasks share: one file for all, whichever task is prepared first, with the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heareval.layout import Places
from heareval.workflow.corpus import TaskJob
from heareval.workflow.jobs import CorpusRequest, find_jobs
from heareval.workflow.plan import plan_run
from heareval.workflow.prepare import publish_and_pack
from heareval.workflow.sharing import find_predecessors, find_relatives
from tests.commands import SPOKEN, checksums, command, prepare

ABX = "spoken_digit_abx-1.0.9-full"
AT_16000 = ("--sample-rate", "16000")


@pytest.fixture(scope="module")
def unshared(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """Both tasks, made without the clips of the other."""
    folder = tmp_path_factory.mktemp("unshared")
    for task in ("spoken_digit", "spoken_digit_abx"):
        (folder / task).mkdir()
        done = prepare(folder / task, mirror, task, *AT_16000)
        assert done.returncode == 0, done.stderr
    return folder


def clips(folder: Path, task: str, rate: int = 16000) -> dict[str, Path]:
    return {path.name: path for path in folder.glob(f"tasks/{task}/{rate}/*/*.wav")}


def inodes(folder: Path, task: str) -> set[int]:
    return {path.stat().st_ino for path in clips(folder, task).values()}


@pytest.mark.parametrize(
    "runs",
    [
        (("spoken_digit", "spoken_digit_abx"),),
        pytest.param((("spoken_digit_abx", "spoken_digit"),), marks=pytest.mark.slow),
        pytest.param((("spoken_digit",), ("spoken_digit_abx",)), marks=pytest.mark.slow),
        (("spoken_digit_abx",), ("spoken_digit",)),
    ],
    ids=lambda runs: " then ".join(" with ".join(tasks) for tasks in runs),
)
def test_every_clip_is_one_file(
    runs: tuple[tuple[str, ...], ...], tmp_path: Path, mirror: Path, unshared: Path
) -> None:
    for tasks in runs:
        done = prepare(tmp_path, mirror, *tasks, *AT_16000, "--num-workers", "2")
        assert done.returncode == 0, done.stderr
    found = clips(tmp_path, ABX)
    assert len(inodes(tmp_path, ABX) | inodes(tmp_path, SPOKEN)) == len(found) > 0
    alone = checksums(unshared / "spoken_digit") | checksums(unshared / "spoken_digit_abx")
    assert checksums(tmp_path) == alone


def test_only_what_is_asked_for_is_prepared(unshared: Path) -> None:
    assert [path.name for path in (unshared / "spoken_digit_abx" / "tasks").glob("[!.]*")] == [ABX]


def test_clips_are_shared_at_some_of_the_rates_of_a_task(tmp_path: Path, mirror: Path) -> None:
    assert prepare(tmp_path, mirror, "spoken_digit", *AT_16000, "--sample-rate", "48000").returncode == 0
    assert prepare(tmp_path, mirror, "spoken_digit_abx", *AT_16000).returncode == 0
    assert inodes(tmp_path, ABX) == inodes(tmp_path, SPOKEN)


def test_a_changed_clip_is_made_again(tmp_path: Path, mirror: Path, unshared: Path) -> None:
    """What another program did to a task that was not asked for does not reach the other one."""
    assert prepare(tmp_path, mirror, "spoken_digit", *AT_16000).returncode == 0
    changed, *others = clips(tmp_path, SPOKEN).values()
    changed.write_bytes(bytes(100))
    done = prepare(tmp_path, mirror, "spoken_digit_abx", *AT_16000)
    assert done.returncode == 0, done.stderr
    found = clips(tmp_path, ABX)
    assert not found[changed.name].samefile(changed)
    assert all(found[path.name].samefile(path) for path in others)
    assert checksums(tmp_path).items() >= checksums(unshared / "spoken_digit_abx").items()


def test_a_damaged_folder_of_a_task_that_was_not_asked_for_does_not_matter(
    tmp_path: Path, mirror: Path
) -> None:
    (tmp_path / "tasks" / SPOKEN).mkdir(parents=True)
    (tmp_path / "tasks" / SPOKEN / "MANIFEST.json").write_text("{")
    done = prepare(tmp_path, mirror, "spoken_digit_abx", *AT_16000)
    assert done.returncode == 0, done.stderr
    assert len(clips(tmp_path, ABX)) == 65


def test_tasks_share_clips_without_the_one_that_declares_them(tmp_path: Path, unusual_mirror: Path) -> None:
    tasks = ("tfds_crema_d_same_emotion", "tfds_crema_d_same_speaker")
    done = prepare(tmp_path, unusual_mirror, *tasks, *AT_16000, "--num-workers", "2")
    assert done.returncode == 0, done.stderr
    one, other = (inodes(tmp_path, f"{task}-1.0.0-full") for task in tasks)
    assert one == other
    assert len(one) > 0


@pytest.mark.slow
def test_evaluate_shares_clips(tmp_path: Path, mirror: Path) -> None:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = ("heareval.embeddings.baseline", "--tasks", "spoken_digit_abx,spoken_digit", "--probe", "linear")
    done = command(tmp_path, "heareval", "evaluate", *words, *sums)
    assert done.returncode == 0, done.stderr
    assert inodes(tmp_path, ABX) == inodes(tmp_path, SPOKEN)


@pytest.mark.slow
def test_a_task_that_is_scored_is_not_made_again_for_its_clips(tmp_path: Path, unusual_mirror: Path) -> None:
    one, other = "tfds_crema_d_same_emotion", "tfds_crema_d_same_speaker"
    sums = ("--mirror", str(unusual_mirror), "--accept-checksums", str(unusual_mirror / "MD5SUMS"))
    for tasks in (one, f"{one},{other}"):
        shutil.rmtree(tmp_path / "tasks", ignore_errors=True)
        words = ("heareval.embeddings.baseline", "--tasks", tasks, *sums)
        done = command(tmp_path, "heareval", "evaluate", *words)
        assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "tasks").glob("[!.]*")] == [f"{other}-1.0.0-full"]


@pytest.mark.parametrize(
    ("tasks", "order"),
    [
        (("esc50_retrieval", "spoken_digit", "esc50"), {"esc50_retrieval": "esc50"}),
        # It needs the archive of the test set only.
        (("nsynth_pitch", "nsynth_pitch_retrieval"), {"nsynth_pitch": "nsynth_pitch_retrieval"}),
        (("nsynth_pitch", "nsynth_pitch_kfold", "mridangam_stroke", "mridangam_tonic"), {}),
        (("mridangam_stroke_retrieval",), {}),
    ],
)
def test_which_task_waits_for_which(tasks: tuple[str, ...], order: dict[str, str]) -> None:
    jobs = [TaskJob(task, "small") for task in tasks]
    assert {job.task: other.task for job, other in find_predecessors(jobs).items()} == order


def test_three_tasks_wait_in_a_row() -> None:
    names = ["vocal_imitation_retrieval_fine", "vocal_imitation", "vocal_imitation_retrieval"]
    found = find_predecessors([TaskJob(name, "full") for name in names])
    assert {job.task: other.task for job, other in found.items()} == {
        "vocal_imitation_retrieval_fine": "vocal_imitation_retrieval",
        "vocal_imitation_retrieval": "vocal_imitation",
    }


def test_tasks_in_another_mode_share_nothing() -> None:
    assert find_predecessors([TaskJob("esc50", "small"), TaskJob("esc50_retrieval", "full")]) == {}
    assert [job.task for job in find_relatives(TaskJob("spoken_digit", "small"))] == []
    assert [job.task for job in find_relatives(TaskJob("spoken_digit", "full"))] == ["spoken_digit_abx"]


def plan(folder: Path, mirror: Path, *tasks: str) -> dict[str, dict[str, int]]:
    """Return the planned bytes by task and column; the stand-ins count as the published archives."""
    places = Places(**{place: str(folder / place) for place in ("work", "tasks", "tars")})
    jobs = find_jobs(CorpusRequest(tasks))
    planned = plan_run(publish_and_pack(places, jobs, (16000,), (str(mirror),)), places)
    return {
        job.task: {column: size.bytes for column, size in task.sizes.items()}
        for job, task in zip(jobs, planned.tasks, strict=True)
    }


def test_a_plan_counts_shared_clips_once(tmp_path: Path, mirror: Path) -> None:
    """No task counts what the one that it waits for needs, and clips that are links need no room."""
    both = plan(tmp_path, mirror, "spoken_digit_abx", "spoken_digit")
    base, abx = (plan(tmp_path, mirror, task)[task] for task in ("spoken_digit", "spoken_digit_abx"))
    archive = both["spoken_digit_abx"]["download"] + both["spoken_digit"]["download"]
    assert archive == base["download"] == abx["download"] > 0
    assert both["spoken_digit"]["work"] + both["spoken_digit_abx"]["work"] == base["work"] == abx["work"] > 0
    for task, alone in (("spoken_digit", base), ("spoken_digit_abx", abx)):
        assert both[task]["tarballs"] == alone["tarballs"] > 0


def test_a_plan_counts_clips_that_only_one_task_has(tmp_path: Path, mirror: Path) -> None:
    base = plan(tmp_path, mirror, "vocal_imitation")["vocal_imitation"]["work"]
    both = plan(tmp_path, mirror, "vocal_imitation", "vocal_imitation_retrieval")
    of_gallery = both["vocal_imitation"]["work"] + both["vocal_imitation_retrieval"]["work"] - base
    # 302 clips of 11.26 s, 16-bit samples at 16 kHz.
    assert of_gallery == pytest.approx(302 * 11.26 * 32000, rel=0.02)
