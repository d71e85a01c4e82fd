"""Archives of every kind: intact, damaged and malicious ones, also with members outside their folder."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from isal import igzip

from heareval.archives.unpack import members
from heareval.archives.unpack.extract import extract
from heareval.errors import HearevalError
from tests.stand_ins import pack

TREE = {"a/b.txt": b"hello", "ü.wav": bytes(100_000), "-dash": b"x"}
KINDS = ["a.zip", "a.tar.gz", "a.tar", "a.rar"]
ENDLESS = 1 << 40


def unpack(archive: Path, folder: Path, volumes: Sequence[Path] = ()) -> dict[str, bytes]:
    count = extract(archive, folder, volumes=volumes)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert count == len(found)
    return found


# --------------------------------------------------------------------------- writing archives


def number(value: int) -> bytes:
    """Encode a number for RAR 5: seven bits per byte, the lowest first."""
    low = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(part | 0x80 for part in low[:-1]), low[-1]])


def rar_block(*fields: int | bytes) -> bytes:
    body = b"".join(field if isinstance(field, bytes) else number(field) for field in fields)
    head = number(len(body)) + body
    return struct.pack("<L", zlib.crc32(head)) + head


def rar_member(name: str, content: bytes = b"", mode: int = 0o100644, extra: bytes = b"", lacks: int = 0):
    """Return a stored file whose content lacks some bytes of the size in its header."""
    has_content, has_extra, crc_follows, stored, unix = 2, 1, 4, 0, 1
    sizes = [has_content | has_extra, len(extra)] if extra else [has_content]
    described = [
        crc_follows,
        len(content) + lacks,
        mode,
        struct.pack("<L", zlib.crc32(content)),
        stored,
        unix,
    ]
    raw = name.encode()
    return rar_block(2, *sizes, len(content), *described, len(raw), raw, extra) + content


def rar_link(kind: int, target: str) -> bytes:
    """Return the extra field that makes a member a link; kind 1 is symbolic, 4 is hard."""
    body = b"".join(map(number, (5, kind, 0, len(target)))) + target.encode()
    return number(len(body)) + body


def write_rar(path: Path, *blocks: bytes) -> Path:
    main, end = rar_block(1, 0, 0), rar_block(5, 0, 0)
    path.write_bytes(b"Rar!\x1a\x07\x01\x00" + main + b"".join(blocks) + end)
    return path


def write_zip(path: Path, name: str = "a", content: bytes = b"x", **facts: int | str) -> Path:
    """Write a zip of one member, with `facts` in its directory, true or not."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
        for fact, value in facts.items():
            setattr(archive.infolist()[0], fact, value)
    return path


