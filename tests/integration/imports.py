"""Imports of small files into one layer, and what the database says then."""

from contextlib import closing
from datetime import date

from cbm_core import db as database
from cbm_core.datasets import verbs as datasets
from cbm_core.verbs import Context
from cbm_extract.parcels import verbs
from tests.unit.parcels import files

START, JUNE, JULY = date(2024, 1, 1), date(2024, 6, 1), date(2024, 7, 1)

FOREVER = date.max


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def query(settings, statement, *parameters):
    with closing(database.connect(settings)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return cursor.fetchall()


def dataset(db):
    run(datasets.ADD, db, aoi="ie", year=2024)
    return db


def put(dataset, tmp_path):
    """Import parcels from a new file, or once more from a file given by its number."""
    count = iter(range(100))

    def importing(parcels, **arguments):
        path = tmp_path / f"{parcels}.gpkg"
        if not isinstance(parcels, int):
            path = files.gpkg(tmp_path / f"{next(count)}.gpkg", parcels)
        wanted = {"dataset": "ie:2024", "id": "column:pid", "crop_code": "crop", **arguments}
        return run(verbs.IMPORT, dataset, source=path, **wanted)

    return importing


def counts(answer):
    result = answer.result
    return result["added"], result["changed"], result["removed"]


def everything(settings):
    """All rows of the parcel tables with their physical place and transaction."""
    return {
        table: query(settings, f"SELECT ctid, xmin, t.*::text FROM cbm.{table} t ORDER BY 3")
        for table in ("parcel_set", "parcel_geometry", "parcel", "crs", "dataset")
    }


def known(settings, layer=""):
    """What is known now: (id, crop, from, to), with `date.max` for no end."""
    return [
        (pid, crop, start, FOREVER if end is None else end)
        for pid, crop, start, end in query(
            settings,
            """SELECT pid, crop_code, valid_from, nullif(valid_to, 'infinity') FROM cbm.parcel
               WHERE known_to = 'infinity' AND layer = %s ORDER BY pid, valid_from""",
            layer,
        )
    ]


def active(settings):
    """Geometry id by parcel as known now, and the ids of active geometries."""
    of_parcel = query(
        settings,
        """SELECT pid, geometry_id FROM cbm.parcel
           WHERE known_to = 'infinity' AND valid_to = 'infinity'""",
    )
    ids = query(settings, "SELECT id FROM cbm.parcel_geometry WHERE retired_at IS NULL ORDER BY id")
    return dict(of_parcel), [row[0] for row in ids]
