"""What a run costs before, between and after its work: planning, labels of large tables, and nothing to do.

python -m benchmarks.schedule

All tasks of the benchmark are planned with the numbers of clips that they really have; the table of labels is
that of speech_commands in the mode `full`, with as many files as the real one, all of them empty.
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


def command(mirror: Path) -> list[str]:
    """Preparing everything from stand-ins."""
    words = [sys.executable, "-m", "heareval.cli", "prepare", "all", "--force", "--num-workers", "2"]
    return [*words, "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")]


def until_first_step(mirror: Path) -> float:
    """Seconds from the command to the end of the first step, which takes a fraction of one."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            command(mirror), cwd=out, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with process:
            line = process.stderr.readline() if process.stderr else ""
            seconds = time.perf_counter() - started
            process.terminate()
            process.communicate()
    print(f"  {line.strip()}")  # noqa: T201
    return seconds


def whole_run(mirror: Path, out: Path) -> float:
    """Seconds of a run, the first or one with nothing to do."""
    started = time.perf_counter()
    subprocess.run(command(mirror), cwd=out, check=True, capture_output=True)
    return time.perf_counter() - started


def make_words(folder: Path) -> dict[str, Path]:
    """The files of speech_commands by name, and some noise."""
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


def draw(archives: dict[str, Path], out: Path) -> int:
    """Labels read, splits drawn, descriptions written; returns the number of clips."""
    task = speech_commands.TASK
    drawn = metadata.select_clips(task, "full", task.read_recordings(archives, "full"))
    metadata.write_description(out, task, "full", drawn)
    metadata.write_clips(out / metadata.CLIPS, drawn, out)
    return len(drawn.clips)


def show(what: str, seconds: Sequence[float]) -> None:
    """The middle one and the worst."""
    print(f"{what}: {sorted(seconds)[len(seconds) // 2]:.2f} s, at most {max(seconds):.2f} s")  # noqa: T201


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus in stand_ins.CORPORA.values():
            for archive, tree in corpus().items():
                stand_ins.pack(tree, folder / "mirror" / archive)
        stand_ins.gunshot_recordings(folder / "mirror")
        stand_ins.md5sums(folder / "mirror")
        show(
            "all tasks, until the first step is done",
            [until_first_step(folder / "mirror") for _ in range(RUNS)],
        )
        (folder / "out").mkdir()
        show("all tasks from stand-ins", [whole_run(folder / "mirror", folder / "out")])
        again = [whole_run(folder / "mirror", folder / "out") for _ in range(RUNS)]
        show("the same again, nothing to do", again)
        archives = make_words(folder / "words")
        clips = draw(archives, folder / "out")
        seconds = [timed(lambda: draw(archives, folder / "out")) for _ in range(RUNS)]
        show(f"labels and splits of {clips} clips", seconds)


if __name__ == "__main__":
    main()
