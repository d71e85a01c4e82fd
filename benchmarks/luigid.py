"""Measure how long a run through luigid takes to begin: many submissions on many tasks, one graph.

python -m benchmarks.luigid --submissions 34 --tasks all

The submissions do nothing, and are described without being loaded. The corpora are stand-ins. A run is killed
as soon as its first step has begun.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.status import describe_models
from heareval import api
from heareval.layout import Places
from tests import stand_ins
from tests.luigi_daemon import Luigid

RUNS = 3


def make_mirror(folder: Path) -> Path:
    """Write the archives of stand-in corpora, with checksums, and return their folder."""
    for corpus in stand_ins.CORPORA.values():
        for archive, tree in corpus().items():
            stand_ins.pack(tree, folder / archive)
    stand_ins.gunshot_recordings(folder)
    stand_ins.md5sums(folder)
    return folder


def measure(folder: Path, words: list[str], url: str) -> tuple[float, float]:
    """Return the seconds from a command to the begin of its first step, and its seconds of CPU."""
    words = [sys.executable, "-m", "heareval", "evaluate", *words, "--force", "--num-workers", "2"]
    words += ["--scheduler-url", url] if url else []
    started = time.perf_counter()
    with (folder / "run.log").open("wb") as log:
        runner = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        while runner.poll() is None and not list(folder.glob("_workdir/step-records/*.running.json")):
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        if runner.poll() is not None:
            raise SystemExit((folder / "run.log").read_text())
        cpu_s = measure_cpu(runner)
        runner.kill()
        runner.wait()
    return seconds, cpu_s


def measure_cpu(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds of CPU that a process has taken."""
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def count_registrations(folder: Path) -> tuple[int, int]:
    """Return the number of steps in the log of a run, and how often luigid was told of one."""
    (log,) = folder.glob("_workdir/logs/*.log")
    told = [line.split("Informed scheduler that task")[1].split()[0] for line in _lines(log)]
    return len(set(told)), len(told)


def _lines(log: Path) -> Iterator[str]:
    with log.open(encoding="utf-8") as lines:
        yield from (line for line in lines if "Informed scheduler that task" in line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--submissions", type=int, default=34)
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--runs", type=int, default=RUNS)
    asked = parser.parse_args()
    names = [f"model{number}" for number in range(asked.submissions)]
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        mirror = make_mirror(top / "mirror")
        words = [*names, "--tasks", asked.tasks, "--mirror", str(mirror)]
        words += ["--accept-checksums", str(mirror / "MD5SUMS")]
        for with_luigid in (True, False):
            for number in range(asked.runs):
                folder = top / f"{with_luigid} {number}"
                folder.mkdir()
                for model in names:
                    (folder / f"{model}.py").write_text("sample_rate = 16000\n")
                os.chdir(folder)
                sys.path.insert(0, str(folder))
                os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path[1:2]])
                describe_models(names, api.resolve_places(Places()))
                luigid = Luigid(folder)
                luigid.start()
                seconds, cpu_s = measure(folder, words, luigid.address if with_luigid else "")
                of_luigid = f", {measure_cpu(luigid.process):.1f} s of luigid" if luigid.process else ""
                luigid.end()
                sys.path.remove(str(folder))
                steps, calls = count_registrations(folder)
                where = f"with{'' if with_luigid else 'out'} luigid"
                print(  # noqa: T201
                    f"{where}: first step after {seconds:.1f} s, {cpu_s:.1f} s of CPU{of_luigid}; "
                    f"{steps} steps, told {calls} times"
                )
        os.chdir("/")


if __name__ == "__main__":
    main()
