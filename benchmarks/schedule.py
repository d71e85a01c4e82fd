"""Measure the overhead of a run: planning, reading large tables of labels, and a run with nothing to do.

python -m benchmarks.schedule

All tasks of the benchmark are planned with their real numbers of clips. The labels are those of
speech_commands in mode `full`, with as many files as in the real corpus, all of them empty.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import soundfile

from heareval.tasks import metadata
from heareval.tasks.corpora import speech_commands
from tests import stand_ins

RUNS = 3
WORDS = 35
FILES = {"train": 105_829, "test": 4_890}
NOISES, NOISE_S, RATE = ("running_tap", "white_noise", "pink_noise"), 60, 16000


def prepare_command(mirror: Path) -> list[str]:
    """Return the command that prepares all tasks from stand-in corpora."""
    words = [sys.executable, "-m", "heareval", "prepare", "all", "--force", "--num-workers", "2"]
    return [*words, "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")]


def measure_until_first_step(mirror: Path) -> float:
    """Return the seconds from the command to the end of the first step, which itself takes under a second."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            prepare_command(mirror), cwd=out, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with process:
            line = process.stderr.readline() if process.stderr else ""
            seconds = time.perf_counter() - started
            process.terminate()
            process.communicate()
    print(f"  {line.strip()}")  # noqa: T201
    return seconds


def measure_whole_run(mirror: Path, out: Path) -> float:
    """Return the seconds of a run: the first one, or one with nothing to do."""
    started = time.perf_counter()
    subprocess.run(prepare_command(mirror), cwd=out, check=True, capture_output=True)
    return time.perf_counter() - started


def make_speech_commands(folder: Path) -> dict[str, Path]:
    """Create empty files with the names of speech_commands, and some noise; return folders by split."""
    archives = {}
    for split, count in FILES.items():
        archives[split] = folder / split
        words = [*speech_commands.WORDS, *(f"word{i}" for i in range(WORDS - len(speech_commands.WORDS)))]
        for word in words if split == "train" else [*speech_commands.WORDS, "_silence_", "_unknown_"]:
            (archives[split] / word).mkdir(parents=True)
        folders = sorted(archives[split].iterdir())
        for i in range(count):
            (folders[i % len(folders)] / f"{split}{i:08x}_nohash_0.wav").touch()
    names = sorted(str(path.relative_to(archives["train"])) for path in archives["train"].glob("*/*.wav"))
    (archives["train"] / "validation_list.txt").write_text("\n".join(names[::10]))
    (archives["train"] / "testing_list.txt").write_text("\n".join(names[1::10]))
    (archives["train"] / speech_commands.NOISE).mkdir()
    for noise in NOISES:
        path = archives["train"] / speech_commands.NOISE / f"{noise}.wav"
        soundfile.write(path, [0.0] * (NOISE_S * RATE), RATE, subtype="PCM_16")
    return archives


def write_splits(archives: dict[str, Path], out: Path) -> int:
    """Read the labels, draw the splits and write the description; return the number of clips."""
    task = speech_commands.TASK
    drawn = metadata.select_clips(task, "full", task.read_recordings(archives, "full"))
    metadata.write_description(out, task, "full", drawn)
    metadata.write_clips(out / metadata.CLIPS, drawn, out)
    return len(drawn.clips)


def show(what: str, seconds: Sequence[float]) -> None:
    """Print the median and the maximum."""
    print(f"{what}: {sorted(seconds)[len(seconds) // 2]:.2f} s, at most {max(seconds):.2f} s")  # noqa: T201


def measure_seconds(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print the overheads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus in stand_ins.CORPORA.values():
            for archive, tree in corpus().items():
                stand_ins.pack(tree, folder / "mirror" / archive)
        stand_ins.gunshot_recordings(folder / "mirror")
        stand_ins.md5sums(folder / "mirror")
        show(
            "all tasks, until the end of the first step",
            [measure_until_first_step(folder / "mirror") for _ in range(RUNS)],
        )
        (folder / "out").mkdir()
        show("all tasks from stand-in corpora", [measure_whole_run(folder / "mirror", folder / "out")])
        again = [measure_whole_run(folder / "mirror", folder / "out") for _ in range(RUNS)]
        show("the same run again, nothing to do", again)
        archives = make_speech_commands(folder / "words")
        clips = write_splits(archives, folder / "out")
        seconds = [measure_seconds(lambda: write_splits(archives, folder / "out")) for _ in range(RUNS)]
        show(f"labels and splits of {clips} clips", seconds)


if __name__ == "__main__":
    main()
