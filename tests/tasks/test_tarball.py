"""SHA256SUMS beside tarballs that heareval did not pack."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heareval import files, layout
from heareval.formats.tarball_record import TarballRecord, begin_tarball_record, write_tarball_record
from heareval.tasks import tarball

OURS, THEIRS, GONE = "a.tar.gz", "b.tar.gz", "c.tar.gz"


def test_checksums_of_other_files_stay(tmp_path: Path) -> None:
    for name in (OURS, THEIRS):
        (tmp_path / name).write_text(name)
    write_tarball_record(tmp_path / OURS, TarballRecord("1" * 64, 8, (OURS,), "feed"))
    listed = {OURS: "0" * 64, THEIRS: "2" * 64, GONE: "3" * 64}
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in listed.items())
    (tmp_path / layout.SHA256SUMS).write_text(f"# mine\n{text}")
    tarball.write_checksums(tmp_path)
    sums = (tmp_path / layout.SHA256SUMS).read_text().splitlines()
    assert sums == [f"{'1' * 64}  {OURS}", f"{'2' * 64}  {THEIRS}"]


def test_a_tarball_that_is_being_packed_is_not_listed(tmp_path: Path) -> None:
    begin_tarball_record(tmp_path / OURS, (OURS,))
    (tmp_path / OURS).write_text("half a minute before the record")
    tarball.write_checksums(tmp_path)
    assert (tmp_path / layout.SHA256SUMS).read_text() == ""
    assert files.read_json(layout.tar_manifest(tmp_path / OURS))["sha256"] == ""


@pytest.mark.skipif(not shutil.which("bindfs") or os.geteuid() != 0, reason="needs bindfs and root")
def test_a_tarball_that_this_machine_does_not_see_yet_stays_listed(tmp_path: Path) -> None:
    """As through NFS, new files are listed, but for a while not found: they were asked for before."""
    server, mount, ready = tmp_path / "server", tmp_path / "mount", tmp_path / "ready"
    sidecar = layout.tar_manifest(server / THEIRS).relative_to(server)
    (server / sidecar).parent.mkdir(parents=True)
    (ready / sidecar).parent.mkdir(parents=True)
    mount.mkdir()
    write_tarball_record(ready / THEIRS, TarballRecord("2" * 64, 8, (THEIRS,), "feed"))
    (ready / THEIRS).write_text(THEIRS)
    line = f"{'2' * 64}  {THEIRS}\n"
    (ready / layout.SHA256SUMS).write_text(line)
    script = (
        'bindfs -o negative_timeout=60 "$0" "$1" && trap \'cd / && umount "$1"\' EXIT\n'
        '! ls "$1/$3" && ! ls "$1/$4" && cp -r "$2/." "$0" && ! ls "$1/$3" && ! ls "$1/$4" || exit 9\n'
        '"$5" -c "import sys; from pathlib import Path; from heareval.tasks.tarball import write_checksums; '
        'write_checksums(Path(sys.argv[1]))" "$1"'
    )
    words = [*map(str, (server, mount, ready)), THEIRS, str(sidecar), sys.executable]
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (server / layout.SHA256SUMS).read_text() == line
