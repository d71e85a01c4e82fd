"""Disk plans compared with what runs then write, and runs that are refused because a disk is too full."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heareval.archives.sizes import UNKNOWN, Size, blocks, content_length, sizes_on_the_web
from heareval.layout import Places
from heareval.workflow.jobs import CorpusRequest, find_jobs
from heareval.workflow.plan import TaskNeeds, plan_run
from heareval.workflow.prepare import publish_and_pack
from tests import stand_ins
from tests.commands import MODEL, SPOKEN, command, evaluate, only_line, prepare
from tests.disks import small_disk
from tests.http_server import serving

ARCHIVE = "v1.0.9.tar.gz"


@pytest.fixture(scope="module")
def zips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirror of stand-in archives that are zips, one of which two tasks share."""
    folder = tmp_path_factory.mktemp("zips")
    for corpus in ("mridangam", "esc50"):
        for archive, tree in stand_ins.CORPORA[corpus]().items():
            stand_ins.pack(tree, folder / archive)
    stand_ins.md5sums(folder)
    return folder


def plan(folder: Path, mirror: Path, *words: str) -> dict[str, Any]:
    """Return the JSON of `heareval plan` for tasks on the stand-in archives."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    done = command(folder, "heareval", "plan", *words, *sums, "--json")
    facts: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if facts["fits"] else 2), done.stderr
    return facts


def row(
    folder: Path, task: str, mode: str | None, mirror: Path, rate: int = 16000, sums: str = ""
) -> TaskNeeds:
    """Return the plan of one task; without `sums` the stand-ins count as the published archives."""
    places = Places(**{place: str(folder / place) for place in ("work", "tasks", "tars")})
    (job,) = find_jobs(CorpusRequest((task,), mode, accept_checksums=sums))
    return plan_run(publish_and_pack(places, [job], (rate,), (str(mirror),)), places).tasks[0]


def on_disk(paths: Iterable[Path]) -> int:
    return sum(blocks(path.stat().st_size) for path in paths if path.is_file())


def column(facts: dict[str, Any], name: str) -> list[int]:
    return [task[name]["bytes"] for task in facts["tasks"]]


# --------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (Size(), "0"),
        (Size(1_400_000_000), "1.4 GB"),
        (Size(1_400_000_000, is_exact=False), "~1.4 GB"),
        (UNKNOWN, "?"),
        (Size(2000) + UNKNOWN, "~2.0 kB + ?"),
        (Size(1000).scaled(1.5) + Size(500), "~2.0 kB"),
        (Size(3_200_000_000_000_000), "3200.0 TB"),
    ],
)
def test_sizes_as_text(size: Size, text: str) -> None:
    assert str(size) == text


def test_servers_report_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(12345))
    with serving(tmp_path) as (address, behaviour):
        addresses = {
            "first": [f"{address}/a.zip"],
            "second": [f"{address}/gone.zip", f"{address}/a.zip"],
            "gone": [f"{address}/gone.zip", "no address", "http://127.0.0.1:9/nobody-listens.zip"],
        }
        assert sizes_on_the_web(addresses, patience_s=60) == {"first": 12345, "second": 12345}
        assert {method for method, *_ in behaviour.requests} == {"HEAD"}
        behaviour.failing = {"/a.zip": 501}
        assert content_length([f"{address}/a.zip"]) is None
    assert sizes_on_the_web({}) == {}
    assert sizes_on_the_web(addresses, patience_s=0) == {}


def test_sizes_reported_in_time_are_used(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(12345))
    with serving(tmp_path) as (address, _), socket.create_server(("127.0.0.1", 0)) as endless:
        stop = threading.Event()
        teller = threading.Thread(target=_tell_without_end, args=(endless, stop), daemon=True)
        teller.start()
        slow = f"http://127.0.0.1:{endless.getsockname()[1]}/b.zip"
        # The shortest timeout in which a server on a busy machine reports anything.
        for patience_s in (2, 10, 60):
            told = sizes_on_the_web({"slow": [slow], "fast": [f"{address}/a.zip"]}, patience_s=patience_s)
            if told:
                break
        stop.set()
        teller.join()
    assert told == {"fast": 12345}


def _tell_without_end(server: socket.socket, stop: threading.Event) -> None:
    server.settimeout(0.2)
    connections: list[socket.socket] = []
    while not stop.wait(0.2):
        with contextlib.suppress(TimeoutError):
            connections.append(server.accept()[0])
            connections[-1].sendall(b"HTTP/1.1 200 OK\r\n")
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(b"x")
    for connection in connections:
        connection.close()


# --------------------------------------------------------------------------- plans and runs


def test_a_run_writes_what_the_plan_predicts(zips: Path, tmp_path: Path) -> None:
    tasks = (
        "mridangam_stroke",
        "mridangam_tonic",
        "esc50",
        "--sample-rate",
        "16000",
        "--sample-rate",
        "44100",
    )
    before = plan(tmp_path, zips, *tasks)
    assert list(tmp_path.iterdir()) == []
    assert [task["state"] for task in before["tasks"]] == ["to do"] * 3
    assert prepare(tmp_path, zips, *tasks).returncode == 0
    work = tmp_path / "_workdir"
    archives = [zips / "mridangam_stroke_1.5.zip", zips / "master.zip"]
    # Both mridangam tasks are made of one archive.
    assert column(before, "download") == [archives[0].stat().st_size, 0, archives[1].stat().st_size]
    assert before["total"]["download"] == {
        "bytes": sum(path.stat().st_size for path in (work / "downloads").glob("*/*.zip")),
        "is_exact": True,
        "is_whole": True,
    }
    taken = on_disk(path for path in work.rglob("*") if "downloads" not in path.parts)
    assert taken / 2 < before["total"]["work"]["bytes"] < taken * 2
    assert not before["total"]["work"]["is_exact"]

    after = plan(tmp_path, zips, *tasks)
    assert [task["state"] for task in after["tasks"]] == ["done"] * 3
    nothing = {"bytes": 0, "is_exact": True, "is_whole": True}
    assert set(after["total"]) == {"download", "work", "task_folder", "tarballs"}
    assert all(size == nothing for size in after["total"].values())
    assert after["file_systems"][0]["tasks"] == []


def test_selected_clips_are_counted_exactly(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    made = {rate: on_disk((folder / "tasks" / SPOKEN / str(rate)).rglob("*.wav")) for rate in (16000, 48000)}
    for gone in ("tasks", "tars", *(path.relative_to(folder) for path in folder.glob("_workdir/*/shard*"))):
        shutil.rmtree(folder / gone)
    (task,) = plan(folder, mirror, "spoken_digit", "--sample-rate", "16000", "--sample-rate", "48000")[
        "tasks"
    ]
    assert (task["state"], task["download"]["bytes"]) == ("partly", 0)
    assert task["work"] == {"bytes": sum(made.values()), "is_exact": True, "is_whole": True}
    assert task["task_folder"]["bytes"] == 0
    packed = sum(path.stat().st_size for rate in made for path in prepared.glob(f"tars/hear-2021*-{rate}.*"))
    assert packed <= task["tarballs"]["bytes"] < sum(made.values())


def test_another_rate_needs_only_its_clips(prepared: Path, mirror: Path) -> None:
    made = on_disk((prepared / "tasks" / SPOKEN / "48000").rglob("*.wav"))
    (task,) = plan(prepared, mirror, "spoken_digit", "--sample-rate", "48000", "--sample-rate", "32000")[
        "tasks"
    ]
    assert (task["state"], task["download"]["bytes"]) == ("partly", 0)
    assert task["work"]["is_exact"]
    assert 0.6 < task["work"]["bytes"] / made < 0.75


def test_a_plan_for_a_finished_tarball(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    words = ("spoken_digit", "--from-published", str(prepared / "tars"), "--sample-rate", "16000")
    (task,) = plan(tmp_path, mirror, *words)["tasks"]
    assert (task["download"]["bytes"], task["download"]["is_exact"]) == (0, True)
    tarball = next((prepared / "tars").glob("hear-2021*-48000.tar.gz")).stat().st_size
    assert task["work"]["bytes"] > tarball


def test_the_table_has_rows_a_sum_and_the_free_space(mirror: Path, tmp_path: Path) -> None:
    words = ("spoken_digit", "--sample-rate", "16000", "--mirror", str(mirror))
    done = command(tmp_path, "heareval", "plan", *words)
    heading, task, sums, legend, room = done.stdout.splitlines()
    assert heading.split() == ["task", "state", "download", "disk", "tarballs"]
    assert task.startswith(f"{SPOKEN}  to do  ")
    # 2500 clips of 5 blocks, and 1.5 times the size of the archive.
    assert task.split()[4:7] == ["kB", "~52.1", "MB"]
    assert sums.split()[:3] == ["total", *task.split()[3:5]]
    assert legend.startswith("~ estimated")
    assert room.startswith("_workdir, tasks and tars: ~")
    assert done.returncode == (0 if room.endswith(": fits") else 2)


def test_unknown_tasks_are_reported_in_one_line(tmp_path: Path) -> None:
    assert "Did you mean esc50" in only_line(command(tmp_path, "heareval", "plan", "esc_50"))


# --------------------------------------------------------------------------- estimates


@pytest.mark.parametrize(
    ("task", "mode", "clips", "seconds"),
    [
        ("spoken_digit", "full", 2500, 0.56),
        ("nsynth_pitch", "5h", 5000, 4.0),
        ("nsynth_pitch_kfold", "50h", 50000, 4.0),
        ("speech_commands", "5h", 22890, 1.0),
        ("dcase2016_task2", "full", 72, 120.0),
    ],
)
def test_the_size_of_published_corpora_is_known(
    mirror: Path, tmp_path: Path, task: str, mode: str, clips: int, seconds: float
) -> None:
    packed = row(tmp_path, task, mode, mirror).sizes["tarballs"]
    assert packed == Size(round(clips * blocks(44 + round(32000 * seconds)) * 0.9), is_exact=False)


def test_stand_ins_do_not_count_as_the_published_corpus(zips: Path, tmp_path: Path) -> None:
    published = row(tmp_path, "esc50", None, zips).sizes["tarballs"]
    accepted = row(tmp_path, "esc50", None, zips, sums=str(zips / "MD5SUMS")).sizes["tarballs"]
    assert accepted.bytes < published.bytes / 10


def test_clips_of_any_length_are_estimated_from_the_archives(unusual_mirror: Path, tmp_path: Path) -> None:
    """The directory of a zip in volumes is read before anything is fetched."""
    inside = sum(
        blocks(len(content))
        for name, tree in stand_ins.CORPORA["fsd50k"]().items()
        if "small" not in name
        for content in tree.values()
    )
    sizes = row(tmp_path, "fsd50k", "full", unusual_mirror, rate=22050).sizes
    assert sizes["work"].bytes == pytest.approx(inside * 1.5, rel=0.001)
    assert sizes["tarballs"].bytes == pytest.approx(inside * 0.45, rel=0.001)


def test_listed_files_are_estimated(unusual_mirror: Path, tmp_path: Path) -> None:
    lists = sum((unusual_mirror / name).stat().st_size for name in ("crema_d.txt", "summaryTable.csv"))
    sizes = row(tmp_path, "tfds_crema_d", "full", unusual_mirror).sizes
    assert sizes["download"] == Size(7438 * blocks(44 + 5 * 32000) + lists, is_exact=False)
    sizes = row(tmp_path, "tfds_crema_d", "full", unusual_mirror, sums=str(unusual_mirror / "MD5SUMS")).sizes
    assert str(sizes["download"]).endswith(" + ?")


def test_sounds_of_timbre_are_estimated(tmp_path: Path) -> None:
    """The 259 listed files take 26.9 MB on disk, the 334 clips 11.7 MB at 16 kHz and 34.2 MB at 48 kHz."""
    for rate, clips in ((16000, 11_706_368), (48000, 34_238_464)):
        sizes = row(tmp_path, "timbre_similarity", None, tmp_path, rate=rate).sizes
        assert sizes["download"].bytes == pytest.approx(26_861_568, rel=0.05)
        assert sizes["work"].bytes == pytest.approx(clips, rel=0.1)
        assert not sizes["work"].is_exact


def test_listed_files_of_two_tasks_count_once(unusual_mirror: Path, tmp_path: Path) -> None:
    tasks = ("tfds_crema_d_same_emotion", "tfds_crema_d_same_speaker")
    places = Places(**{place: str(tmp_path / place) for place in ("work", "tasks", "tars")})
    jobs = find_jobs(CorpusRequest(tasks))
    both = plan_run(publish_and_pack(places, jobs, (16000,), (str(unusual_mirror),)), places)
    alone = row(tmp_path, tasks[0], None, unusual_mirror)
    assert both.sizes["download"] == alone.sizes["download"]
    assert both.tasks[1].sizes["download"] == Size()


def test_a_damaged_zip_is_estimated(zips: Path, tmp_path: Path) -> None:
    whole = (zips / "master.zip").read_bytes()
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "master.zip").write_bytes(whole[: len(whole) // 2])
    sums = stand_ins.md5sums(tmp_path / "mirror")
    sizes = row(tmp_path, "esc50", "full", tmp_path / "mirror", rate=44100, sums=str(sums)).sizes
    half = len(whole) // 2
    assert sizes["download"] == Size(half)
    assert sizes["work"].bytes == pytest.approx(half * 3, rel=0.001)


def test_sizes_from_a_mirror_on_the_web(mirror: Path, tmp_path: Path) -> None:
    whole = (mirror / ARCHIVE).stat().st_size
    words = (
        "spoken_digit",
        "--sample-rate",
        "16000",
        "--accept-checksums",
        str(mirror / "MD5SUMS"),
        "--json",
    )
    with serving(mirror) as (address, behaviour):
        done = command(tmp_path, "heareval", "plan", *words, "--mirror", address)
        (task,) = json.loads(done.stdout)["tasks"]
        assert task["download"] == {"bytes": whole, "is_exact": True, "is_whole": True}
        assert task["work"]["bytes"] > whole
        assert [request[:2] for request in behaviour.requests] == [("HEAD", f"/{ARCHIVE}")]

        # What an earlier run fetched of the archive is subtracted.
        checksum = next(line for line in (mirror / "MD5SUMS").read_text().splitlines() if ARCHIVE in line)
        part = tmp_path / "_workdir" / "downloads" / checksum.split()[0] / f"{ARCHIVE}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(1000))
        done = command(tmp_path, "heareval", "plan", *words, "--mirror", address)
        assert json.loads(done.stdout)["total"]["download"]["bytes"] == whole - 1000


# --------------------------------------------------------------------------- full disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with small_disk(tmp_path / "disk", 1 << 20) as folder:
        yield folder


def test_a_run_that_does_not_fit_is_refused(zips: Path, disk: Path) -> None:
    done = prepare(disk, zips, "esc50", "mridangam_stroke")
    line = only_line(done)
    assert line.startswith("error: _workdir, tasks and tars: got 1.0 MB free, expected ~")
    assert " MB for esc50-v2.0.0-full, mridangam_stroke-v1.5-full. Free some space, " in line
    assert line.endswith("choose other folders, fewer tasks or rates, or use --force.")
    assert done.returncode == 2
    assert list(disk.iterdir()) == []
    planned = plan(disk, zips, "esc50")
    assert [system["fits"] for system in planned["file_systems"]] == [False]


def test_force_runs_until_the_disk_is_full(zips: Path, disk: Path) -> None:
    done = prepare(disk, zips, "esc50", "--force")
    assert "got No space left on device, expected room to write" in only_line(done)
    assert done.returncode == 30
    assert (disk / "_workdir" / "downloads").is_dir()


def test_an_evaluation_that_does_not_fit_is_refused_or_forced(mirror: Path, disk: Path) -> None:
    (disk / "my_model.py").write_text(MODEL)
    done = evaluate(disk, mirror)
    assert f" for {SPOKEN}. Free some space, " in only_line(done)
    assert done.returncode == 2
    assert not (disk / "_workdir" / "downloads").exists()
    done = evaluate(disk, mirror, "--force")
    assert "No space left on device" in done.stderr
    assert done.returncode == 30


def test_clips_are_copied_to_another_file_system(mirror: Path, disk: Path, tmp_path: Path) -> None:
    words = ("spoken_digit", "--sample-rate", "16000", "--tasks-dir", str(disk / "tasks"))
    facts = plan(tmp_path, mirror, *words)
    assert facts["total"]["task_folder"]["bytes"] > 0
    (own, tasks) = facts["file_systems"]
    assert own["folders"] == [str(tmp_path / "_workdir"), str(tmp_path / "tars")]
    assert tasks["folders"] == [str(disk / "tasks")]
    assert tasks["needed"] == facts["total"]["task_folder"]
