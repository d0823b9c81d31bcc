"""Signature rows: what is written is what is read, and its digest is the database's own."""

import hashlib
import io
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_extract.store import runs, signatures
from cbm_extract.store.signatures import Slice
from tests.factories import add_dataset, sql

pytestmark = pytest.mark.postgis

MAY = datetime(2024, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC)
COLUMNS = (
    "obstime, geometry_id, scene_id, px_imaged, px_clear, dataset_id, product_id, tile_rank,"
    " stats, class_counts"
)


def rows(dataset, count=500, variables=3, *, classes=True, obstime=MAY) -> Slice:
    random = np.random.default_rng(7)
    clear = random.integers(0, 3, count).astype(np.int32)
    stats = random.normal(0, 3e4, (count, variables * 8)).astype(np.float32)
    stats[random.random(stats.shape) < 0.1] = np.nan
    counts = random.integers(0, 1 << 24, (count, 12)) * (random.random((count, 12)) < 0.3)
    return Slice(
        obstime=obstime,
        scene_id=70_000,
        dataset_id=dataset,
        product_id=3,
        geometry_ids=np.cumsum(random.integers(1, 9, count)).astype(np.int32),
        px_imaged=clear + 1,
        px_clear=clear,
        tile_rank=random.integers(0, 4, count).astype(np.int16),
        stats=stats,
        class_counts=counts if classes else None,
    )


def write(settings, written: Slice) -> bytes:
    with closing(database.connect(settings)) as connection:
        leaf = signatures.ensure_partition(connection, written.dataset_id, written.obstime)
        with database.transaction(connection) as cursor:
            return signatures.insert(cursor, leaf, written)


def expected_classes(counts) -> bytes:
    present = [(number, int(n)) for number, n in enumerate(counts) if n]
    return b"".join(bytes([number]) + n.to_bytes(3, "big") for number, n in present)


@pytest.mark.parametrize("classes", [True, False])
def test_rows_come_back_as_written(db, classes):
    written = rows(add_dataset(db), classes=classes)
    write(db, written)
    read = sql(db, f"SELECT {COLUMNS} FROM cbm.signature ORDER BY geometry_id")
    assert len(read) == len(written)
    for i, row in enumerate(read):
        assert row[0] == MAY
        assert row[1:8] == (
            written.geometry_ids[i], 70_000, written.px_imaged[i], written.px_clear[i],
            written.dataset_id, 3, written.tile_rank[i],
        )  # fmt: skip
        if written.px_clear[i]:
            np.testing.assert_array_equal(np.array(row[8], np.float32), written.stats[i])
        else:
            assert row[8] is None
        if classes:
            assert bytes(row[9]) == expected_classes(written.class_counts[i])
        else:
            assert row[9] is None


def test_rows_lie_in_the_months_partition(db):
    dataset = add_dataset(db)
    write(db, rows(dataset, count=1))
    june = datetime(2024, 6, 1, tzinfo=UTC)
    write(db, rows(dataset, count=2, obstime=june))
    found = sql(db, "SELECT tableoid::regclass::text, count(*) FROM cbm.signature GROUP BY 1")
    assert dict(found) == {
        f"signature_d{dataset}_202405": 1,
        f"signature_d{dataset}_202406": 2,
    }


def test_the_digest_is_of_the_databases_own_bytes_in_id_order(db):
    written = rows(add_dataset(db), count=2000)
    digest = write(db, written)
    out = io.BytesIO()
    with closing(database.connect(db)) as connection, connection.cursor() as cursor:
        cursor.copy_expert(
            f"COPY (SELECT {COLUMNS} FROM cbm.signature ORDER BY geometry_id)"
            " TO STDOUT (FORMAT binary)",
            out,
        )
    assert hashlib.sha256(out.getvalue()[19:-2]).digest() == digest


def test_batches_do_not_matter():
    written = rows(1, count=1001)
    whole = b"".join(signatures.pack(written, batch_rows=5000))
    assert b"".join(signatures.pack(written, batch_rows=10)) == whole


def test_no_value_has_one_bit_pattern():
    written = rows(1, count=50)
    before = b"".join(signatures.pack(written))
    odd = np.array([0xFFC00001], np.uint32).view(np.float32)[0]
    written.stats[np.isnan(written.stats)] = odd
    assert b"".join(signatures.pack(written)) == before


def test_an_empty_slice_has_a_digest_too(db):
    assert write(db, rows(add_dataset(db), count=0)) == hashlib.sha256().digest()


def test_a_slice_is_never_written_twice(db):
    written = rows(add_dataset(db), count=10)
    write(db, written)
    import psycopg2.errors

    with pytest.raises(psycopg2.errors.UniqueViolation):
        write(db, written)


def test_counts_beyond_three_bytes_are_refused():
    written = rows(1, count=2)
    written.class_counts[1, 4] = 1 << 24
    with pytest.raises(CbmError) as caught:
        list(signatures.pack(written))
    assert caught.value.code == "parcel_too_large"


def test_evidence_cannot_be_changed_by_who_wrote_it(db):
    dataset = add_dataset(db)
    run = runs.Run(
        scene_id=1, dataset_id=dataset, product_id=3, scope="delta", parcel_set_from=2,
        parcel_set_to=5, token=9, worker="host:1", product_hash=b"h",
        plans=(runs.PlanUsed("EPSG:32632|10|10|0|0", 5, 0.0, "ab"),),
        assets={"B04": {"href": "x", "size": 3}}, started_at=MAY, missing_bands=("B08",),
    )  # fmt: skip
    with closing(database.connect(db)) as connection:
        leaf = signatures.ensure_partition(connection, dataset, MAY)
        with database.transaction(connection) as cursor:
            runs.add_slice(cursor, leaf, rows(dataset), run)
    (row,) = sql(db, "SELECT scope, plans, assets, missing_bands, started_at FROM cbm.run")
    assert row == (
        "delta",
        [{"lattice": "EPSG:32632|10|10|0|0", "parcel_set_id": 5, "buffer_m": 0.0,
          "content_hash": "ab"}],
        {"B04": {"href": "x", "size": 3}},
        ["B08"],
        MAY,
    )  # fmt: skip
    import psycopg2.errors

    for statement in ("UPDATE cbm.run SET rows = 0", "DELETE FROM cbm.run"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            sql(db, statement)
