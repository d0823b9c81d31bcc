"""Extraction from a real S3 server: the numbers of local files, and every fault said as it is."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from cbm_core.errors import CbmError
from cbm_core.settings import StorageSettings
from cbm_extract.ledger.states import MAX_ATTEMPTS
from cbm_extract.read import remote, staging
from cbm_extract.read.ahead import Decoder
from cbm_extract.read.fingerprint import fingerprint
from cbm_extract.read.strips import open_band
from cbm_extract.scene import BandAsset
from tests import faults
from tests import seaweed as s3
from tests.extraction import LEFT, TOP, World, run_extract, texture
from tests.factories import sql, square
from tests.unit.read import rasters

PRODUCT = {"name": "p", "card": "s2", "bands": ["B04", "B08"], "indices": ["NDVI"]}
LIMITS = [0, 4096]  # MB: over the network, and as copies
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
FORMATS = {
    "tiled.tif": TILED,
    "cog.tif": {"driver": "COG", "compress": "deflate"},
    "band.jp2": {"driver": "JP2OpenJPEG"},
}


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """No long pauses; and no storage left in this process for the tests that follow."""
    monkeypatch.setattr(remote, "PATIENCE", remote.Patience(attempts=4, pause=0.02, silence=2.0))
    monkeypatch.setattr(remote, "PIECE", 50_000)
    monkeypatch.setattr(staging, "PART", 70_000)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    yield
    staging.prepare(StorageSettings(staging_limit_mb=0))


@pytest.fixture
def link(seaweed):
    with faults.proxy(seaweed.address) as running:
        yield running


def configured(store, folder: Path, limit: int = 4096, **given) -> StorageSettings:
    kept = folder / "staging"
    kept.mkdir(exist_ok=True)
    return store.settings(folder, staging_folder=str(kept), staging_limit_mb=limit, **given)


def read(href: str) -> np.ndarray:
    with open_band(BandAsset(href)) as band, Decoder(2) as decoder:
        values = np.zeros((band.header.height, band.header.width), band.dtype)
        for strip, part in decoder.decode(band.strips()):
            values[strip.start : strip.stop] = part
        return values


def error_of(href: str) -> CbmError:
    with pytest.raises(CbmError) as caught:
        read(href)
    assert "secret" not in str(caught.value)
    assert "Signature=" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module")
def stored(seaweed, tmp_path_factory):
    """Href and pixels of a band in each format."""
    folder = tmp_path_factory.mktemp("bands")
    values = rasters.texture(500, 400)
    hrefs = {}
    for name, options in FORMATS.items():
        path = rasters.write(folder / name, values, **options)
        hrefs[name] = seaweed.put(f"formats/{name}", path.read_bytes())
    return hrefs, values


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("name", FORMATS)
def test_bands_on_s3_are_the_local_ones(seaweed, tmp_path, stored, name, limit):
    staging.prepare(configured(seaweed, tmp_path, limit))
    hrefs, values = stored
    np.testing.assert_array_equal(read(hrefs[name]), values)
    assert list((tmp_path / "staging").glob("w-*/*.*")) == []
    key = f"formats/{name}"
    head = seaweed.client().head_object(Bucket=seaweed.bucket, Key=key)
    found = fingerprint(hrefs[name])
    assert (found.size, found.etag) == (head["ContentLength"], head["ETag"])


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    "fault",
    [
        lambda link: link.cut(after=60_000, times=2),
        lambda link: link.stall(after=60_000),
        lambda link: link.answer(503, "SlowDown", times=3),
        lambda link: link.throttle(1e6),
        lambda link: link.delay(0.05),
    ],
    ids=["cut", "stall", "throttling", "slow", "far"],
)
@pytest.mark.parametrize("name", ["tiled.tif", "band.jp2"])
def test_passing_faults_change_no_pixel(seaweed, link, tmp_path, stored, name, fault, limit):
    staging.prepare(configured(seaweed, tmp_path, limit, endpoint=link.url))
    hrefs, values = stored
    fault(link)
    np.testing.assert_array_equal(read(hrefs[name]), values)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("kind", "after"), [("cut", 500), ("cut", 20_000), ("cut", 150_000), ("stall", 20_000)]
)
@pytest.mark.parametrize("name", FORMATS)
def test_lasting_faults_give_an_error_and_never_pixels(
    seaweed, link, tmp_path, stored, monkeypatch, name, kind, after, limit
):
    monkeypatch.setattr(remote, "PATIENCE", remote.Patience(attempts=2, pause=0.01, silence=0.2))
    staging.prepare(configured(seaweed, tmp_path, limit, endpoint=link.url))
    hrefs, values = stored
    with open_band(BandAsset(hrefs[name])):
        pass  # the fault may come when the header was read already
    # Once a connection has passed so much, none passes anything more.
    link.on_answer(after, lambda: getattr(link, kind)(0, None))
    try:
        found = read(hrefs[name])
    except CbmError as error:
        assert error.code == "raster_unreachable", error
    else:
        np.testing.assert_array_equal(found, values)
    assert list((tmp_path / "staging").glob("w-*/*.*")) == []


@pytest.mark.parametrize("limit", LIMITS)
def test_refused_credentials_missing_objects_and_silence(seaweed, link, tmp_path, stored, limit):
    href = stored[0]["tiled.tif"]
    for identity, code in ((s3.STRANGER, "InvalidAccessKeyId"), (s3.IMPOSTOR, "SignatureDoesNot")):
        staging.prepare(configured(seaweed, tmp_path, limit, identity=identity))
        error = error_of(href)
        assert error.code == "raster_forbidden"
        assert code in error.message
        assert "credentials" in error.hint
    staging.prepare(configured(seaweed, tmp_path, limit, endpoint=link.url))
    assert error_of("s3://cbm/none.tif").code == "raster_missing"
    # A bucket that the reader has no right to.
    assert error_of("s3://elsewhere/b04.tif").code == "raster_forbidden"
    link.answer(503, "SlowDown", times=None)
    error = error_of(href)
    assert error.code == "raster_unreachable"
    assert "SlowDown" in error.message
    link.heal()
    link.refuse()
    assert error_of(href).code == "raster_unreachable"


@pytest.mark.parametrize("limit", LIMITS)
def test_an_object_replaced_in_the_middle_is_noticed(seaweed, tmp_path, limit):
    staging.prepare(configured(seaweed, tmp_path, limit))
    old, new = (
        rasters.write(tmp_path / f"{seed}.tif", rasters.texture(500, 400, seed=seed), **TILED)
        for seed in range(2)
    )
    href = seaweed.put("replaced.tif", old.read_bytes())
    with open_band(BandAsset(href)) as band, Decoder(2) as decoder:
        seaweed.put("replaced.tif", new.read_bytes())
        with pytest.raises(CbmError) as caught:
            list(decoder.decode(band.strips()))
    assert caught.value.code == "raster_changed"
    np.testing.assert_array_equal(read(href), rasters.texture(500, 400, seed=1))


class Season:
    """Parcels, two bands of a scene on disk, and scenes that have them there or on S3."""

    def __init__(self, db, seaweed, folder: Path) -> None:
        self.world = World.make(db, folder)
        self.store = seaweed
        self.ids = self.world.parcels(
            [square(LEFT + 105 + 130 * i, TOP - 405, 110) for i in range(5)]
        )
        self.bands = {"B04": texture(seed=4), "B08": texture(seed=8)}
        self.paths = {
            band: self.world.raster(band, values, **TILED) for band, values in self.bands.items()
        }

    def upload(self, prefix: str) -> dict[str, str]:
        return {
            band: self.store.put(f"{prefix}/{band}.tif", path.read_bytes())
            for band, path in self.paths.items()
        }

    def scene(self, hrefs: dict[str, str], reference: str, day: int = 1) -> int:
        """Catalogue like the local files; then point the assets at the given addresses."""
        when = datetime(2024, 5, day, 10, 30, tzinfo=UTC)
        number = self.world.scene(self.paths, reference=reference, obstime=when)
        for band, href in hrefs.items():
            sql(
                self.world.settings,
                "UPDATE cbm.scene SET assets = jsonb_set(assets, %s, %s::jsonb) WHERE id = %s",
                [band, "href"], f'"{href}"', number,
            )  # fmt: skip
        return number

    def extract(self, storage: StorageSettings):
        settings = replace(self.world.settings, storage=storage)
        product_file = self.world.products(PRODUCT)
        return run_extract(settings, product_file=product_file)

    def items(self) -> dict[int, tuple]:
        found = sql(
            self.world.settings,
            "SELECT scene_id, state, attempts, error_code FROM cbm.work_item ORDER BY scene_id",
        )
        return {row[0]: row[1:] for row in found}


@pytest.fixture
def season(db, seaweed, tmp_path):
    return Season(db, seaweed, tmp_path)


def same_rows(season, first, second):
    one, two = (season.world.rows("p", scene) for scene in (first, second))
    assert set(one) == set(two) == set(season.ids)
    for number in one:
        assert (one[number].imaged, one[number].clear) == (two[number].imaged, two[number].clear)
        for name, values in one[number].stats.items():
            np.testing.assert_array_equal(values, two[number].stats[name])


@pytest.mark.parametrize("limit", LIMITS)
def test_an_extraction_from_s3_equals_one_from_disk(season, seaweed, link, tmp_path, limit):
    near = season.scene({}, "local", day=1)
    far = season.scene(season.upload(f"same-{limit}"), "remote", day=2)
    link.cut(after=3_000, times=2)
    answer = season.extract(configured(seaweed, tmp_path, limit, endpoint=link.url))
    assert answer.changed
    same_rows(season, near, far)
    evidence = sql(season.world.settings, "SELECT assets FROM cbm.run WHERE scene_id = %s", far)[0][
        0
    ]
    head = seaweed.client().head_object(Bucket=seaweed.bucket, Key=f"same-{limit}/B04.tif")
    assert evidence["B04"]["etag"] == head["ETag"]


def test_what_storage_refuses_fails_at_once_and_what_may_pass_is_tried_again(
    season, seaweed, link, tmp_path
):
    good = season.scene(season.upload("good"), "good", day=1)
    gone = season.scene({"B04": "s3://cbm/gone.tif"}, "gone", day=2)
    storage = configured(seaweed, tmp_path, endpoint=link.url)
    with pytest.raises(CbmError, match=r"gone\.tif does not exist"):
        season.extract(storage)
    assert season.items()[good][0] == "done"
    assert season.items()[gone] == ("failed", 1, "raster_missing")

    refused = season.scene(season.upload("refused"), "refused", day=3)
    impostor = configured(seaweed, tmp_path, endpoint=link.url, identity=s3.IMPOSTOR)
    with pytest.raises(CbmError, match="refuses"):
        season.extract(impostor)
    assert season.items()[refused] == ("failed", 1, "raster_forbidden")

    slow = season.scene(season.upload("slow"), "slow", day=4)
    link.answer(503, "SlowDown", times=None)
    with pytest.raises(CbmError, match="SlowDown"):
        season.extract(storage)
    assert season.items()[slow] == ("failed", MAX_ATTEMPTS, "raster_unreachable")


def test_unusable_settings_stop_an_extraction_before_anything_is_tried(season, seaweed, tmp_path):
    number = season.scene(season.upload("unused"), "unused")
    storage = configured(seaweed, tmp_path)
    Path(storage.credentials_file).chmod(0o644)
    with pytest.raises(CbmError) as caught:
        season.extract(storage)
    assert caught.value.code == "credentials_exposed"
    assert season.items()[number][:2] == ("pending", 0)
    Path(storage.credentials_file).chmod(0o600)
    with pytest.raises(CbmError) as caught:
        season.extract(replace(storage, staging_folder=str(tmp_path / "none")))
    assert caught.value.code == "staging_unusable"
    season.extract(storage)
    assert season.items()[number][0] == "done"
