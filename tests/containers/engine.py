"""A Docker engine, and the image of `docker/Dockerfile`, built without torch and without an image hub."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A folder that keeps the engine's images for the next run; a name of a base image; an image to test as it is.
FOLDER, BASE, IMAGE = "HEAREVAL_TEST_ENGINE", "HEAREVAL_TEST_BASE", "HEAREVAL_TEST_IMAGE"
# What the image needs from Debian's package registry.
PACKAGES = ("ca-certificates", "python3", "python3-venv", "tini", "libarchive13")
# The builds reach the package index as this machine does.
DERIVED = """
ARG FROM
FROM ${FROM}
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
COPY wheels /wheels
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""


@dataclass(frozen=True)
class Engine:
    """A Docker engine.

    Args:
        variables: environment variables for its clients.
    """

    variables: dict[str, str]

    def run(self, *words: str, expected: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run `docker` with these words; any exit code is fine if `expected` is None."""
        return self.run_client("docker", *words, expected=expected)

    def run_client(self, *command: str, expected: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a client of the engine."""
        done = subprocess.run(command, env=self.variables, capture_output=True, text=True, check=False)
        if expected is not None and done.returncode != expected:
            pytest.fail(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            )
        return done

    def inspect(self, name: str, template: str) -> str:
        """Return a fact of a container or an image, such as `{{.State.ExitCode}}`."""
        return self.run("inspect", "--format", template, name).stdout.strip()


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """Yield the Docker engine of this machine, or start one of our own; skip the test if there is neither."""
    if not shutil.which("docker"):
        pytest.skip("no Docker client: apt install docker.io docker-compose mmdebstrap")
    engine = Engine(dict(os.environ))
    if engine.run("info", expected=None).returncode == 0:
        yield engine
        return
    if not shutil.which("dockerd") or os.getuid():
        pytest.skip("no Docker engine answers; as root, with dockerd installed, the tests start one")
    kept = os.environ.get(FOLDER)
    folder = Path(kept or tempfile.mkdtemp(prefix="heareval-engine-"))
    try:
        with _started_engine(folder) as engine:
            yield engine
    finally:
        if not kept:
            shutil.rmtree(folder)


@contextlib.contextmanager
def _started_engine(folder: Path) -> Iterator[Engine]:
    """Start a Docker engine that changes no firewall rules and mounts nothing that others see."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"unix://{folder}/sock"
    places = ("--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid")
    network = ("--iptables=false", "--ip6tables=false", "--bridge=none")
    with (folder / "log").open("wb") as log:
        command = ["unshare", "--mount", "dockerd", "--host", address, *map(str, places), *network]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    engine = Engine({**os.environ, "DOCKER_HOST": address})
    try:
        while engine.run("info", expected=None).returncode:
            if daemon.poll() is not None:
                pytest.skip(f"dockerd does not run here: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.2)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait()


def find_image(engine: Engine, scratch: Path) -> str:
    """Return the image to test: the one that HEAREVAL_TEST_IMAGE names, or one built without torch."""
    if named := os.environ.get(IMAGE):
        return named
    base = _build_base(engine, scratch)
    words = ["--build-arg", f"BASE={base}", "--build-arg", "PIP_FIND_LINKS=/wheels"]
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        words += ["--build-arg", name] if name in os.environ else []
    dockerfile = str(ROOT / "docker" / "Dockerfile")
    engine.run("build", "--network", "host", *words, "-t", "heareval-thin", "-f", dockerfile, str(ROOT))
    return "heareval-thin"


def _build_base(engine: Engine, scratch: Path) -> str:
    """Build a base image with this machine's certificates, and with a wheel in place of torch."""
    (scratch / "wheels").mkdir()
    _write_empty_torch(scratch / "wheels")
    shutil.copyfile(ssl.get_default_verify_paths().cafile or os.devnull, scratch / "ca.crt")
    (scratch / "Dockerfile").write_text(DERIVED, encoding="utf-8")
    came_from = os.environ.get(BASE) or _import_debian(engine, scratch)
    words = ("--build-arg", f"FROM={came_from}", "-t", "heareval-test-base", str(scratch))
    engine.run("build", "--network", "host", *words)
    return "heareval-test-base"


def _import_debian(engine: Engine, scratch: Path) -> str:
    """Return a base image made from Debian's packages, without any image hub."""
    name = "heareval-test-debian"
    if engine.run("image", "inspect", name, expected=None).returncode == 0:
        return name
    if not shutil.which("mmdebstrap"):
        pytest.skip(f"no base image: apt install mmdebstrap, or name one in {BASE}, such as python:3.11-slim")
    tree = str(scratch / "debian.tar")
    packages = ",".join(PACKAGES)
    engine.run_client("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", tree)
    engine.run("import", tree, name)
    Path(tree).unlink()
    return name


def _write_empty_torch(folder: Path) -> None:
    """Write a wheel that stands in for torch, the largest package; preparing tasks never imports it."""
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    [release] = re.findall(r"^torch==(\S+)$", constraints, re.MULTILINE)
    # A local version is newer than the release itself, so pip takes it.
    version = f"{release}+left.out"
    about = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("torch/__init__.py", 'raise ImportError("this image is built without torch")\n')
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        tag = "Wheel-Version: 1.0\nGenerator: heareval\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{about}/WHEEL", tag)
        wheel.writestr(f"{about}/RECORD", "")
