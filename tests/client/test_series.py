"""Series by the client: the numbers of the analysts' view, by every way there is."""

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

from cbm_client import ApiError, Client, series, transport
from tests import faults
from tests.api.conftest import PASSWORD, owner
from tests.client.conftest import MOST_INLINE
from tests.client.world import CLOUDED, COLLECTION, DAYS, PARCELS, SHAPES, UNCLASSIFIED
from tests.factories import sql, transformed

pytestmark = pytest.mark.postgis
STATISTICS = ["count", "mean", "std", "min", "max", "p25", "p50", "p75"]


def stored(site, *pids: str) -> pd.DataFrame:
    """What the view says of parcels: a row per parcel and image, a column per number."""
    rows = sql(
        site.world.settings,
        f"""SELECT pid, obstime, reference, px_imaged, px_clear, band, {", ".join(STATISTICS)}
            FROM cbm.signature_long WHERE aoi = 'tt' AND year = 2024
              AND (%s::text[] IS NULL OR pid = ANY(%s))""",
        list(pids) or None,
        list(pids) or None,
    )
    keys = ["pid", "obstime", "reference", "px_imaged", "px_clear"]
    wide = pd.DataFrame(rows, columns=[*keys, "band", *STATISTICS]).pivot(
        index=keys, columns="band", values=STATISTICS
    )
    wide.columns = [f"{band}_{statistic}" for statistic, band in wide.columns]
    return wide.reset_index().sort_values(["pid", "obstime"], ignore_index=True)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    ordered = found.sort_values(["pid", "obstime"], ignore_index=True)
    assert len(ordered) == len(expected) > 0
    for name in expected.columns:
        if name in ("pid", "reference", "obstime"):
            assert list(ordered[name]) == list(expected[name])
        else:
            np.testing.assert_array_equal(
                ordered[name].to_numpy(np.float32), expected[name].to_numpy(np.float32)
            )


def test_one_parcel_has_the_numbers_of_the_view(client, site):
    found = client.signatures(COLLECTION, "p0")
    assert_same(found, stored(site, "p0"))
    assert str(found.obstime.dtype) == "datetime64[us, UTC]"
    assert str(found.relative_orbit.dtype) == "Int16"
    assert found.NDVI_mean.dtype == np.float32 and found.NDVI_count.dtype == np.int32
    clouded = found.clouded.to_numpy()
    assert np.isnan(clouded[UNCLASSIFIED])
    assert [bool(share > 0) for share in clouded[:UNCLASSIFIED]] == [
        number in CLOUDED for number in range(UNCLASSIFIED)
    ]


def test_an_id_with_a_slash_and_a_blank(client, site):
    assert_same(client.signatures(COLLECTION, "A/1 b"), stored(site, "A/1 b"))


def test_some_parcels_by_id_and_by_place(client, site):
    assert_same(client.signatures(COLLECTION, ["p3", "p7"]), stored(site, "p3", "p7"))
    polygon = transformed(shapely.union_all(SHAPES[:5]).buffer(2), "EPSG:32632")
    row = stored(site, *(f"p{n}" for n in range(5)))
    assert_same(client.signatures(COLLECTION, polygon=polygon), row)
    geojson = shapely.geometry.mapping(polygon)
    assert_same(client.signatures(COLLECTION, polygon=geojson), row)


def test_only_what_is_asked_for(client):
    found = client.signatures(
        COLLECTION, "p0", bands="NDVI,B8", statistics=("mean", "p50"), max_cloud=0,
        datetime=(DAYS[0].date(), DAYS[3]), classes=True,
    )  # fmt: skip
    numbers = [name for name in found if name.startswith(("NDVI", "B"))]
    assert numbers == ["NDVI_mean", "NDVI_p50", "B08_mean", "B08_p50"]
    assert list(found.obstime) == [DAYS[0], DAYS[2], DAYS[3]]
    assert (found.class_4 == found.px_imaged).all()
    assert len(client.signatures(COLLECTION, "p0", datetime=date(2024, 4, 2))) == 0
    assert len(client.signatures(COLLECTION, "p0", orbit="ascending")) == 0