def write_tar(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w:") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def header(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0, mode: int = 0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    return info


def with_member(path: Path, *names: str) -> Path:
    """Write an archive of the kind of its suffix, with empty members; "a/" is a folder."""
    if path.suffix == ".rar":
        return write_rar(path, *(rar_member(n, mode=0o40755 if n[-1:] == "/" else 0o100644) for n in names))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        return path
    kinds = (tarfile.REGTYPE, tarfile.DIRTYPE)
    return write_tar(path, *(header(name, kinds[name.endswith("/")]) for name in names))


def packed(path: Path, tree: dict[str, bytes]) -> Path:
    if path.suffix == ".rar":
        return write_rar(path, *(rar_member(name, content) for name, content in tree.items()))
    if path.suffix == ".tar":
        path.write_bytes(gzip.decompress(pack(tree, path.with_name("plain.tar.gz")).read_bytes()))
        return path
    return pack(tree, path)


# --------------------------------------------------------------------------- intact archives


@pytest.mark.parametrize("name", KINDS)
def test_members(tmp_path: Path, name: str) -> None:
    assert unpack(packed(tmp_path / name, TREE), tmp_path / "out") == TREE


@pytest.mark.parametrize("name", ["a.wav", "a.csv", "a.txt", "a.json", "a.midi"])
def test_plain_files_are_copied(tmp_path: Path, name: str) -> None:
    """Also through a relative symbolic link, which would be broken in the folder."""
    (tmp_path / "elsewhere").write_bytes(b"content")
    (tmp_path / name).symlink_to("elsewhere")
    assert unpack(tmp_path / name, tmp_path / "far/out") == {name: b"content"}
    assert unpack((tmp_path / "elsewhere").rename(tmp_path / name), tmp_path / "out") == {name: b"content"}


@pytest.mark.parametrize("name", KINDS)
def test_folders_without_files(tmp_path: Path, name: str) -> None:
    assert unpack(with_member(tmp_path / name, "./", "a/", "b/c/"), tmp_path / "out") == {}
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["a", "b", "c"]


def test_names_in_a_zip_do_not_depend_on_the_version_of_python(tmp_path: Path) -> None:
    """Some versions prefer the name in this extra field to that in the directory."""
    extra = struct.pack("<2HBL", 0x7075, 7, 1, zlib.crc32(b"a")) + b"b/"
    assert unpack(write_zip(tmp_path / "a.zip", extra=extra), tmp_path / "out") == {"a": b"x"}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_methods(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for name, content in TREE.items():
            archive.writestr(name, content)
    assert unpack(tmp_path / "a.zip", tmp_path / "out") == TREE


def test_of_members_with_one_path_the_last_stays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b", b"long one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a/b", b"short")
    write_tar(tmp_path / "a.tar", header("a/b", size=9), header("./a//b", size=5))
    write_rar(tmp_path / "a.rar", rar_member("a/b", b"long one"), rar_member("a/b", b"short"))
    contents = [unpack(tmp_path / name, tmp_path / name[2:]) for name in ("a.zip", "a.tar", "a.rar")]
    assert contents == [{"a/b": b"short"}, {"a/b": bytes(5)}, {"a/b": b"short"}]


def test_links_within_a_tar_become_files(tmp_path: Path) -> None:
    """A later member replaces one name of a linked file; the content under the other name stays."""
    symbolic, hard = tarfile.SYMTYPE, tarfile.LNKTYPE
    links = [header("a/s", symbolic, "../b/./f"), header("h", hard, "b/f"), header("b/f", size=1)]
    found = unpack(write_tar(tmp_path / "a.tar", header("b/f", size=3), *links), tmp_path / "out")
    assert found == {"a/s": bytes(3), "h": bytes(3), "b/f": bytes(1)}
    assert not any(path.is_symlink() for path in (tmp_path / "out").rglob("*"))


def test_all_can_be_read_and_written_whatever_the_archive_says(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", header("d", tarfile.DIRTYPE, mode=0), header("d/f", size=1, mode=0))
    write_zip(tmp_path / "a.zip", "d/f", external_attr=0o100000 << 16)
    write_rar(tmp_path / "a.rar", rar_member("d/", mode=0o40000), rar_member("d/f", b"x", mode=0o100000))
    for name in ("a.tar", "a.zip", "a.rar"):
        unpack(tmp_path / name, tmp_path / name[2:])
        assert (tmp_path / name[2:] / "d").stat().st_mode & 0o700 == 0o700
        assert (tmp_path / name[2:] / "d/f").stat().st_mode & 0o600 == 0o600


# --------------------------------------------------------------------------- damaged archives


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_cut_off_archives(tmp_path: Path, name: str, part: float) -> None:
    content = packed(tmp_path / name, {**TREE, "more": bytes(range(256)) * 4000}).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(HearevalError, match=rf"{name}: got .*expected a readable (rar )?archive"):
        unpack(tmp_path / name, tmp_path / "out")


def test_checksums_are_compared(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", content=b"hello")
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes().replace(b"hello", b"hallo"))
    with pytest.raises(HearevalError, match=r"Bad CRC-32.*It is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    # This tar fills the reader's buffer exactly, so the checksum lies beyond everything that tarfile reads.
    whole = header("a", size=1 << 18).tobuf() + bytes(igzip.READ_BUFFER_SIZE - 512)
    content = bytearray(gzip.compress(whole))
    content[-6] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(HearevalError, match=r"CRC check failed.*It is damaged"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out2")


def test_a_damaged_header_is_not_the_end_of_a_tar(tmp_path: Path) -> None:
    content = bytearray(write_tar(tmp_path / "a.tar", header("a"), header("b")).read_bytes())
    content[512] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(HearevalError, match=r"a\.tar: got .*an invalid header"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_members_that_promise_more_than_they_have(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", content=b"x", file_size=2)
    with pytest.raises(HearevalError, match=r"'a' does not have the size in the directory.*It is damaged"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    write_rar(tmp_path / "a.rar", rar_member("a", b"x", lacks=4))
    with pytest.raises(HearevalError, match=r"got 1 of 5 bytes of a member.*It is damaged"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


def test_unknown_kind(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(b"7z")
    with pytest.raises(HearevalError, match=r"a\.7z: got an unknown kind, expected \.zip"):
        unpack(tmp_path / "a.7z", tmp_path / "out")
    with pytest.raises(HearevalError, match=r"a\.tar: got an unknown kind, expected \.zip as the last"):
        extract(tmp_path / "a.tar", tmp_path / "out", volumes=[tmp_path / "a.z01"])


def test_another_kind_is_not_guessed_behind_the_name_of_a_rar(tmp_path: Path) -> None:
    """By itself, libarchive would read the file that this list names, from anywhere on the machine."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.rar").write_text(f"#mtree\nx type=file contents={tmp_path}/secret\n")
    with pytest.raises(HearevalError, match="a file that begins with b'#mtree"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


@pytest.mark.parametrize("library", ["libnone.so", "libc.so.6"])
def test_a_missing_libarchive_is_one_line(tmp_path: Path, library: str) -> None:
    code = "import pathlib, sys; from heareval.archives.unpack.extract import extract\n"
    code += "try: extract(pathlib.Path('a.rar'), pathlib.Path('out'), print)\n"
    code += "except Exception as error: print(type(error).__name__, error)"
    write_rar(tmp_path / "a.rar")
    environment = {**os.environ, "LIBARCHIVE": library}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("HearevalError libarchive: got ")
    assert "apt install libarchive13" in done.stdout
    assert done.stdout.count("\n") == 1


# --------------------------------------------------------------------------- malicious archives


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "member", ["../evil", "/tmp/evil", "a/../../evil", "C:\\evil", "C:evil", "..\\evil", "a\\evil"]
)
def test_members_that_leave_the_folder(tmp_path: Path, member: str, name: str) -> None:
    with pytest.raises(HearevalError, match=rf"{name}: got member '.*expected names inside the archive's f"):
        unpack(with_member(tmp_path / name, "good", member), tmp_path / "out")
    assert not list(tmp_path.rglob("*evil"))
    # The directory of a zip gives all names before anything is written.
    written = {"a.zip": [], "a.tar.gz": ["good"], "a.tar": ["good"], "a.rar": ["good"]}
    assert [path.name for path in (tmp_path / "out").iterdir()] == written[name]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (".", "file names"),
        ("x" * 256, "names of at most 255 bytes"),
        ("ü" * 128, "names of at most 255 bytes"),
        ("/".join(["y" * 200] * 30), "names that the file system can write"),
    ],
)
def test_names_that_cannot_be_written(tmp_path: Path, name: str, member: str, expected: str) -> None:
    with pytest.raises(HearevalError, match=rf"got (member .*expected {expected}|Filename is too)") as caught:
        unpack(with_member(tmp_path / name, member), tmp_path / "out")
    assert len(str(caught.value)) < 500


def test_names_with_nul_or_none(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", "abc")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"abc", b"a\0c"))
    info = header("abc")
    info.pax_headers = {"path": "a\0c"}
    write_tar(tmp_path / "a.tar", info)
    for name in ("a.zip", "a.tar"):
        with pytest.raises(HearevalError, match=r"member 'a\\x00c', expected names that the file system"):
            unpack(tmp_path / name, tmp_path / "out")
    for archive in (write_rar(tmp_path / "a.rar", rar_member("")), write_tar(tmp_path / "b.tar", header(""))):
        with pytest.raises(HearevalError, match="got "):
            unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/", "a"), ("a", "a/")])
def test_a_path_is_a_file_or_a_folder(tmp_path: Path, name: str, names: Sequence[str]) -> None:
    with pytest.raises(HearevalError, match=r"got member 'a.* (as a file and as a folder|a file), expected "):
        unpack(with_member(tmp_path / name, *names), tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/good", "../../etc/passwd", "innocent", "later", ".", "", "../x/good"])
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes, target: str) -> None:
    """A link to anything but an earlier file of the archive is refused, also one to itself."""
    infos = [header("good"), header("innocent"), header("innocent", kind, target), header("later")]
    with pytest.raises(HearevalError, match=r"a\.tar\.gz: got member 'innocent', .*expected (links|files)"):
        unpack(write_tar(tmp_path / "a.tar.gz", *infos), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good", "innocent"]


def test_links_and_devices_in_zip_and_rar(tmp_path: Path) -> None:
    archives = [
        write_zip(tmp_path / "link.zip", content=b"/etc/passwd", external_attr=0o120777 << 16),
        write_zip(tmp_path / "device.zip", external_attr=0o020777 << 16),
        write_rar(
            tmp_path / "symbolic.rar", rar_member("a", mode=0o120777, extra=rar_link(1, "/etc/passwd"))
        ),
        write_rar(tmp_path / "hard.rar", rar_member("a", extra=rar_link(4, "b"))),
        write_rar(tmp_path / "device.rar", rar_member("a", mode=0o020644)),
    ]
    for archive in archives:
        with pytest.raises(HearevalError, match=r"got member 'a', .*expected files and folders only"):
            unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_encrypted_archives(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", flag_bits=1)
    with pytest.raises(HearevalError, match="'a', which is encrypted, expected members without a password"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    encryption = rar_block(4, 0, 0, 0, 15, bytes(16))
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00" + encryption + rar_block(1, 0, 0))
    with pytest.raises(
        HearevalError, match=r"got Encryption is not supp.*expected members without a password"
    ):
        unpack(tmp_path / "a.rar", tmp_path / "out")


def test_a_zip_method_that_is_not_known(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", compress_type=9)
    with pytest.raises(HearevalError, match="got member 'a', compressed with method 9, expected method 0"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_declared_sizes_beyond_the_limit(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.zip", file_size=ENDLESS)
    (tmp_path / "a.tar").write_bytes(header("a", size=ENDLESS).tobuf())
    for name in ("a.zip", "a.tar"):
        with pytest.raises(HearevalError, match=rf"member 'a', with which it expands to {ENDLESS} bytes"):
            unpack(tmp_path / name, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_negative_sizes(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header("a", size=-512).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(HearevalError, match="member 'a' of -512 bytes, expected a size"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_bytes_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_EXPANSION_BYTES_FREE", -100 * 99_500)
    write_rar(tmp_path / "a.rar", rar_member("a", bytes(100_000)))
    with pytest.raises(HearevalError, match="with which it expands to 100512 bytes, expected at most"):
        unpack(tmp_path / "a.rar", tmp_path / "out")


def test_empty_members_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_EXPANSION_BYTES_FREE", 99 * 511)
    monkeypatch.setattr(members, "MAX_EXPANSION", 0)
    with pytest.raises(HearevalError, match=r"member '98', with which it expands to 50688 bytes"):
        unpack(with_member(tmp_path / "a.tar.gz", *map(str, range(99))), tmp_path / "out")


def test_a_name_that_would_fill_the_memory(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(header("a", tarfile.GNUTYPE_LONGNAME, size=1 << 29).tobuf())
    with pytest.raises(HearevalError, match="a header of 536870912 bytes"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
