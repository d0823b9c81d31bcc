"""A month of signatures out of parcel order."""

from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta

import numpy as np

from cbm_core import db as database
from cbm_core.database import partitions
from cbm_extract.store import signatures
from cbm_extract.store.signatures import Slice
from tests.factories import add_dataset, sql

MAY = datetime(2024, 5, 3, 10, tzinfo=UTC)

COUNT = 400


def one_scene(dataset, scene_id, obstime=MAY, count=COUNT, variables=10) -> Slice:
    random = np.random.default_rng(scene_id)
    return Slice(
        obstime=obstime,
        scene_id=scene_id,
        dataset_id=dataset,
        product_id=1,
        geometry_ids=np.arange(1, count + 1, dtype=np.int32),
        px_imaged=np.full(count, 9, np.int32),
        px_clear=np.full(count, 9, np.int32),
        tile_rank=np.zeros(count, np.int16),
        stats=random.normal(0, 1e3, (count, variables * 8)).astype(np.float32),
        class_counts=np.ones((count, 12), np.int64),
    )


def write(settings, rows: Slice) -> None:
    with closing(database.connect(settings)) as connection:
        leaf = signatures.ensure_partition(connection, rows.dataset_id, rows.obstime)
        with database.transaction(connection) as cursor:
            signatures.insert(cursor, leaf, rows)


def month(db):
    """A dataset with three scenes in May and one in June."""
    dataset = add_dataset(db)
    for number in range(3):
        write(db, one_scene(dataset, number + 1, MAY + timedelta(days=5 * number)))
    write(db, one_scene(dataset, 9, datetime(2024, 6, 1, tzinfo=UTC)))
    return dataset


def compact(settings, dataset, month=date(2024, 5, 1)) -> bool:
    with database.session(settings) as connection:
        return partitions.compact(connection, dataset, month)


def content(settings):
    return sql(
        settings,
        """SELECT scene_id, count(*), md5(string_agg(s::text, '|' ORDER BY geometry_id))
           FROM cbm.signature s GROUP BY 1 ORDER BY 1""",
    )


def heap_order(settings, dataset):
    return sql(
        settings,
        "SELECT geometry_id, scene_id FROM cbm.signature WHERE dataset_id = %s"
        " AND obstime < '2024-06-01' ORDER BY ctid",
        dataset,
    )


def disorder(settings, dataset, day="2024-05-01"):
    return sql(settings, "SELECT cbm.signature_disorder(%s::smallint, %s::date)", dataset, day)[0][
        0
    ]


@contextmanager
def reading(settings, when):
    """A reader that has a month open, in the middle of its transaction."""
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM cbm.signature WHERE obstime = %s", (when,))
        yield cursor