def test_many_parcels_are_a_job_that_is_waited_for(client, site, working):
    states = []
    found = client.signatures(COLLECTION, progress=lambda job: states.append(repr(job)))
    assert_same(found, stored(site))
    assert found.pid.nunique() == PARCELS > MOST_INLINE
    assert f"done, {PARCELS} of {PARCELS} parcels" in states[-1]
    assert client.jobs() == []


def test_a_list_of_many_to_a_file(client, site, working, tmp_path):
    pids = [f"p{n}" for n in range(MOST_INLINE + 1)]
    path = client.download_signatures(tmp_path / "many.parquet", COLLECTION, pids, bands="NDVI")
    some = client.download_signatures(tmp_path / "few.parquet", COLLECTION, pids[:2], bands="NDVI")
    names = ["pid", "obstime", "NDVI_mean"]
    for file, wanted in ((path, pids), (some, pids[:2])):
        assert_same(pq.read_table(file).to_pandas(), stored(site, *wanted)[names])
    assert {one.name for one in tmp_path.iterdir()} == {"many.parquet", "few.parquet"}
    assert client.jobs() == []


def test_a_wait_that_is_broken_off_leaves_the_job(client, site, tmp_path, request):
    def interrupt(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.signatures(COLLECTION, progress=interrupt)
    (job,) = client.jobs()
    assert job.state == "pending"
    with pytest.raises(TimeoutError, match=job.id):
        job.wait(seconds=0)
    with pytest.raises(ApiError, match="not there"):
        job.download(tmp_path / "early")
    assert list(tmp_path.iterdir()) == []

    request.getfixturevalue("working")
    again = client.job(job.id)
    again.wait()
    assert again.state == "done"
    assert_same(pq.read_table(again.download(tmp_path / "late")).to_pandas(), stored(site))
    again.delete()
    with pytest.raises(ApiError) as failure:
        again.refresh()
    assert failure.value.code == "job_unknown"


def test_a_download_that_is_cut_goes_on_where_it_was(client, site, working, tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "_PIECE", 256)
    with pytest.raises(ZeroDivisionError):
        client.signatures(COLLECTION, progress=lambda _: 1 / 0)
    (job,) = client.jobs()
    job.wait()
    with faults.proxy(("127.0.0.1", site.port)) as link:
        with Client(link.url, "anna", PASSWORD) as through:
            again = through.job(job.id)
            link.cut(after=2000)
            path = again.download(tmp_path / "series")
        assert link.struck["cut"] == 1
        lines = [line for line in link.requests if "/result" in line]
    assert len(lines) == 2
    assert path.stat().st_size == job.facts["bytes"] > 2000
    assert_same(pq.read_table(path).to_pandas(), stored(site))


def test_a_job_that_fails_says_why(client, site):
    with pytest.raises(ZeroDivisionError):
        client.signatures(COLLECTION, progress=lambda _: 1 / 0)
    sql(
        owner(site.world.settings),
        """UPDATE cbm.api_job SET state = 'failed', error_code = 'disk_full',
             error = 'There is no room for the file.', finished_at = now()""",
    )
    (job,) = client.jobs()
    with pytest.raises(ApiError, match="no room") as failure:
        job.wait()
    assert failure.value.code == "disk_full"


def test_a_stream_that_is_cut_is_no_answer(site, tmp_path):
    with (
        faults.proxy(("127.0.0.1", site.port)) as link,
        Client(link.url, "anna", PASSWORD) as through,
    ):
        link.cut(after=1000)
        with pytest.raises(ApiError) as failure:
            through.download_signatures(tmp_path / "series", COLLECTION, ["p0", "p1"])
    assert failure.value.code == "cut_off"
    assert list(tmp_path.iterdir()) == []


def test_peers_beside_a_parcel(client, site):
    found = client.peer_statistics(COLLECTION, "p12", bands="NDVI", max_cloud=0)
    peers = set(client.peers(COLLECTION, "p12").pid)
    assert set(found.attrs["peers"]) == peers
    # The east is never clouded; the last image is not classified.
    view = stored(site)
    view = view[view.obstime.isin(found.obstime)]
    mine = view[view.pid == "p12"]
    kept = found.NDVI_mean.notna().to_numpy()
    np.testing.assert_array_equal(
        found.NDVI_mean[kept],
        mine.NDVI_mean[mine.obstime.isin(found.obstime[kept])].to_numpy(np.float32),
    )
    first = view[(view.obstime == DAYS[0]) & view.pid.isin(peers)].NDVI_mean.astype(float)
    row = found.iloc[0]
    assert row.obstime == DAYS[0] and row.NDVI_mean_peers_count == len(peers)
    for name, value in (
        ("mean", first.mean()), ("p50", first.median()), ("p75", first.quantile(0.75)),
    ):  # fmt: skip
        assert row[f"NDVI_mean_peers_{name}"] == pytest.approx(value, rel=1e-6)


def test_why_there_is_no_value(client):
    found = client.coverage(COLLECTION, "p0")
    assert list(found.obstime) == DAYS
    assert list(found.code) == ["ok"] * len(DAYS)
    assert found.why[0].endswith(".") and str(found.obstime.dtype) == "datetime64[us, UTC]"
    assert len(client.coverage(COLLECTION, "p0", datetime=(DAYS[4], None))) == 2
    assert list(client.coverage(COLLECTION, "p0", datetime=date(2023, 1, 1)).columns[:1]) == [
        "obstime"
    ]


@pytest.mark.parametrize("page", [1000, 4, 1])
def test_scenes_on_however_many_pages(client, monkeypatch, page):
    monkeypatch.setattr(series, "_SCENES", page)
    found = client.scenes(COLLECTION)
    assert list(found.obstime) == DAYS
    assert list(found.cloud_percent[:2]) == [0, 50]
    assert len(client.scenes(COLLECTION, max_cloud_percent=10)) == len(DAYS) - len(CLOUDED)
    later = DAYS[2] + timedelta(seconds=1)
    assert list(client.scenes(COLLECTION, datetime=(later, None)).obstime) == DAYS[3:]


def test_products(client):
    (found,) = client.products(COLLECTION).itertuples()
    assert (found.name, found.card, found.variables) == ("s2", "s2", ["B04", "B08", "NDVI"])


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda one: one.signatures("zz_2024", "p0"), "dataset_unknown"),
        (lambda one: one.signatures(COLLECTION, "nobody"), "parcel_unknown"),
        (lambda one: one.signatures(COLLECTION, ["p0", "nobody"]), "parcel_unknown"),
        (lambda one: one.signatures(COLLECTION, "p0", product="s3"), "product_unknown"),
        (lambda one: one.signatures(COLLECTION, "p0", bands="B99"), "bad_parameter"),
        (lambda one: one.signatures(COLLECTION, "p0", datetime="May"), "bad_parameter"),
        (lambda one: one.signatures(COLLECTION, "p0", band="B04"), "bad_parameter"),
        (lambda one: one.job("11111111-1111-1111-1111-111111111111"), "job_unknown"),
        (lambda one: one.parcels(COLLECTION, bbox=(9, 9, 8)), "bad_parameter"),
    ],
)
def test_what_cannot_be_answered_is_said(client, ask, code):
    with pytest.raises(ApiError) as failure:
        ask(client)
    error = failure.value
    assert (error.code, error.status) == (code, 400 if code == "bad_parameter" else 404)
    assert error.request_id and error.request_id in str(error)
    assert error.message in str(error) and error.hint in str(error)
