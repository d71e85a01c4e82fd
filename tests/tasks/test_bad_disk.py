"""A disk that cannot be read in the middle of a file: an error, never a clip that ends there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE, SECONDS = 16000, 60
CLIP = """
import sys
from pathlib import Path
from heareval.spec import Recording
from heareval.tasks import audio
settings = audio.AudioSettings((16000,), 60.0, skip_bad=True)
try:
    print(audio.prepare_clips([Recording(Path(sys.argv[1]), "a")], Path("out"), settings))
except OSError as error:
    print("OSError", error.errno, error.filename)
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace makes reads fail")
@pytest.mark.parametrize(
    "suffix", ["wav", "mp3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("flac", "ogg"))]
)
def test_a_disk_that_cannot_be_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.random.RandomState(0).uniform(-0.5, 0.5, RATE * SECONDS), RATE)
    failing = ["-e", "trace=read", "-e", "inject=read:error=EIO:when=4+", "-P", str(path)]
    words = ["strace", "-f", "-qq", "-o", "/dev/null", *failing, sys.executable, "-c", CLIP, str(path)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.stdout.strip() == f"OSError 5 {path}"
