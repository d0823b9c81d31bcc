"""Local copies of remote files: complete or an error, within a limit, and gone afterwards."""

import errno
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_core.remote.objects import RemoteObject
from cbm_core.remote.web import Access, Patience
from cbm_core.settings import StorageSettings
from cbm_extract.engine.pouring import pour
from cbm_extract.read import staging
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.remote import opened
from cbm_extract.read.staged import StagedReader
from cbm_extract.read.staging import Staging
from cbm_extract.read.strips import open_band
from cbm_extract.scene import BandAsset
from tests import faults
from tests.unit.read.rasters import texture, write
from tests.unit.read.server import serve

BODY = np.random.default_rng(1).bytes(2_000_000)
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(staging, "PART", 300_000)
    with serve({"/f.bin": BODY}) as running:
        yield running


@pytest.fixture
def link(site):
    host, _, port = site.host.partition(":")
    with faults.proxy((host, int(port))) as running:
        yield running


@pytest.fixture
def stage(tmp_path):
    made = Staging(tmp_path / "stage", 10_000_000)
    yield made
    made.close()


def code(function, *arguments):
    with pytest.raises(CbmError) as caught:
        function(*arguments)
    return caught.value.code


def files(folder):
    """All copies, of whatever process."""
    return [path for path in folder.glob("w-*/*") if path.name != "alive"]


def test_a_copy_is_the_file_and_goes_when_nobody_holds_it(site, stage):
    remote = opened(f"{site.url}/f.bin")
    with stage.held(remote) as copy:
        path = copy.path()
        assert path.read_bytes() == BODY
        assert path.stat().st_mode & 0o077 == 0
        with stage.held(opened(f"{site.url}/f.bin")) as other:
            assert other.path() == path
        assert path.exists()
        assert files(stage.folder) == [path]
    assert files(stage.folder) == []


def test_an_empty_file_and_a_server_without_ranges(site, stage):
    site.files["/empty"] = b""
    with stage.held(opened(f"{site.url}/empty")) as copy:
        assert copy.path().read_bytes() == b""
    site.ranges = False
    remote = opened(f"{site.url}/f.bin")
    assert remote.read(400_000, 400_010) == BODY[400_000:400_010]
    site.requests.clear()
    with stage.held(remote) as copy:
        assert copy.path().read_bytes() == BODY
    assert len(site.requests) == 1


def test_fetching_begins_before_it_is_waited_for(site, stage):
    with stage.held(opened(f"{site.url}/f.bin")) as copy:
        copy.begin()
        copy._future.result()
        before = len(site.requests)
        assert copy.path().read_bytes() == BODY
        assert len(site.requests) == before


def test_passing_failures_are_made_good(link, stage):
    for fault in (
        lambda: link.cut(after=100_000, times=3),
        lambda: link.stall(after=100_000, times=2),
        lambda: link.answer(503, "SlowDown", times=4),
        lambda: link.answer(429, "TooManyRequests", times=2),
    ):
        patience = Patience(pause=0.01, silence=0.5)
        with stage.held(RemoteObject(f"{link.url}/f.bin", Access(patience=patience))) as copy:
            fault()
            assert copy.path().read_bytes() == BODY
        link.heal()


def test_storage_that_cuts_every_connection_serves_as_long_as_it_gets_on(link, stage):
    # Parts share connections: each of them may be cut soon after another part has used it.
    patience = Patience(attempts=2 + staging.CONNECTIONS, pause=0.01)
    with stage.held(RemoteObject(f"{link.url}/f.bin", Access(patience=patience))) as copy:
        link.cut(after=330_000, times=None)
        assert copy.path().read_bytes() == BODY


@pytest.mark.parametrize("fault", ["cut", "stall", "answer", "refuse"])
def test_lasting_failures_leave_nothing_behind(link, stage, fault):
    given = {"cut": (1000, None), "stall": (1000, None), "answer": (503, "SlowDown", None)}
    hasty = Access(patience=Patience(3, 0.01, silence=0.2))
    with stage.held(RemoteObject(f"{link.url}/f.bin", hasty)) as copy:
        getattr(link, fault)(*given.get(fault, ()))
        assert code(copy.path) == "raster_unreachable"
        assert files(stage.folder) == []


@pytest.mark.parametrize("size", [len(BODY), 400_000])
def test_a_file_replaced_in_the_middle_is_noticed(site, link, stage, size):
    with stage.held(opened(f"{link.url}/f.bin")) as copy:
        link.on_answer(200_000, lambda: site.files.update({"/f.bin": bytes(size)}))
        assert code(copy.path) == "raster_changed"
    assert files(stage.folder) == []


def test_what_does_not_fit_is_not_copied(site, tmp_path):
    remote = opened(f"{site.url}/f.bin")
    small, large = (Staging(tmp_path, limit) for limit in (len(BODY) - 1, len(BODY)))
    with small.held(remote) as copy:
        assert copy.path() is None
    # Processes share the limit: what one keeps, another has not.
    other = Staging(tmp_path, len(BODY))
    with large.held(remote) as copy:
        assert copy.path() is not None
        with other.held(remote) as second:
            assert second.path() is None
    with other.held(remote) as second:
        assert second.path().read_bytes() == BODY
    for one in (small, large, other):
        one.close()
    assert files(tmp_path) == []


