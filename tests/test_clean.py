"""`heareval clean`: it finds what nothing needs, tells its size, and deletes nothing else."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from heareval import files
from heareval.embeddings.submission_config import SubmissionConfig
from heareval.layout import Places
from heareval.workflow.cleaning import find_leftovers
from heareval.workflow.corpus import TaskJob
from heareval.workflow.needed import find_needed
from heareval.workflow.run_lock import claim_work_folder, share_work_folder
from heareval.workflow.run_requests import note_environment, note_tasks, note_weights
from tests import stand_ins
from tests.commands import MODEL, SPOKEN, checksums, command, only_line, prepare, scratch_left

ARCHIVE = "v1.0.9.tar.gz"
AT_16000 = ("--sample-rate", "16000")
DAY_S = 86400


def places_in(folder: Path) -> Places:
    return Places(*(str(folder / name) for name in ("_workdir", "tasks", "tars", "embeddings")))


def clean(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = command(folder, "heareval", "clean", *words)
    assert done.returncode == 0, done.stderr
    return done


def listed(folder: Path, *words: str) -> dict[str, str]:
    """The reasons by the paths that are listed."""
    facts = json.loads(clean(folder, "--json", *words).stdout)
    return {
        str(Path(each["path"]).relative_to(folder.absolute())): each["reason"] for each in facts["leftovers"]
    }


def used_bytes(folder: Path) -> int:
    """The bytes that a folder occupies on disk; a file with several links counts once."""
    facts = [path.lstat() for path in (folder, *folder.rglob("*"))]
    return sum({(each.st_dev, each.st_ino): each.st_blocks * 512 for each in facts}.values())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder with its number and size, but what a run writes each time."""
    found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*")}
    return {name: (each.st_ino, each.st_size if Path(name).suffix else 0) for name, each in found.items()}


def pack_again(mirror: Path, folder: Path) -> Path:
    """A mirror with the archive of spoken_digit, changed: the same content, packed in another way."""
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(gzip.compress(gzip.decompress((mirror / ARCHIVE).read_bytes()), 9))
    stand_ins.md5sums(folder)
    return folder


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> tuple[Path, Path]:
    """A folder in which spoken_digit was prepared from an archive and then from another, and that mirror."""
    folder = tmp_path_factory.mktemp("changed")
    other = pack_again(mirror, folder / "other")
    for each in (mirror, other):
        done = prepare(folder, each, "spoken_digit", *AT_16000)
        assert done.returncode == 0, done.stderr
    return folder, other


def copy_tree(source: Path, target: Path) -> Path:
    """A copy in which hard links are links again."""
    subprocess.run(["cp", "-a", source, target], check=True)
    return target


# --------------------------------------------------------------------------- tasks


