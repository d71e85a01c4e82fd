"""The channel to the process that started this one: one JSON object per line."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
import typing

from heareval.embeddings.inside.errors import SubmissionError

# Python 3.8 evaluates these and cannot subscript `dict` and collections.abc.Callable.
Message = typing.Dict[str, typing.Any]
Send = typing.Callable[[Message], None]
Action = typing.Callable[[Message, Send], Message]

_stream, _lock = sys.stdout, threading.Lock()


def send(message: Message) -> None:
    """Send one message; safe to call from any thread."""
    with _lock:
        _stream.write(json.dumps(message) + "\n")
        _stream.flush()


def ignore_message(message: Message) -> None:
    """Drop a message."""


def open_channel() -> None:
    """Reserve stdout for `send`, send everything else that is printed to stderr, and die with the parent."""
    global _stream
    die_with_parent()
    # A crash in native code then leaves a traceback in the log.
    faulthandler.enable()
    _stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A child that the submission forks must neither keep the channel open nor repeat buffered lines. Use the
    # file descriptor: at the fork another thread may hold the stream's lock.
    descriptor = _stream.fileno()
    os.register_at_fork(after_in_child=lambda: os.dup2(2, descriptor))


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; do nothing on other systems."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def run_action(action: Action, job: Message) -> int:
    """Run an action and send its result or its error as the last message; return the exit code."""
    try:
        send({"result": action(job, send)})
        return 0
    except SubmissionError as error:
        send({"error": error.facts})
    except OSError as error:
        # Problems with the submission's own files are SubmissionErrors.
        traceback.print_exc()
        what, got = f"file {error.filename or job.get('out', '')}", error.strerror or str(error)
        send({"error": {"what": what, "got": got, "expected": "", "remedy": ""}})
    return 1
