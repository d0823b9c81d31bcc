import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import py7zr
import pytest

from cbm_core.errors import CbmError
from cbm_extract.parcels import source, unpack
from tests.unit.parcels import files


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """The folder for temporary files, to see that nothing stays in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def zipped(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def refused(path: Path, code: str, limit_gb: float = 1) -> CbmError:
    with pytest.raises(CbmError) as caught, source.opened(source.identify(path), None, limit_gb):
        pass
    assert caught.value.code == code, caught.value
    return caught.value


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/evil", "C:\\evil", "..\\evil", "a/..\\..\\evil"]
)
def test_names_that_lead_out_are_refused(tmp_path, temporary, name):
    archive = tmp_path / "a.zip"
    info = zipfile.ZipInfo("x")
    info.filename = name
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(info, b"boo")
    error = refused(archive, "archive_unsafe")
    assert "Nothing was unpacked" in error.message
    assert not list(tmp_path.rglob("evil"))
    assert not list(temporary.iterdir())


def test_names_that_lead_out_of_a_7z_are_refused(tmp_path, temporary):
    archive = tmp_path / "a.7z"
    # py7zr itself writes no such name; a header that is not packed is plain UTF-16
    with py7zr.SevenZipFile(archive, "w") as packed:
        packed.set_encoded_header_mode(False)
        packed.writestr(b"boo", "aa/evil")
    content = archive.read_bytes()
    patched = content.replace("aa/evil".encode("utf-16-le"), "../evil".encode("utf-16-le"))
    assert patched != content
    archive.write_bytes(with_header_checksum(patched))
    refused(archive, "archive_unsafe")
    assert not list(tmp_path.rglob("evil"))


def with_header_checksum(content: bytes) -> bytes:
    """Mend the checksums of a 7z file whose header was edited."""
    import zlib

    offset, size = struct.unpack("<QQ", content[12:28])
    header = content[32 + offset : 32 + offset + size]
    start = content[12:28] + struct.pack("<I", zlib.crc32(header))
    return content[:8] + struct.pack("<I", zlib.crc32(start)) + start + content[32:]


def test_links_are_refused(tmp_path, temporary):
    info = zipfile.ZipInfo("link.gpkg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, b"/etc/passwd")
    assert "link" in refused(tmp_path / "a.zip", "archive_unsafe").message


def test_links_in_a_7z_are_refused(tmp_path, temporary):
    (tmp_path / "target").write_text("x")
    (tmp_path / "link.gpkg").symlink_to("target")
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w") as packed:
        packed.write(tmp_path / "link.gpkg", "link.gpkg")
    refused(tmp_path / "a.7z", "archive_unsafe")


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_more_bytes_than_the_limit_are_refused(tmp_path, temporary, kind):
    path = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        zipped(path, **{"big.gpkg": bytes(3_000_000)})
    else:
        with py7zr.SevenZipFile(path, "w") as packed:
            packed.writestr(bytes(3_000_000), "big.gpkg")
    assert path.stat().st_size < 10_000
    error = refused(path, "archive_too_large", limit_gb=0.002)
    assert "3000000 bytes" in error.message
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_an_archive_that_lies_about_its_size_is_stopped(tmp_path, temporary, monkeypatch, kind):
    """What comes out is counted, whatever was declared."""
    path = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        zipped(path, **{"big.gpkg": bytes(3_000_000)})
    else:
        with py7zr.SevenZipFile(path, "w") as packed:
            packed.writestr(bytes(3_000_000), "big.gpkg")
    monkeypatch.setattr(unpack._Budget, "declare", lambda _self, _entries: None)
    refused(path, "archive_too_large", limit_gb=0.002)
    assert not list(temporary.iterdir())


def test_too_many_files_are_refused(tmp_path, temporary, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_FILES", 3)
    zipped(tmp_path / "a.zip", a=b"", b=b"", c=b"", d=b"")
    assert "4 files" in refused(tmp_path / "a.zip", "archive_too_large").message


@pytest.mark.parametrize("kind", ["zip", "7z"])
def test_damaged_archives(tmp_path, temporary, kind):
    gpkg = files.gpkg(tmp_path / "a.gpkg")
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        zipped(path, **{"a.gpkg": gpkg.read_bytes()})
    else:
        with py7zr.SevenZipFile(path, "w") as packed:
            packed.write(gpkg, "a.gpkg")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    refused(path, "archive_damaged")
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    refused(path, "archive_damaged")
    assert not list(temporary.iterdir())


def test_passwords(tmp_path, temporary):
    with py7zr.SevenZipFile(tmp_path / "a.7z", "w", password="secret") as packed:
        packed.writestr(b"x", "a.gpkg")
    refused(tmp_path / "a.7z", "archive_encrypted")
    zipped(tmp_path / "a.zip", **{"a.gpkg": b"x"})
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "archive_encrypted")


def test_members(tmp_path, temporary):
    gpkg = files.gpkg(tmp_path / "a.gpkg").read_bytes()
    content = {"2023/p.gpkg": gpkg, "2024/p.gpkg": gpkg, "read.me": b"a,b\n1,2\n"}
    path = zipped(tmp_path / "a.zip", **content)
    error = refused(path, "member_ambiguous")
    assert error.details == {"members": ["2023/p.gpkg", "2024/p.gpkg"]}
    assert len(files.read(path, member="2024/p.gpkg").spool) == 3
    with pytest.raises(CbmError, match=r"Did you mean 2024/p.gpkg") as caught:
        files.read(path, member="2024/P.gpkg")
    assert caught.value.code == "member_unknown"
    with pytest.raises(CbmError) as caught:
        files.read(files.gpkg(tmp_path / "plain.gpkg"), member="x")
    assert caught.value.code == "member_unknown"


def test_archives_without_parcels(tmp_path, temporary):
    refused(zipped(tmp_path / "t.zip", **{"codes.csv": b"a,b\n1,2\n"}), "no_geometry")
    refused(zipped(tmp_path / "r.zip", **{"read.me": b"hello"}), "format_unknown")
    refused(zipped(tmp_path / "e.zip"), "format_unknown")
    inner = zipped(tmp_path / "i.zip", **{"a.gpkg": b""}).read_bytes()
    error = refused(zipped(tmp_path / "n.zip", **{"inner.zip": inner}), "format_unknown")
    assert "inner.zip" in error.hint


def test_nothing_temporary_stays(tmp_path, temporary):
    gpkg = files.gpkg(tmp_path / "a.gpkg")
    files.read(zipped(tmp_path / "a.zip", **{"deep/er/a.gpkg": gpkg.read_bytes()}))
    with pytest.raises(CbmError):
        files.read(tmp_path / "a.zip", id="column:nothing")
    with pytest.raises(KeyboardInterrupt), source.opened(source.identify(gpkg), None, 1):
        raise KeyboardInterrupt
    assert not list(temporary.iterdir())
