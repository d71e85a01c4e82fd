"""The channel to the process that started this one: a pipe that only `send` writes to."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import traceback
import typing

from heareval.embeddings.inside.errors import SubmissionError

# Python 3.8 evaluates these and cannot subscript `dict` and collections.abc.Callable.
Message = typing.Dict[str, typing.Any]
Send = typing.Callable[[Message], None]
Action = typing.Callable[[Message, Send], Message]


class Channel:
    """The sending end of a pipe.

    Args:
        descriptor: its file descriptor.
        token: begins each line that is a message, so that no other output is taken for one.
    """

    def __init__(self, descriptor: int, token: str) -> None:
        self.descriptor, self.token, self.pipe = descriptor, token, os.fstat(descriptor).st_ino
        self.lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one message; safe to call from any thread.

        Ends this process if the submission has closed the pipe: nobody would hear from it any more.
        """
        # The line break ends what the submission may have written to the descriptor.
        rest = f"\n{self.token} {json.dumps(message)}\n".encode()
        with self.lock:
            try:
                # What has the number now may be a file of the submission.
                while rest and os.fstat(self.descriptor).st_ino == self.pipe:
                    rest = rest[os.write(self.descriptor, rest) :]
            except OSError:
                pass
        if rest:
            sys.stderr.write("\nthe submission has closed a file descriptor that it did not open\n")
            sys.stderr.flush()
            os._exit(1)


_channel: Channel | None = None


def send(message: Message) -> None:
    """Send one message; safe to call from any thread."""
    if _channel:
        _channel.send(message)


def ignore_message(message: Message) -> None:
    """Drop a message."""


def open_channel(descriptor: int, token: str) -> None:
    """Let `send` write to a pipe, which programs that the submission starts do not inherit."""
    global _channel
    # A crash in native code then leaves a traceback in the log.
    faulthandler.enable()
    _channel = Channel(descriptor, token)
    os.set_inheritable(descriptor, False)
    # A child that the submission forks must not send what its parent sends. Use the file descriptor: at the
    # fork another thread may hold the lock.
    os.register_at_fork(after_in_child=lambda: os.dup2(2, descriptor))


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
