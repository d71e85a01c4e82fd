"""`heareval validate` as a command, and submissions that end or block their process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")

from heareval.embeddings.inside.checks.table import CHECKS
from heareval.embeddings.submission import Model
from heareval.embeddings.validate import Finding, Limits, has_passed, run_checks
from tests.commands import command, only_line
from tests.embeddings.zoo import GOOD, START, ZOO

ROOT = Path(__file__).parents[2]
WHEN_CLIPPED = START + "\n    import os, time\n    if audio.max() == 1: "


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def validate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `heareval validate` of this checkout in a folder."""
    return command(
        folder, "heareval", "validate", *words, PYTHONPATH=os.pathsep.join([str(folder), str(ROOT)])
    )


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("os.kill(os.getpid(), 9)", "signal SIGKILL"),
        pytest.param("os._exit(3)", "exit code 3", marks=pytest.mark.slow),
        pytest.param("time.sleep(600)", "no message for 20 s", marks=pytest.mark.slow),
    ],
)
def test_a_check_that_ends_the_process_loses_only_itself(here: Path, deed: str, told: str) -> None:
    (here / "ends.py").write_text(GOOD.replace(START, WHEN_CLIPPED + deed))
    limits = Limits(long_s=10.0, check_s=20.0)
    heard: list[Finding] = []
    findings, ran_on = run_checks(Model("ends"), here / "logs", limits=limits, on_finding=heard.append)
    assert findings == heard
    assert list(by_name(findings)) == list(CHECKS)
    assert {f.check for f in findings if f.result == "failed"} == {"clipping"}
    assert told in by_name(findings)["clipping"].measured
    assert by_name(findings)["clipping"].cause == ("silent" if "sleep" in deed else "ended")
    assert by_name(findings)["speed"].result == "ok"
    assert not has_passed(findings)
    assert set(ran_on) == {"python", "numpy", "torch", "framework", "device"}
    assert ran_on["framework"] == "torch"


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("os.abort()", "SIGABRT"),
        pytest.param("time.sleep(600)", "no message for 3 s", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_ends_at_import_is_one_finding(here: Path, deed: str, told: str) -> None:
    (here / "ends.py").write_text(f"import os, time\n{deed}\n")
    findings, _ = run_checks(Model("ends"), here / "logs", limits=Limits(check_s=3.0))
    assert findings[0].result == "failed"
    assert told in findings[0].measured
    assert {finding.result for finding in findings[1:]} == {"not run"}
    assert list(by_name(findings)) == list(CHECKS)


def test_a_child_left_running_delays_nothing(here: Path) -> None:
    (here / "ends.py").write_text("import os, time\nos.fork() or time.sleep(900)\nos._exit(3)\n")
    began = time.monotonic()
    findings, _ = run_checks(Model("ends"), here / "logs")
    assert "exit code 3" in findings[0].measured
    assert time.monotonic() - began < 300


def test_an_interpreter_without_numpy_is_an_error(here: Path) -> None:
    python = here / "python"
    python.write_text("#!/bin/sh\necho 'No module named numpy' >&2; exit 1\n")
    python.chmod(0o755)
    findings, ran_on = run_checks(Model("any", python=str(python)), here / "logs")
    assert [finding.result for finding in findings] == ["failed"]
    assert "No module named numpy" in findings[0].measured
    assert not has_passed(findings)
    assert not ran_on


def test_the_command_prints_a_table_and_advice(tmp_path: Path) -> None:
    (tmp_path / "seconds.py").write_text("print('hello')\n" + ZOO["seconds"].source)
    done = validate(tmp_path, "seconds", "--long-seconds", "10")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["check", "result", "measured"]
    assert "milliseconds     failed   last of a 4 s clip: 3.975" in lines
    assert "  fix:    Multiply the timestamps by 1000: they are seconds." in lines
    assert lines[-1].startswith("31 checks: 25 ok, 1 failed, ")
    assert "hello" not in done.stdout
    assert done.stderr.startswith("log: ")


def test_the_command_prints_json(tmp_path: Path) -> None:
    (tmp_path / "dead.py").write_text(ZOO["dead"].source)
    done = validate(tmp_path, "dead", "--long-seconds", "10", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is True
    assert [check["check"] for check in told["checks"]] == list(CHECKS)
    dead = told["checks"][list(CHECKS).index("dimensions")]
    assert (dead["result"], dead["measured"]) == (
        "warning",
        "scene: 1 constant, 0 duplicate; timestamp: 1 constant, 0 duplicate",
    )
    assert dead["effect"]
    assert dead["fix"]


def test_checks_that_were_not_run_are_one_row(tmp_path: Path) -> None:
    (tmp_path / "breaks.py").write_text(f"import no_such_module\n{GOOD}")
    done = validate(tmp_path, "breaks")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].startswith(
        "functions        failed   ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert lines[2] == f"the others       not run  {len(CHECKS) - 1} checks that need functions"
    assert len(lines) < 12
    assert lines[-1] == f"{len(CHECKS)} checks: 1 failed, {len(CHECKS) - 1} not run"
    told = json.loads(validate(tmp_path, "breaks", "--json").stdout)
    assert [check["check"] for check in told["checks"]] == list(CHECKS)


def test_a_module_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    done = validate(tmp_path, "no_such_module")
    assert done.returncode == 2
    assert only_line(done).startswith(
        "error: submission no_such_module: got no module named no_such_module, expected"
    )
    assert not done.stdout


def test_no_audio_is_longer_than_asked_for(tmp_path: Path) -> None:
    """No check but those of long audio may try audio of more than 10 s."""
    tells = START + "\n    open('lengths', 'a').write(f'{length}\\n')"
    (tmp_path / "tells.py").write_text(GOOD.replace(START, tells))
    done = validate(tmp_path, "tells", "--long-seconds", "10")
    assert done.returncode == 0, done.stdout
    lengths = set(map(int, (tmp_path / "lengths").read_text().split()))
    assert max(lengths) == 10 * 16000


def test_a_validation_that_is_stopped_does_not_speak_of_resuming(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(600)\n")
    command_line = [sys.executable, "-m", "heareval", "validate", "waits"]
    with open(tmp_path / "said", "wb") as said:
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        process = subprocess.Popen(
            command_line,
            cwd=tmp_path,
            env=variables,
            stdout=said,
            stderr=said,
            # A shell may start background jobs with SIGINT ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    while process.poll() is None and not (tmp_path / "begun").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 130
    assert (tmp_path / "said").read_text() == "stopped\n"


def test_options_that_are_no_json_are_one_line(tmp_path: Path) -> None:
    done = validate(tmp_path, "any", "--model-options", "size=3")
    assert done.returncode == 2
    assert only_line(done).startswith("error: model options: got 'size=3'")
