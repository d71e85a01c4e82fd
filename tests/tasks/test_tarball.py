"""SHA256SUMS beside tarballs that heareval did not pack."""

from __future__ import annotations

from pathlib import Path

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