def test_a_changed_archive_leaves_nothing(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder, mirror = copy_tree(changed[0], tmp_path / "copy"), changed[1]
    before, published = snapshot(folder), checksums(folder)
    kinds = sorted(Path(name).name.partition("-")[0][:5] for name in listed(folder))
    assert snapshot(folder) == before, "listing changes nothing"
    # The download, the corpus, the clips, four old shards, and four whose clips are published; a lock.
    old_archive = [name for name in before if name.count("/") == 2 and name.startswith("_workdir/downloads")]
    assert len(old_archive) == 2
    assert kinds.count("shard") == 8
    assert kinds.count("clips") == 1
    assert len(kinds) == 12
    used = used_bytes(folder)
    facts = json.loads(clean(folder, "--delete", "--json").stdout)
    assert used - used_bytes(folder) == facts["bytes"] > 0
    assert clean(folder).stdout == "nothing to delete\n"
    assert snapshot(folder).items() <= before.items(), "nothing is new or touched"
    assert checksums(folder) == published
    done = prepare(folder, mirror, "spoken_digit", *AT_16000)
    assert "nothing to do" in done.stdout, done.stderr
    more = prepare(folder, mirror, "spoken_digit", "--sample-rate", "22050")
    assert more.returncode == 0, more.stderr
    for word in ("fetch", "extract", "labels and splits"):
        assert word not in more.stderr
    assert published.items() <= checksums(folder).items()


def test_what_is_listed_can_be_read(changed: tuple[Path, Path]) -> None:
    lines = clean(changed[0]).stdout.splitlines()
    assert lines[0].startswith("a download that no current task or submission needs: 1, ")
    assert lines[1].split()[2].startswith("_workdir/downloads/")
    assert lines[-1].startswith("total: 12, ")
    assert lines[-1].endswith(" MB; --delete deletes all of it")


def test_a_shard_on_another_disk_is_a_copy_and_counts_in_full(
    changed: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(changed[0], tmp_path / "copy")
    facts = json.loads(clean(tmp_path / "copy", "--json").stdout)
    linked = json.loads(clean(changed[0], "--json").stdout)
    assert facts["bytes"] > linked["bytes"]


def test_unfinished_work_is_kept(changed: tuple[Path, Path], tmp_path: Path) -> None:
    """A run that failed goes on where it was."""
    folder, mirror = copy_tree(changed[0], tmp_path / "copy"), changed[1]
    work = folder / "_workdir" / SPOKEN
    shards = {path.name for path in work.glob("shard*")}
    shutil.rmtree(folder / "tasks")
    kept = shards - {Path(name).name for name in listed(folder)}
    assert len(kept) == 4
    clean(folder, "--delete")
    done = prepare(folder, mirror, "spoken_digit", *AT_16000)
    assert done.returncode == 0, done.stderr
    assert "clips, part" not in done.stderr
    assert "fetch" not in done.stderr


def test_a_task_that_nobody_asks_for_any_more(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    shutil.rmtree(folder / "tasks")
    (request,) = (folder / "_workdir" / "requests" / "tasks").iterdir()
    os.utime(request, (time.time() - 31 * DAY_S,) * 2)
    clean(folder, "--delete")
    left = {path.name for path in (folder / "_workdir").iterdir()}
    assert left == {".run.lock", "logs", "requests", "run-records", "step-records"}


def test_a_published_task_of_an_earlier_version_is_current(
    changed: tuple[Path, Path], tmp_path: Path
) -> None:
    """No run of this version was asked for it: its manifest tells how it was made."""
    folder = copy_tree(changed[0], tmp_path / "copy")
    expected = listed(folder)
    shutil.rmtree(folder / "_workdir" / "requests")
    line = only_line(command(folder, "heareval", "clean", "--delete"))
    assert line.startswith(
        "error: work folder _workdir: got no note of what its runs were asked for, as this "
    )
    assert line.endswith(
        "Run your usual `heareval prepare` or `evaluate` once: it does nothing that is done."
    )
    note_tasks([TaskJob("esc50", "full")], places_in(folder))
    assert listed(folder) == expected


def test_a_damaged_manifest_stops_it(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    manifest = folder / "tasks" / SPOKEN / files.MANIFEST
    manifest.unlink()
    manifest.write_text("{")
    before = snapshot(folder)
    assert f"tasks/{SPOKEN}/MANIFEST.json: got " in only_line(
        command(folder, "heareval", "clean", "--delete")
    )
    assert snapshot(folder) == before


@pytest.mark.parametrize("text", ["", "[]", '{"fingerprint": 1}'])
def test_a_damaged_stage_stops_it(changed: tuple[Path, Path], tmp_path: Path, text: str) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    for shard in (folder / "_workdir" / SPOKEN).glob("shard000-*"):
        (shard / files.MANIFEST).write_text(text)
    line = only_line(command(folder, "heareval", "clean", "--delete"))
    assert f"_workdir/{SPOKEN}/shard000-" in line
    assert line.endswith("Remove its folder.")


def test_a_damaged_note_stops_it(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    (note,) = (folder / "_workdir" / "requests" / "tasks").iterdir()
    for text in ("", '{"folder": "x"}', '{"folder": "x", "job": {"task": "esc50", "colour": 1}}'):
        note.write_text(text)
        line = only_line(command(folder, "heareval", "clean", "--delete"))
        assert f"requests/tasks/{note.name}" in line
        assert line.endswith("Remove it, and run again.")


def test_a_task_whose_file_is_gone_keeps_its_stages(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    stage = tmp_path / "_workdir" / "mine-1.0-full" / f"clips-{'0' * 16}"
    stage.mkdir(parents=True)
    (stage / files.MANIFEST).write_text("{}")
    request = {"folder": "mine-1.0-full", "job": {"task": str(tmp_path / "mine.toml"), "mode": "full"}}
    files.write_json(places.task_requests() / "mine-1.0-full.json", request)
    assert listed(tmp_path) == {}


# --------------------------------------------------------------------------- submissions


def write_environment(folder: Path, name: str, **facts: object) -> None:
    """What is known of an environment; nobody looks into the rest of it."""
    python = {"version": "3.11.4", "home": "/usr", "path": "/usr/bin/python"}
    content = {"interpreter": python, "source": None, "requirements": ["torch"], **facts}
    files.write_json(folder / "_workdir" / "environments" / name / files.MANIFEST, content)


def test_environments_and_weights_of_submissions(tmp_path: Path) -> None:
    places = places_in(tmp_path)
    asked, embedded, old, foreign, broken = (f"{number:016x}" for number in range(5))
    identity = {"text": "their", "identity": "tree 1", "is_folder": True}
    write_environment(tmp_path, asked, source=identity)
    write_environment(tmp_path, embedded)
    write_environment(tmp_path, old, source={**identity, "identity": "tree 0"})
    # Another machine of the cluster has its Python elsewhere.
    elsewhere = {"version": "3.11.9", "home": "/opt", "path": "/opt/bin/python"}
    write_environment(tmp_path, foreign, source=identity, interpreter=elsewhere)
    (tmp_path / "_workdir" / "environments" / broken).mkdir()
    for checksum in ("a" * 64, "b" * 64):
        (tmp_path / "_workdir" / "downloads" / checksum).mkdir(parents=True)
    config = SubmissionConfig("theirs", source="their", weights="https://example.org/w.pt", sha256="a" * 64)
    note_environment(config, old, places)
    note_environment(config, asked, places)
    note_weights(config, places)
    manifest = {
        "fingerprint": "1",
        "arrays": [],
        "submission": {"python": f"/nfs/elsewhere/environments/{embedded}/bin/python", "model": ""},
    }
    files.write_json(tmp_path / "embeddings" / "theirs" / "task" / files.MANIFEST, manifest)
    environments = "_workdir/environments"
    expected = {
        f"_workdir/downloads/{'b' * 64}": "a download that no current task or submission needs",
        f"{environments}/{old}": "an environment that no current submission needs",
        f"{environments}/{broken}": "an environment whose installation was broken off",
    }
    assert listed(tmp_path) == expected
    with share_work_folder(places, print):
        del expected[f"{environments}/{broken}"]
        assert listed(tmp_path) == expected, "a run may be installing it"
    for note in places.submission_requests().iterdir():
        os.utime(note, (time.time() - 31 * DAY_S,) * 2)
    assert f"{environments}/{asked}" in listed(tmp_path)
    assert f"{environments}/{embedded}" not in listed(tmp_path)


@pytest.mark.slow
def test_clips_at_another_rate(changed: tuple[Path, Path], tmp_path: Path) -> None:
    """They are kept for further models of that rate until the task is published anew."""
    folder, mirror = copy_tree(changed[0], tmp_path / "copy"), changed[1]
    (folder / "odd.py").write_text(
        MODEL.replace("sample_rate, scene", "sample_rate, _, scene").replace(
            "= 16000, 8, 8", "= 24000, 0, 8, 8"
        )
    )
    done = command(folder, "heareval", "embed", "odd", "--any-rate")
    assert done.returncode == 0, done.stderr
    (resampled,) = (folder / "_workdir" / SPOKEN).glob("resampled-*")
    name = str(resampled.relative_to(folder))
    assert name not in listed(folder)
    changed_again = prepare(folder, mirror, "spoken_digit", *AT_16000, "--engine", "ffmpeg")
    assert changed_again.returncode == 0, changed_again.stderr
    assert listed(folder)[name] == "clips of a task as it is no longer published"


# --------------------------------------------------------------------------- runs at work


@contextmanager
def stopped_run(folder: Path, mirror: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run that is halted amid its work, with the scratch of its steps."""
    words = ["heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    runner = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until = time.monotonic() + 300
    while not list(folder.glob("_workdir/*/.shard*.partial")) and time.monotonic() < until:
        assert runner.poll() is None, "the run was over before it was seen at work"
        time.sleep(0.0005)
    os.killpg(runner.pid, signal.SIGSTOP)
    try:
        yield runner
    finally:
        of_run = psutil.Process(runner.pid).children(recursive=True)
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
        # Its steps take a moment to end.
        while any(is_at_work(each) for each in of_run):
            time.sleep(0.001)


def is_at_work(process: psutil.Process) -> bool:
    """Return whether a process runs; one that has ended may remain as a zombie."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_run_at_work_keeps_everything(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    with stopped_run(tmp_path, mirror):
        before = snapshot(tmp_path)
        done = command(tmp_path, "heareval", "clean", "--delete")
        assert done.returncode == 75
        assert only_line(done) == (
            "error: work folder _workdir: got a run that is using it, expected none while files are deleted. "
            "Wait until it has ended, or stop it: it resumes where it was."
        )
        quiet = command(tmp_path, "heareval", "clean", "--delete", "--quiet")
        assert (quiet.returncode, quiet.stdout, quiet.stderr) == (75, "", "")
        assert not [name for name in listed(tmp_path) if name.endswith((".partial", ".lock"))]
        assert snapshot(tmp_path) == before
    # It was killed, which gave its lock back.
    partial = scratch_left(tmp_path)
    assert partial
    assert {str(path.relative_to(tmp_path)) for path in partial} <= listed(tmp_path).keys()
    clean(tmp_path, "--delete")
    assert not scratch_left(tmp_path)
    done = prepare(tmp_path, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert "fetch" not in done.stderr
    assert checksums(tmp_path) == checksums(prepared)


def test_a_run_waits_for_a_clean_that_has_begun(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "_workdir").mkdir()
    words = ["heareval", "prepare", "spoken_digit", *AT_16000, "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    with claim_work_folder(places_in(tmp_path)) as is_alone:
        assert is_alone
        runner = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert runner.stderr is not None
        assert runner.stderr.readline() == b"waiting for `heareval clean`, which is at work in _workdir\n"
        assert [path.name for path in (tmp_path / "_workdir").iterdir()] == [".run.lock"]
    runner.communicate()
    assert runner.returncode == 0
    assert (tmp_path / "tasks" / SPOKEN / files.MANIFEST).exists()


def test_runs_share_the_work_folder(tmp_path: Path) -> None:
    waited: list[str] = []
    places = places_in(tmp_path)
    with (
        share_work_folder(places, waited.append),
        share_work_folder(places, waited.append),
        claim_work_folder(places) as is_alone,
    ):
        assert not is_alone
    assert waited == []


# The clean that is killed right before it removes something for the n-th time.
KILLED_AT_A_REMOVAL = """if True:
    import os, signal, sys
    left = int(sys.argv.pop(1))
    def before(event, _):
        global left
        left -= event in ("os.rename", "os.remove", "os.rmdir")
        # os.kill is an event, too.
        if left < 0 and event != "os.kill":
            os.kill(os.getpid(), signal.SIGKILL)
    from heareval.commands.clean import clean
    sys.addaudithook(before)
    clean()
"""


@pytest.mark.parametrize(
    "removals", [1, 30, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 2, 3, 10, 60))]
)
def test_a_killed_clean_leaves_nothing_half(
    changed: tuple[Path, Path], tmp_path: Path, removals: int
) -> None:
    folder, mirror = copy_tree(changed[0], tmp_path / "copy"), changed[1]
    before = snapshot(folder)
    start = [sys.executable, "-c", KILLED_AT_A_REMOVAL, str(removals), "--delete"]
    done = subprocess.run(start, cwd=folder, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    for name in listed(folder):
        inside = {each for each in before if each.startswith(f"{name}/")}
        whole = {str(path.relative_to(folder)) for path in (folder / name).rglob("*")}
        assert name.endswith(files.SCRATCH) or whole == inside
    clean(folder, "--delete")
    assert not scratch_left(folder)
    assert "nothing to do" in prepare(folder, mirror, "spoken_digit", *AT_16000).stdout


def test_scratch_of_a_dead_host_goes_at_once(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    clean(folder, "--delete")
    name = f".x.another-host-1.7{files.SCRATCH}"
    for place in ("_workdir/corpora", f"_workdir/{SPOKEN}", "tasks", "tars"):
        (folder / place / name).mkdir()
    (folder / "_workdir" / "corpora" / name / "link").symlink_to("gone")
    with share_work_folder(places_in(folder), print):
        assert listed(folder) == {}
    assert sorted(listed(folder)) == [f"_workdir/corpora/{name}", f"_workdir/{SPOKEN}/{name}"]
    # Runs with another work folder may publish there, so that this one's lock says nothing.
    os.utime(folder / "tars" / name, (time.time() - 3 * DAY_S,) * 2)
    assert f"tars/{name}" in listed(folder)
    # This process is running.
    mine = files.scratch_path(folder / "_workdir" / "corpora" / "mine")
    mine.mkdir()
    assert f"_workdir/corpora/{mine.name}" not in listed(folder)


# --------------------------------------------------------------------------- logs, names and links


def test_old_logs(changed: tuple[Path, Path], tmp_path: Path) -> None:
    folder = copy_tree(changed[0], tmp_path / "copy")
    clean(folder, "--delete")
    first, second = sorted((folder / "_workdir" / "logs").glob("*.log"))
    node = os.uname().nodename
    assert all(f"-{node}-" in path.name for path in (first, second))
    os.utime(first, (time.time() - 31 * DAY_S,) * 2)
    job = first.with_name(f"embed-\x1b[31m\n-{node}-1.job.json")
    job.write_text("{}")
    os.utime(job, (time.time() - 3 * DAY_S,) * 2)
    mine = folder / "_workdir" / "logs" / "mine.txt"
    mine.write_text("notes")
    os.utime(mine, (0, 0))
    assert list(listed(folder)) == [f"_workdir/logs/{first.name}"]
    assert list(listed(folder, "--older-than", "2").values()) == ["a log of more than 2 days ago"] * 2
    assert "\x1b" not in clean(folder, "--older-than", "2").stdout
    clean(folder, "--older-than", "2", "--delete")
    assert sorted((folder / "_workdir" / "logs").iterdir()) == sorted([second, mine])


def test_only_what_heareval_made_is_listed(tmp_path: Path) -> None:
    """Links, folders of others, and names that only look alike stay; so does what links point to."""
    places, work, digits = places_in(tmp_path), tmp_path / "_workdir", "0" * 16
    note_tasks([TaskJob("esc50", "full")], places)
    outside = tmp_path / "outside"
    (outside / f"{digits}-{digits}").mkdir(parents=True)
    (outside / f"{digits}-{digits}" / files.MANIFEST).write_text("{}")
    (work / "corpora").symlink_to(outside)
    (work / "downloads").mkdir()
    (work / "downloads" / ("0" * 32)).symlink_to(outside)
    for name in ("notes", "Z" * 32, "0" * 31, f"{'0' * 32} (copy)"):
        (work / "downloads" / name).mkdir()
    for name in (f"clips-{digits}", f"shard-{digits}", f"thesis-{digits}"):
        (work / "mine" / name).mkdir(parents=True)
    (work / "mine" / f"thesis-{digits}" / files.MANIFEST).write_text("{}")
    (work / "environments").symlink_to(outside)
    (work / "luigid.state").write_text("state")
    before = snapshot(tmp_path)
    assert listed(tmp_path) == {}
    # What is deleted may hold links and names that are no text.
    stage = work / "mine" / f"sounds-{digits}"
    stage.mkdir()
    (stage / files.MANIFEST).write_text("{}")
    (stage / "out").symlink_to(outside)
    Path(os.fsdecode(os.fsencode(stage) + b"/\xff\n\x1b")).write_text("x")
    Path(os.fsdecode(os.fsencode(work) + b"/corpora2\xff")).mkdir()
    assert list(listed(tmp_path)) == [f"_workdir/mine/{stage.name}"]
    clean(tmp_path, "--delete")
    assert not stage.exists()
    assert before.items() <= snapshot(tmp_path).items()


def test_it_says_what_it_could_not_delete(tmp_path: Path) -> None:
    """A stage that is the mount point of another disk can't be renamed."""
    places = places_in(tmp_path)
    note_tasks([TaskJob("esc50", "full")], places)
    stages = [tmp_path / "_workdir" / "x" / f"clips-{number:016d}" for number in range(2)]
    for stage in stages:
        stage.mkdir(parents=True)
        (stage / files.MANIFEST).write_text("{}")
    mount = subprocess.run(["mount", "--bind", stages[0], stages[0]], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounts need root")
    try:
        done = command(tmp_path, "heareval", "clean", "--delete")
    finally:
        subprocess.run(["umount", stages[0]], check=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(", deleted as far as possible")
    assert f"error: not deleted: {stages[0]}: Device or resource busy" in done.stderr
    assert [path.name for path in (tmp_path / "_workdir" / "x").iterdir()] == [stages[0].name]


def test_a_folder_without_work(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval", "clean"))
    assert line == "error: work folder _workdir: got no such folder, expected that of earlier runs"
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_function_as_well(changed: tuple[Path, Path]) -> None:
    places, now_s = places_in(changed[0]), time.time()
    found = find_leftovers(places, find_needed(places, now_s), now_s, is_alone=True)
    assert {str(each.path.relative_to(changed[0])) for each in found} == listed(changed[0]).keys()
