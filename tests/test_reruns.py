"""The files in contrib/ that start reruns: their lines, run as cron, Slurm and systemd run them."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import MODEL
from tests.test_unfinished import write_task

CONTRIB = Path(__file__).parent.parent / "contrib"
UNITS = sorted((CONTRIB / "systemd").iterdir())
pytestmark = pytest.mark.skipif(not shutil.which("flock"), reason="no flock: apt install util-linux")
# Where the files say that the work lies.
WORK = "/data/hear"
FIELDS_OF_TIME = 5


def read_table(path: Path) -> tuple[dict[str, str], str]:
    """The variables that a crontab sets and the command of its one line."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines[:-1])
    return variables, lines[-1].split(maxsplit=FIELDS_OF_TIME)[FIELDS_OF_TIME]


def read_service_command(path: Path) -> str:
    """The command that a unit starts."""
    (line,) = (line for line in path.read_text().splitlines() if line.startswith("ExecStart="))
    return line.removeprefix("ExecStart=")


def install(folder: Path, tasks: str) -> Path:
    """Copy the script to a folder with a virtual environment, for a few tasks instead of all."""
    script = (CONTRIB / "rerun.sh").read_text()
    assert "\nrun prepare all\n" in script
    target = folder / "rerun.sh"
    target.write_text(script.replace("run prepare all\n", f"run prepare {tasks} --sample-rate 16000\n"))
    target.chmod(0o755)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "heareval").symlink_to(Path(sys.executable).parent / "heareval")
    return target


def run_line(line: str, folder: Path, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """Run the command of a table in a folder, in the environment of cron: no terminal, hardly a variable."""
    return subprocess.run(
        ["/bin/sh", "-c", line.replace(WORK, str(folder))],
        cwd="/",
        env={"HOME": str(folder), "LOGNAME": "hear", "SHELL": "/bin/sh", "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        check=False,
    )


@pytest.mark.slow
def test_a_rerun_by_cron_tells_news_once_and_failures_always(tmp_path: Path) -> None:
    variables, line = read_table(CONTRIB / "crontab")
    install(tmp_path, write_task(tmp_path, "crows", is_damaged=False))
    done = run_line(line, tmp_path, variables["PATH"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("new      task folder crows-v1-full: at 16000 Hz\n")
    # What the first rerun leaves to be deleted is told with it.
    assert done.stdout.endswith(", deleted\n")
    with open(tmp_path / "_workdir" / ".run.lock") as lock:
        # Somebody else's run keeps `clean` from deleting, which is no failure.
        fcntl.flock(lock, fcntl.LOCK_SH)
        done = run_line(line, tmp_path, variables["PATH"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "mine.toml").write_text('module = "no_such_module"\n')
    done = run_line(line, tmp_path, variables["PATH"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "no_such_module" in done.stderr


@pytest.mark.slow
def test_a_submission_is_evaluated_from_the_next_rerun_on(tmp_path: Path) -> None:
    _, line = read_table(CONTRIB / "scrontab")
    script = install(tmp_path, task := write_task(tmp_path, "crows", is_damaged=False))
    options = f"--tasks {task} --probe linear"
    script.write_text(script.read_text().replace('evaluate "$@"', f'evaluate "$@" {options}'))
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "my_model.py").write_text(MODEL)
    (tmp_path / "submissions" / "mine.toml").write_text('name = "mine"\nmodule = "my_model.py"\n')
    done = run_line(line, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nnew      mine (probe-linear) on crows-v1-full: top1_acc " in done.stdout
    done = run_line(line, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (read_table(CONTRIB / "crontab")[1], 75),
        # Slurm would mail that the job has failed.
        (read_table(CONTRIB / "scrontab")[1], 0),
        (read_service_command(CONTRIB / "systemd" / "hear-rerun.service"), 75),
    ],
    ids=["cron", "slurm", "systemd"],
)
def test_while_a_rerun_is_at_work_another_one_is_left_out_without_a_word(
    tmp_path: Path, line: str, code: int
) -> None:
    script = tmp_path / "rerun.sh"
    script.write_text("#!/bin/sh\necho the second one runs\n")
    script.chmod(0o755)
    lock = ["flock", str(tmp_path / "rerun.lock"), "sh", "-c", "echo locked; cat"]
    with subprocess.Popen(lock, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        done = run_line(line, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
        first.communicate()
    assert run_line(line, tmp_path).stdout == "the second one runs\n"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd here")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(WORK, str(tmp_path)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    # A key that systemd does not know is told, but is no failure.
    ours = [line for line in done.stderr.splitlines() if "hear-" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_rerun_by_systemd_and_runs_by_hand_see_each_others_gpus_and_memory() -> None:
    """Both are claimed by locks in the temporary folder of the machine."""
    lines = (CONTRIB / "systemd" / "hear-rerun.service").read_text().splitlines()
    (writable,) = (line.partition("=")[2].split() for line in lines if line.startswith("ReadWritePaths="))
    assert writable == [WORK, "/tmp"]
    assert not any(line.startswith("PrivateTmp=") for line in lines)


def test_a_service_that_fails_starts_the_one_that_mails() -> None:
    names = {unit.name for unit in UNITS}
    service = (CONTRIB / "systemd" / "hear-rerun.service").read_text()
    assert "OnFailure=hear-failed@%n.service\n" in service
    assert {"hear-failed@.service", "hear-rerun.timer"} <= names
