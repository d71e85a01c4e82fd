"""Measure heareval on a GPU within some minutes, on a machine that may lack most packages.

python -m benchmarks.gpu --minutes 8 --out gpu.json
python -m benchmarks.gpu --collect-wheels wheels --python 3.12
python -m benchmarks.gpu --wheels wheels --out gpu.json
python -m benchmarks.gpu --dry-run

Each part runs in its own process, so that the others go on when one fails or lacks a package. Every line that
a part measures is printed and written at once, and the part that runs at the end of the time is stopped.
torch, numpy, scipy, scikit-learn, transformers and packaging must be there; `--collect-wheels` downloads what
else the parts and tests import, 15 MB, and `--wheels` makes it importable. A dry run does everything in
small, on the CPU if there is no GPU: it shows that the script works, and its ratios mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# What a machine for PyTorch has, or what is too large to bring.
NOT_BROUGHT = {
    *("librosa", "llvmlite", "matplotlib", "numba", "numpy", "pandas", "resampy", "scikit-learn", "scipy"),
    *("torch", "torchaudio", "transformers"),
}
# What the parts and tests import; it is brought with all that it needs.
BROUGHT = (
    *(
        "click",
        "ffmpeg-python",
        "hypothesis",
        "imageio-ffmpeg",
        "isal",
        "luigi",
        "psutil",
        "pytest",
        "requests",
    ),
    *("sed_eval", "setuptools", "soundfile", "soxr", "threadpoolctl", "torchcrepe"),
)
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Size:
    """How much a part does.

    Args:
        networks: networks in a stack.
        rows: training rows of a case, at most.
        loop_rows: rows of the plain loop, whose time is scaled.
        clips: clips of 4 s that are embedded.
        long_s: the longest audio, in seconds.
        turns: turns, after one that doesn't count.
        models: kinds in benchmarks.models.
    """

    networks: int
    rows: int
    loop_rows: int
    clips: int
    long_s: float
    turns: int
    models: tuple[str, ...]


FULL = Size(8, 10**9, 8192, 256, 1200.0, 3, ("crepe-tiny", "wav2vec2"))
DRY = Size(2, 4096, 2048, 8, 20.0, 1, ("crepe-tiny", "wav2vec2", "trivial"))


def report_machine(size: Size, report: Report) -> None:
    """Say what the machine has, and what it lacks."""
    import torch

    facts: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "gpu_gib": round(properties.total_memory / 2**30)}
    lacking = [name for name in (*BROUGHT, *sorted(NOT_BROUGHT)) if not is_installed(name)]
    report({**facts, "cpus": os.cpu_count(), "lacking": lacking})


def run_tests(size: Size, report: Report) -> None:
    """Run the tests marked gpu, and report their last line."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-ra"]
    folders = ["tests/predictions/test_cuda.py", "tests/embeddings/test_cuda.py"]
    done = subprocess.run([*command, *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        print(*lines[-60:], sep="\n", file=sys.stderr)  # noqa: T201
    report({"exit_code": done.returncode, "last_line": lines[-1] if lines else ""})


def measure_training(size: Size, report: Report) -> None:
    """Compare a stack of networks with the bare batched products, and with a plain loop over a DataLoader."""
    from benchmarks.predict import CASES, LEARNING_RATES, make_split, train_with_heareval, train_with_loop
    from heareval.predictions.protocol import Settings

    for name, case in CASES.items():
        case = replace(case, rows=min(case.rows, size.rows))
        split = make_split(case)
        epochs = max(1, 8000 // case.rows)
        points = [
            Settings(
                1,
                LEARNING_RATES[number % len(LEARNING_RATES)],
                "xavier_uniform",
                max_epochs=epochs,
                check_val_every_n_epoch=epochs,
            )
            for number in range(size.networks)
        ]
        few = replace(case, rows=min(case.rows, size.loop_rows))
        few_rows = replace(split, clips=split.clips[: few.rows], x=split.x[: few.rows], y=split.y[: few.rows])
        one = replace(points[0], max_epochs=1, check_val_every_n_epoch=1)
        scale = size.networks * epochs * case.rows / few.rows
        seconds = measure_in_turns(
            {
                "heareval": lambda: train_with_heareval(case, split, points),  # noqa: B023
                "bare": lambda: multiply_batched(case, split, points),  # noqa: B023
                "loop": lambda: train_with_loop(few, few_rows, [one]),  # noqa: B023
            },
            size.turns,
        )
        seconds["loop"] = [scale * each for each in seconds["loop"]]
        report(
            {
                "case": name,
                "networks": size.networks,
                "seconds": statistics.median(seconds["heareval"]),
                "heareval/bare": median_ratio(seconds["heareval"], seconds["bare"]),
                "loop/heareval": median_ratio(seconds["loop"], seconds["heareval"]),
            }
        )


def multiply_batched(case: Any, split: Any, points: Sequence[Any]) -> None:
    """Compute the matrix products of every training step of a stack: one batched product for each layer."""
    import itertools

    import torch

    from heareval.predictions.learners.training import batch_bounds

    settings, device = points[0], split.x.device
    widths = [case.dim, *[settings.hidden_dim] * settings.hidden_layers, case.labels]
    weights = [torch.randn(len(points), a, b, device=device) for a, b in itertools.pairwise(widths)]
    with torch.inference_mode():
        for _ in range(settings.max_epochs):
            for start, stop in batch_bounds(case.rows, settings.batch_size):
                inputs = [split.x[start:stop].expand(len(points), -1, -1)]
                for weight in weights:
                    inputs.append(inputs[-1] @ weight)
                gradient = inputs.pop()
                for i in reversed(range(len(weights))):
                    inputs[i].mT @ gradient
                    # No gradient is needed for the embeddings.
                    gradient = gradient @ weights[i].mT if i else gradient


def compare_stack_with_alone(size: Size, report: Report) -> None:
    """Train the same networks alone and as a stack, and report how far their weights are apart."""
    import torch

    from benchmarks.predict import CASES, choose_loss, make_split
    from heareval.predictions.learners.learner import Criterion
    from heareval.predictions.learners.training import Objective, Training, fit_all
    from heareval.predictions.protocol import Settings
    from heareval.predictions.results import Validation

    case = replace(CASES["esc50"], rows=1200)
    split, settings = make_split(case), Settings(2, 1e-3, "xavier_uniform", max_epochs=2)
    settings = replace(settings, check_val_every_n_epoch=1)
    # Each validation is better than the one before, so that the last weights are kept.
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        weights = {}
        for most in (1, size.networks):
            count = iter(range(10**6))
            objective = Objective(
                choose_loss(case),
                lambda logits: Validation(float(next(count))),  # noqa: B023
                Criterion("score", maximise=True),
            )
            trainings = [
                Training((split,), split.x[:2], settings, objective, seed) for seed in range(size.networks)
            ]
            trained = dict(fit_all(trainings, case.labels, order="fixed", most=most))
            weights[most] = [
                torch.cat([each.flatten() for each in trained[number].network.parameters()])
                for number in range(size.networks)
            ]
        alone, stacked = torch.stack(weights[1]), torch.stack(weights[size.networks])
        difference = (alone - stacked).abs().max() / alone.abs().max()
        report({"deterministic": deterministic, "relative_difference": float(difference)})


def profile_steps(size: Size, report: Report) -> None:
    """Report the share of a training's time in which the GPU works, and the kernels that take most."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.predict import CASES, DEVICE, make_split, train_with_heareval
    from heareval.predictions.protocol import Settings

    case = replace(CASES["speech"], rows=min(CASES["speech"].rows, size.rows))
    split = make_split(case)
    settings = Settings(1, 1e-3, "xavier_uniform", max_epochs=1, check_val_every_n_epoch=1)
    points = [settings] * size.networks
    train_with_heareval(case, split, points)
    is_gpu = DEVICE.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with profile(activities=activities) as profiler:
        started = time.perf_counter()
        train_with_heareval(case, split, points)
        if is_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    column = "self_device_time_total" if is_gpu else "self_cpu_time_total"
    spent = {event.key: getattr(event, column) / 1e6 for event in profiler.key_averages()}
    most = sorted(spent, key=lambda name: -spent[name])[:8]
    report(
        {
            "seconds": seconds,
            "share_of_device": sum(spent.values()) / seconds,
            "most": {name[:60]: round(spent[name], 4) for name in most},
        }
    )


def measure_embedding(size: Size, report: Report) -> None:
    """Compare embedding clips with the bare model, for each model whose packages are there."""
    from benchmarks import embed

    for kind in size.models:
        with tempfile.TemporaryDirectory() as folder:
            task = embed.make_task(Path(folder) / "task", size.clips, 4.0)
            out = Path(folder) / "out"
            out.mkdir()
            try:
                bare = embed.make_bare_loop(task, kind)
            except ImportError as error:
                report({"model": kind, "lacking": str(error)})
                continue
            seconds = measure_in_turns(
                {
                    "heareval": lambda: embed.run_heareval(task, kind, out),  # noqa: B023
                    "bare": lambda: bare(out),  # noqa: B023
                },
                size.turns,
            )
        report(
            {
                "model": kind,
                "clips_per_s": size.clips / statistics.median(seconds["heareval"]),
                "throughput of heareval/bare": median_ratio(seconds["bare"], seconds["heareval"]),
            }
        )


def measure_long_audio(size: Size, report: Report) -> None:
    """Measure the rule of 2021: embeddings of 20 minutes of audio within 16 GB of GPU memory."""
    from benchmarks import models
    from heareval.embeddings import baseline
    from heareval.embeddings.inside.checks import long_audio
    from heareval.embeddings.inside.checks.reload import take_sample_elsewhere
    from heareval.embeddings.inside.checks.subject import Subject

    cases = {kind: (models.__name__, {"kind": kind}) for kind in size.models}
    cases["baseline"] = (baseline.__name__, {})
    for name, (module, options) in cases.items():
        job = {"module": module, "weights_path": "", "options": options, "device": "auto"}
        job |= {"long_s": size.long_s, "long_budget_s": 60.0, "memory_bytes": 16e9, "speed": 5.0}
        subject = Subject(job, take_sample_elsewhere)
        outcomes = [long_audio.check_long_audio(subject)]
        if outcomes[0].result == "ok":
            outcomes.append(long_audio.check_memory(subject))
        report({"model": name, "measured": [f"{each.result}: {each.measured}" for each in outcomes]})


def measure_in_turns(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each turn, after one turn that doesn't count."""
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: each[1:] for name, each in seconds.items()}


def median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the ratios of each turn."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


# The most important first: the last ones are lost if the time runs out.
PARTS: dict[str, Callable[[Size, Report], None]] = {
    "machine": report_machine,
    "tests": run_tests,
    "training": measure_training,
    "stacks": compare_stack_with_alone,
    "embedding": measure_embedding,
    "long audio": measure_long_audio,
    "profile": profile_steps,
}


def run_part(name: str, size: Size) -> None:
    """Run a part in this process; each report is a line of JSON on standard output."""
    PARTS[name](size, lambda measured: print(json.dumps(measured), flush=True))  # noqa: T201


def run_in_process(name: str, is_dry: bool, deadline: float, report: Report) -> None:
    """Run a part in a process that ends at the deadline, and report what it measured and how it ended."""
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, *(["--dry-run"] if is_dry else [])]
    # Matrix products with the same sums in every run need it, and it must be set before CUDA starts.
    variables = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as complaints:
        process = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        stopper = threading.Timer(max(1.0, deadline - started), process.kill)
        stopper.start()
        for line in process.stdout or ():
            if line.startswith("{"):
                report({"part": name, **json.loads(line)})
        code = process.wait()
        stopper.cancel()
        complaints.seek(0)
        last_lines = complaints.read().splitlines()[-30:]
    ended = {"part": name, "ended": code, "part_s": round(time.monotonic() - started, 1)}
    report({**ended, "last_lines": last_lines} if code else ended)


def list_brought() -> list[str]:
    """Return the distributions to bring: BROUGHT, and what they need according to this environment."""
    found: dict[str, None] = {}
    waiting = list(BROUGHT)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found or name in NOT_BROUGHT:
            continue
        found[name] = None
        if is_installed(name):
            needs = map(Requirement, importlib.metadata.requires(name) or ())
            waiting += [need.name for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return sorted(found)


def is_installed(name: str) -> bool:
    """Return whether this environment has a distribution."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def collect_wheels(folder: Path, python: str) -> None:
    """Download or build wheels for Linux on x86-64, in the versions of this environment.

    Args:
        folder: where the wheels go.
        python: version of Python that they are for.
    """
    pip = [sys.executable, "-m", "pip"]
    quietly = ["--quiet", "--no-deps"]
    tags = [f"manylinux{version}_x86_64" for version in ("2014", "_2_17", "_2_28")]
    target = ["--only-binary=:all:", "--python-version", python]
    target += [word for tag in tags for word in ("--platform", tag)]
    for name in list_brought():
        pinned = f"{name}=={importlib.metadata.version(name)}" if is_installed(name) else name
        download = [*pip, "download", *quietly, *target, "--dest", str(folder), pinned]
        if subprocess.run(download, capture_output=True, check=False).returncode:
            # There is only a source distribution, of pure Python.
            build = [*pip, "wheel", *quietly, "--wheel-dir", str(folder), pinned]
            subprocess.run(build, check=True)
    for wheel in folder.glob("*.whl"):
        drop_large_files(wheel)


def drop_large_files(wheel: Path, most_bytes: int = 16 << 20) -> None:
    """Remove large files from a wheel, which nothing here needs: the full CREPE's weights, and ffmpeg."""
    smaller = wheel.with_suffix(".part")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            if member.file_size <= most_bytes:
                new.writestr(member, old.read(member))
    smaller.replace(wheel)


def bring_wheels(wheels: Path, target: Path) -> None:
    """Install what this machine lacks from a folder of wheels into a folder, and let the parts import it."""
    # The first two fields of a wheel's name are those of its distribution.
    lacking = [wheel for wheel in sorted(wheels.glob("*.whl")) if not is_installed(wheel.name.split("-")[0])]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*install, "--target", str(target), *map(str, lacking)], check=True)
    paths = [str(target), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def main() -> None:
    """Run the parts one after the other until the time is over."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="stop after this time")
    parser.add_argument("--out", type=Path, help="a file for the measurements, as JSON")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--dry-run", action="store_true", help="do everything in small, without a GPU too")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels for what this machine lacks")
    parser.add_argument("--collect-wheels", type=Path, help="fill a folder with such wheels, and stop")
    parser.add_argument("--python", default="3.12", help="version of Python that the wheels are for")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.collect_wheels:
        collect_wheels(given.collect_wheels, given.python)
        return
    if given.part:
        run_part(given.part, DRY if given.dry_run else FULL)
        return
    measured: list[Mapping[str, Any]] = []

    def report(line: Mapping[str, Any]) -> None:
        measured.append(line)
        print(json.dumps(line), flush=True)  # noqa: T201
        if given.out:
            given.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as target:
        if given.wheels:
            bring_wheels(given.wheels, Path(target))
        for name in given.parts:
            run_in_process(name, given.dry_run, started + 60 * given.minutes, report)
            if time.monotonic() > started + 60 * given.minutes:
                break


if __name__ == "__main__":
    main()
