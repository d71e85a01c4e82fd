"""A real luigid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from heareval.workflow.configuration import PACKAGED


class Luigid:
    """A luigid that can be killed and started again at the same address.

    Args:
        folder: for its log and its state.
        config: the luigi.cfg that it reads.
    """

    def __init__(self, folder: Path, config: Path = PACKAGED) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.config = folder, config
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = [
            "--address",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--state-path",
            str(self.folder / "state"),
        ]
        with (self.folder / "luigid.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from luigi.cmdline import luigid; luigid()", *words],
                cwd=self.folder,
                env={**os.environ, "LUIGI_CONFIG_PATH": str(self.config)},
                stdout=log,
                stderr=log,
            )
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/api/is_paused"):
                break
            time.sleep(0.1)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it with a signal; after SIGTERM it leaves its state, and after SIGKILL none."""
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait()


@contextlib.contextmanager
def running_luigid(folder: Path) -> Iterator[str]:
    """Start a luigid that keeps its state and its log in a folder; yield its address."""
    daemon = Luigid(folder)
    daemon.start()
    try:
        yield daemon.address
    finally:
        daemon.end()
