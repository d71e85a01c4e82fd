"""Check that a model is the same in every process that loads it: untrained weights are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from heareval.embeddings.inside.channel import Send
from heareval.embeddings.inside.checks.subject import CheckOutcome, Sample, Subject, grade
from heareval.embeddings.inside.checks.values import FLOAT_NOISE, largest_difference
from heareval.embeddings.inside.errors import SubmissionError

# The folder that Python runs as a program.
INSIDE = Path(__file__).parents[1]


def check_reload(subject: Subject) -> CheckOutcome:
    """Check that a model that another process loads has the same output, and name weights that differ.

    Embeddings decide: a classifier without trained weights does no harm if no embedding depends on it.
    """
    here, there = make_sample(subject), subject.take_sample(subject.job)
    difference = largest_difference(here.embeddings, there.embeddings)
    measured = f"{difference:.1e} of the range"
    if difference > FLOAT_NOISE[0] and (random := find_random_weights(here, there)):
        return CheckOutcome("failed", f"untrained weights: {random}; embeddings differ by {measured}")
    return grade(difference, FLOAT_NOISE, measured)


def find_random_weights(here: Sample, there: Sample) -> str:
    """Return which weights differ between two loads, in words; "" if none does."""
    differ = [name for (name, one), (_, other) in zip(here.weights, there.weights) if one != other]
    count = max(len(here.weights), len(there.weights))
    return f"{len(differ)} of {count} differ from load to load, such as {differ[0]}" if differ else ""


def make_sample(subject: Subject) -> Sample:
    """Return the sample of the shared model of this process."""
    # Some weights are only made when the model is called.
    embeddings = subject.embed_both(subject.make_sounds(3, 1.0))
    return Sample(subject.framework.checksum_weights(subject.model), embeddings)


def write_sample(job: dict[str, Any], send: Send) -> dict[str, Any]:
    """Write the embeddings of a sample to the file `out` of the job; return the checksums of the weights."""
    sample = make_sample(Subject(job, take_sample_elsewhere))
    np.savez(job["out"], *sample.embeddings)
    return {"weights": sample.weights}


def take_sample_elsewhere(job: dict[str, Any]) -> Sample:
    """Load the submission in a new process, and return its sample.

    Raises:
        SubmissionError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        job_file, out = Path(folder) / "job.json", Path(folder) / "sample.npz"
        # What else is printed goes to the log.
        receiver, sender = os.pipe()
        with open(receiver, "rb") as channel:
            job = {**job, "do": "sample", "out": str(out), "channel": sender}
            job_file.write_text(json.dumps(job), encoding="utf-8")
            process = subprocess.Popen(
                [sys.executable, str(INSIDE), str(job_file)], stdin=subprocess.DEVNULL, pass_fds=(sender,)
            )
            os.close(sender)
            begin = f"{job['token']} ".encode()
            messages = [json.loads(line[len(begin) :]) for line in channel if line.startswith(begin)]
        code, message = process.wait(), messages[-1] if messages else {}
        if "error" in message:
            raise SubmissionError(**message["error"])
        if code or "result" not in message:
            got = f"exit code {code}"
            raise SubmissionError("loading the model in a new process", got=got, expected="a model")
        with np.load(out) as arrays:
            embeddings = [arrays[name] for name in arrays.files]
    return Sample([(name, checksum) for name, checksum in message["result"]["weights"]], embeddings)
