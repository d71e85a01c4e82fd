"""Run ffmpeg: find the program, build its command line, read its log."""

from __future__ import annotations

import errno
import functools
import os
import re
import shutil
import subprocess
from collections import deque
from pathlib import Path
from typing import IO

import ffmpeg
import imageio_ffmpeg

from heareval.errors import HearevalError

ERROR = re.compile(rb"\[(error|fatal|panic)\] ")
ADDRESS = re.compile(rb" @ 0x[0-9a-f]+")
# What ffmpeg logs if it receives a signal, or gets no thread or memory for its own parts.
STOPPED = (b"received signal", os.strerror(errno.EAGAIN).encode(), b"Could not open encoder")
# This line only repeats the file's name.
REPEATED = b"Error opening input file"
# The exit codes of a shell or loader that could not start the program.
NOT_STARTED = (126, 127)


@functools.cache
def find_ffmpeg() -> str:
    """Return the ffmpeg on PATH if it can resample with libsoxr, else the one of imageio-ffmpeg.

    Raises:
        HearevalError: neither has libsoxr.
    """
    candidates: list[str | None] = [shutil.which("ffmpeg"), imageio_ffmpeg.get_ffmpeg_exe()]
    for program in filter(None, candidates):
        shown = subprocess.run(
            [program, "-hide_banner", "-buildconf"], capture_output=True, text=True, check=False
        )
        if "--enable-libsoxr" in shown.stdout:
            return program
    raise HearevalError(
        "ffmpeg",
        got="none with libsoxr on PATH or in imageio-ffmpeg",
        expected="one built with --enable-libsoxr",
        remedy="Install imageio-ffmpeg again, or put such an ffmpeg on PATH.",
    )


def build_ffmpeg_command(stream: object) -> list[str | bytes]:
    """Return the command line of an ffmpeg-python stream; every line of its log begins with its level."""
    program = find_ffmpeg()
    arguments: list[str] = ffmpeg.compile(stream, cmd=program, overwrite_output=True)[1:]
    log_options = ("-v", "level+info", "-hide_banner", "-nostats")
    return [program, *log_options, *(argument.encode("latin-1") for argument in arguments)]


def format_file_name(path: Path) -> str:
    """Return a file's name in the form that ffmpeg takes for a file, whatever characters it has.

    Without the prefix, ffmpeg would take `-x` for an option and `concat:a|b` for a list of files.

    >>> format_file_name(Path("/data/-x.wav"))
    'file:/data/-x.wav'
    """
    # A name may be bytes that are not valid text, but ffmpeg-python takes text.
    return "file:" + os.fsencode(path.absolute()).decode("latin-1")


def read_errors(log: IO[bytes]) -> str:
    """Return the last three errors in ffmpeg's log, without memory addresses and repetitions; "" if none."""
    log.seek(0)
    last = deque((line for line in log if ERROR.search(line) and REPEATED not in line), maxlen=3)
    errors = (ERROR.sub(b"", ADDRESS.sub(b"", line)).decode(errors="replace").strip() for line in last)
    return " / ".join(dict.fromkeys(errors))


def describe_interruption(log: IO[bytes], code: int) -> str:
    """Return what stopped ffmpeg from outside or kept it from starting; "" if it ended by itself.

    Args:
        log: what ffmpeg wrote to its standard error, open for reading.
        code: its exit code, negative for a signal.
    """
    log.seek(0)
    last = deque((line for line in log if code in NOT_STARTED or any(s in line for s in STOPPED)), maxlen=1)
    if last:
        return last[0].decode(errors="replace").strip()
    if code < 0:
        return f"killed by signal {-code}"
    return f"exit code {code}" if code in NOT_STARTED else ""
