"""The batch scripts in slurm/, as far as they can be checked without Slurm; tests/slurm runs them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT / "slurm" / "requeue.sh"
SCRIPTS = sorted(set((ROOT / "slurm").glob("*.sh")) - {SHARED})


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck: apt install shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *SCRIPTS, SHARED],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_for_any_cluster(script: Path) -> None:
    text = script.read_text()
    options = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", text, re.MULTILINE)
    assert not {"partition", "account", "qos", "time", "mem"} & {name for name, _ in options}
    assert {("signal", "B:USR1@300"), ("requeue", ""), ("open-mode", "append")} <= set(options)
    # sbatch passes over options that come after a command.
    assert text.rindex("#SBATCH") < re.search(r"^[^#\n]", text, re.MULTILINE).start()