def test_leftovers_of_killed_processes_are_removed_and_living_ones_kept(site, tmp_path):
    program = (
        "import sys; from pathlib import Path; from cbm_extract.read import staging, remote\n"
        "stage = staging.Staging(Path(sys.argv[1]), 10**9)\n"
        "with stage.held(remote.opened(sys.argv[2])) as copy:\n"
        "    print(copy.path(), flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), f"{site.url}/f.bin"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    dead, alive = subprocess.Popen(command, **pipes), subprocess.Popen(command, **pipes)
    try:
        left, kept = (process.stdout.readline().strip() for process in (dead, alive))
        dead.kill()
        dead.wait()
        assert len(files(tmp_path)) == 2
        Staging(tmp_path, 10**9).check()
        assert [str(path) for path in files(tmp_path)] == [kept]
        assert left != kept
        alive.stdin.close()
        assert alive.wait() == 0
        assert list(tmp_path.glob("w-*")) == []
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_full_disk_is_said_so(site, stage, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with stage.held(opened(f"{site.url}/f.bin")) as copy:
        assert code(copy.path) == "staging_full"
    assert files(stage.folder) == []


def test_a_folder_that_does_not_serve_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(CbmError) as caught:
            staging.prepare(StorageSettings(staging_folder=str(folder)))
        assert caught.value.code == "staging_unusable"
        assert str(folder) in caught.value.message
    staging.prepare(StorageSettings(staging_folder=str(tmp_path / "none"), staging_limit_mb=0))


@pytest.fixture
def staged_reading(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    staging.prepare(StorageSettings(staging_folder=str(folder)))
    yield folder
    staging.prepare(StorageSettings(staging_limit_mb=0))


def read(href):
    with open_band(BandAsset(href)) as band, Decoder(2) as decoder:
        values = np.zeros((band.header.height, band.header.width), band.dtype)
        for strip, part in decoder.decode(band.strips()):
            values[strip.start : strip.stop] = part
        return values, band.reader


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tiled.tif", TILED),
        ("cog.tif", {"driver": "COG", "compress": "deflate"}),
        ("lerc.tif", {"compress": "lerc"}),
        ("band.jp2", {"driver": "JP2OpenJPEG"}),
    ],
)
def test_bands_of_remote_files_are_the_local_ones(tmp_path, staged_reading, name, options):
    values = texture(700, 600)
    body = write(tmp_path / name, values, **options).read_bytes()
    with serve({f"/{name}": body}) as site:
        found, reader = read(f"{site.url}/{name}")
        assert isinstance(reader, StagedReader)
        np.testing.assert_array_equal(found, values)
        staging.prepare(StorageSettings(staging_limit_mb=0))
        found, reader = read(f"{site.url}/{name}")
        assert not isinstance(reader, StagedReader)
        np.testing.assert_array_equal(found, values)
    assert files(staged_reading) == []


def test_envi_is_two_files(tmp_path, staged_reading):
    values = texture(300, 200, "float32")
    path = write(tmp_path / "e.img", values, driver="ENVI")
    parts = {f"/{one.name}": one.read_bytes() for one in (path, path.with_suffix(".hdr"))}
    with serve(parts) as site, ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(read(f"{site.url}/e.img")[0], values)
        # Workers of a cluster open files in threads of their own.
        np.testing.assert_array_equal(pool.submit(read, f"{site.url}/e.img").result()[0], values)


def test_an_archive_on_the_network_is_copied(tmp_path, staged_reading):
    values = texture(300, 200)
    inner = write(tmp_path / "a.tif", values)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(inner, "deep/a.tif")
    with serve({"/all.zip": (tmp_path / "all.zip").read_bytes()}) as site:
        href = f"zip+{site.url}/all.zip!/deep/a.tif"
        np.testing.assert_array_equal(read(href)[0], values)
        assert files(staged_reading) == []
        staging.prepare(StorageSettings(staging_limit_mb=0))
        assert code(read, href) == "archive_without_copy"


def test_a_damaged_remote_file_is_named_by_its_address(tmp_path, staged_reading):
    body = bytearray(write(tmp_path / "t.tif", texture(700, 600), **TILED).read_bytes())
    body[len(body) // 2 : len(body) // 2 + 1000] = bytes(1000)
    with serve({"/t.tif": bytes(body)}) as site, pytest.raises(CbmError) as caught:
        read(f"{site.url}/t.tif?token=secret")
    assert caught.value.code == "raster_damaged"
    assert f"{site.url}/t.tif" in caught.value.message
    assert str(staged_reading) not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("after", [0, 200, 1000, 5000])
def test_a_header_that_is_cut_is_no_statement_about_the_file(tmp_path, link, site, after):
    # GDAL alone opens what has arrived: without georeference, or without the nodata value.
    body = write(tmp_path / "t.tif", texture(700, 600), nodata=7, **TILED).read_bytes()
    site.files["/t.tif"] = body
    link.cut(after=after, times=None)
    assert code(read, f"{link.url}/t.tif") == "raster_unreachable"


def test_the_next_group_is_fetched_while_one_is_read(tmp_path, staged_reading):
    names = ["a", "b", "c"]
    bodies = {
        f"/{name}.tif": write(tmp_path / f"{name}.tif", texture(300, 200), **TILED).read_bytes()
        for name in names
    }
    begun = {}

    class Everything:
        def wanted_runs(self, _band):
            return None

        def feed(self, band, _row0, _strip):
            begun.setdefault(band, [n for n in names if bands[n].reader._copy._future])

    with serve(bodies) as site, ExitStack() as stack:
        bands = {
            name: stack.enter_context(open_band(BandAsset(f"{site.url}/{name}.tif")))
            for name in names
        }
        groups = [{name: bands[name]} for name in names]
        # One thread decodes nothing ahead, so that what is begun is what was asked for.
        with Decoder(1) as decoder:
            pour(groups, Everything(), decoder, lambda *_: None)
    assert begun == {"a": ["a", "b"], "b": ["a", "b", "c"], "c": ["a", "b", "c"]}
