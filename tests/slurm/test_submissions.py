"""`slurm/submissions.sh`: one `heareval evaluate` per submission, one per array element."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import MODEL, RESULT, SCORE
from tests.slurm.cluster import Cluster
from tests.slurm.jobs import SUBMISSIONS, check_complete, read_log

pytestmark = pytest.mark.slurm
LINES = """# the submissions of this year

my_model.py --name first
my_model.py --name 'second' --model-options '{"size": 8}'
my_model.py --name "third
"""


def test_an_element_evaluates_a_submission(cluster: Cluster, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "submissions.txt").write_text(LINES)
    sums = ("--mirror", mirror, "--accept-checksums", mirror / "MD5SUMS")
    words = (SUBMISSIONS, "submissions.txt", "--tasks", "spoken_digit", *sums, *SCORE)
    job = cluster.submit(tmp_path, "--array=1-4%1", *words)
    *good, unquoted, beyond = cluster.wait(job)
    check_complete(tmp_path, good)
    made = {path.parent.parent.name for path in tmp_path.glob(f"embeddings/*/*/{RESULT}")}
    assert made == {"first", "second"}
    assert (beyond.state, beyond.exit_code) == ("FAILED", 2)
    assert "submissions.txt has no submission number 4" in read_log(tmp_path, f"{job}_4")
    assert (unquoted.state, unquoted.exit_code) == ("FAILED", 2)
    assert "number 3 of submissions.txt has a quote that is not closed" in read_log(tmp_path, f"{job}_3")


@pytest.mark.parametrize("words", [(), ("no_such_file.txt", "--tasks", "all")])
def test_a_wrong_command_line(cluster: Cluster, tmp_path: Path, words: tuple[str, ...]) -> None:
    job = cluster.submit(tmp_path, "--array=1", SUBMISSIONS, *words)
    (ended,) = cluster.wait(job)
    assert (ended.state, ended.exit_code) == ("FAILED", 2)
    assert "usage: sbatch --array=1-300%20" in read_log(tmp_path, f"{job}_1")
