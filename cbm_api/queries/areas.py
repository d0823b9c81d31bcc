"""Areas that requests name: valid ones as they are, small others mended."""

from __future__ import annotations

from cbm_core.db import Cursor, one_row
from cbm_core.errors import CbmError

# Mending a polygon that crosses itself takes time with the fourth power of its positions, and no
# statement timeout ends it: 50 positions take 0.2 s, a few thousand bring the server down.
MENDABLE = 50


def usable(cursor: Cursor, geojson: str) -> str:
    """Return a GeoJSON area in degrees (CRS84) as a valid geometry, in PostGIS's hexadecimal form.

    Raises:
        CbmError: ``bad_parameter`` where it crosses itself and has more than 50 positions.

    """
    # Two statements, so that nothing is mended before it is known to be small.
    cursor.execute(
        """SELECT a::text, ST_IsValid(a), ST_NPoints(a)
           FROM (SELECT ST_SetSRID(ST_GeomFromGeoJSON(%s), 4326) AS a OFFSET 0) asked""",
        (geojson,),
    )
    area, valid, positions = one_row(cursor)
    if valid:
        return str(area)
    if positions > MENDABLE:
        raise CbmError(
            "bad_parameter",
            f"The polygon is not valid: it crosses itself or its rings meet, and it has {positions}"
            f" positions; such polygons are mended up to {MENDABLE}.",
            "Send a polygon whose outline does not cross itself.",
        )
    cursor.execute("SELECT ST_CollectionExtract(ST_MakeValid(%s::geometry), 3)::text", (str(area),))
    return str(one_row(cursor)[0])
