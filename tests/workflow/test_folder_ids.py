"""Steps are the same on machines where shared folders have other paths, and never those of other folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import luigi
import pytest

from heareval.embeddings.submission import Submission
from heareval.layout import FOLDERS, Places
from heareval.predictions.protocol import Protocol
from heareval.workflow.corpus import TaskJob
from heareval.workflow.evaluate import score_task
from heareval.workflow.folder_ids import make_ids, read_ids
from heareval.workflow.jobs import CorpusRequest, find_jobs
from heareval.workflow.prepare import publish_and_pack, publish_tasks
from heareval.workflow.step import Step
from tests.commands import command, only_line

TWICE = """
import sys
from heareval.layout import Places
from heareval.workflow.folder_ids import make_ids
sys.stdin.read()
print(make_ids(Places(work=sys.argv[1]), ("work",)).identify("work"))
"""


def places_in(folder: Path) -> Places:
    return Places(*(str(folder / name) for name in FOLDERS))


@pytest.fixture
def nodes(tmp_path: Path) -> tuple[Places, Places]:
    """The same folders, as two machines see them."""
    (tmp_path / "server").mkdir()
    for name in ("mnt", "data"):
        (tmp_path / name).symlink_to("server")
    one = make_ids(places_in(tmp_path / "mnt"), FOLDERS)
    return one, make_ids(places_in(tmp_path / "data"), FOLDERS)


def every_step(roots: list[Step]) -> Iterator[Step]:
    waiting, seen = list(roots), set()
    while waiting:
        step = waiting.pop()
        if step.task_id not in seen:
            seen.add(step.task_id)
            waiting += luigi.task.flatten(step.requires())
            yield step


def steps_of(places: Places, jobs: list[TaskJob]) -> dict[str, str]:
    """Ids of all steps by title, for a submission whose files lie in the work folder."""
    submission = Submission(
        "my_model", f"{places.work}/downloads/0/w.pt", python=f"{places.work}/environments/0/bin/python",
        name="mine", fingerprint="0" * 16, sample_rate=16000,
    )  # fmt: skip
    packed = [step for each in publish_and_pack(places, jobs, (16000,), ()).values() for step in each]
    scored = [
        score_task(each, submission, Protocol())
        for each in publish_tasks(places, jobs, (16000,), (places.work,)).values()
    ]
    return {step.title: step.task_id for step in every_step([*packed, *scored])}


def test_steps_are_the_same_at_other_paths(nodes: tuple[Places, Places]) -> None:
    jobs = find_jobs(CorpusRequest(("speech_commands", "esc50", "dcase2016_task2")))
    one, other = (steps_of(places, jobs) for places in nodes)
    assert one == other
    assert {title.split(": ")[-1] for title in one} >= {"embeddings", "predictor", "tarball 16000"}


def test_steps_in_other_folders_are_others(nodes: tuple[Places, Places], tmp_path: Path) -> None:
    jobs = find_jobs(CorpusRequest(("dcase2016_task2",)))
    here = steps_of(nodes[0], jobs)
    for name in FOLDERS:
        other = make_ids(replace(nodes[0], **{name: str(tmp_path / "other" / name)}), FOLDERS)
        there = steps_of(other, jobs)
        changed = {title for title in here if here[title] != there[title]}
        # Archives are fetched to the work folder, whatever comes of them.
        assert ("fetch" in {title.split()[0] for title in changed}) == (name == "work")
        assert any(title.endswith("predictor") for title in changed) == (name in ("work", "embeddings"))
        assert any("tarball" in title for title in changed) == (name in ("work", "tasks", "tars"))


def test_a_tarball_may_lie_at_another_path(nodes: tuple[Places, Places]) -> None:
    jobs = [
        TaskJob("esc50", "full", published=f"{places.work}/esc50-48000.tar.gz", published_mark="5 6")
        for places in nodes
    ]
    assert steps_of(nodes[0], jobs[:1]) == steps_of(nodes[1], jobs[1:])
    assert replace(jobs[0], published_mark="5 7").identifier != jobs[0].identifier


def test_a_copy_is_another_folder(nodes: tuple[Places, Places], tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", str(tmp_path / "server"), str(tmp_path / "copy")], check=True)
    copy = make_ids(places_in(tmp_path / "copy"), FOLDERS)
    assert not set(copy.ids) & set(nodes[0].ids)
    # Where the folder is does not matter.
    (tmp_path / "server").rename(tmp_path / "moved")
    assert read_ids(places_in(tmp_path / "moved")).ids == nodes[0].ids


def test_two_machines_that_begin_at_once_agree(tmp_path: Path) -> None:
    words = [sys.executable, "-c", TWICE, str(tmp_path / "work")]
    started = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    said = [each.communicate("go")[0] for each in started]
    assert len(set(said)) == 1
    assert "-" in said[0]


def test_a_broken_off_id_is_replaced(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    (tmp_path / "work").mkdir()
    places.folder_id("work").write_text("12ab")
    assert read_ids(places).identify("work") == places.work
    assert make_ids(places, ("work",)).identify("work").partition("-")[0] not in ("12ab", "")


def test_a_folder_that_may_only_be_read_is_known_by_its_path(tmp_path: Path) -> None:
    places = replace(places_in(tmp_path), tasks="/proc/tasks")
    made = make_ids(places, ("work", "tasks"))
    assert made.identify("work") != places.work
    assert made.identify("tasks") == places.tasks


def test_ids_are_made_only_for_a_luigid(prepared: Path) -> None:
    assert (prepared / "tasks").is_dir()
    assert not list(prepared.rglob("*.heareval.id"))


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    """It is refused after the folders have their ids."""
    (tmp_path / "tars").mkdir()
    words = ("heareval", "prepare", "no_such_task", "--scheduler-url", "http://127.0.0.1:9")
    assert "unknown task" in only_line(command(tmp_path, *words))
    assert [path.name for path in tmp_path.iterdir()] == ["tars"]
