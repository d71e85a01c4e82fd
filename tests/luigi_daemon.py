"""A real luigid."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from heareval.workflow.configuration import PACKAGED


@contextlib.contextmanager
def running_luigid(folder: Path) -> Iterator[str]:
    """Start a luigid that keeps its state and its log in a folder; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "-c",
        "from luigi.cmdline import luigid; luigid()",
        "--address",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with (folder / "luigid.log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, *words, "--state-path", str(folder / "state")],
            cwd=folder,
            env={**os.environ, "LUIGI_CONFIG_PATH": str(PACKAGED)},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/is_paused"):
                break
            time.sleep(0.1)
        yield address
    finally:
        daemon.kill()
        daemon.wait()
