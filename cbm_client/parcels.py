"""Parcels, and those alike nearby."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypedDict, Unpack
from urllib.parse import parse_qs, urlsplit

import pandas as pd

from cbm_client.asking import Asking, When, collection_path, parcel_path, table, untyped
from cbm_client.errors import ApiError

# Some 2 MB of GeoJSON.
_PAGE = 2000
_EPSG = "http://www.opengis.net/def/crs/EPSG/0/"
_COLUMNS = ("pid", "crop_code", "crop_name", "area_m2", "valid_from", "valid_to")


class Time(TypedDict, total=False):
    """When, and in which reference system; all may be left out.

    ``datetime``: when the parcel is valid in the field; left out, parcels without an end.
    ``as_of``: as the database knew it then. ``crs``: EPSG code of the coordinates, one that the
    collection lists (its file's, 4326, 3857); left out, longitude and latitude.
    """

    datetime: When
    as_of: When
    crs: int


class Filter(Time, total=False):
    """Which parcels; all may be left out.

    ``bbox``: west, south, east, north in degrees; parcels that meet it.
    """

    bbox: tuple[float, float, float, float]
    crop_code: str
    crop_name: str


class Parcels(Asking):
    """The part of the client that gives parcels."""

    def parcels(
        self,
        collection: str,
        *,
        most: int | None = None,
        progress: Callable[[int], object] | None = None,
        **filters: Unpack[Filter],
    ) -> pd.DataFrame:
        """Return the parcels that meet a box, a time and a crop; pages are followed.

        A search for something rare in a country goes on until all was looked at.

        Args:
            collection: Its id, ``ie_2024`` say.
            most: Stop after so many.
            progress: Called with how many were found, after each page and each time that the
                server has searched in vain (8 s); ``print`` will do.
            **filters: ``bbox`` (west, south, east, north), ``datetime``, ``as_of``, ``crop_code``,
                ``crop_name``, ``crs`` (EPSG code), see :class:`Filter`.

        Returns:
            A row per parcel: ``pid``, ``crop_code``, ``crop_name``, ``area_m2`` (EPSG:3035),
            ``valid_from``, ``valid_to`` (exclusive, NaT without an end), the columns kept at
            import, and ``geometry``. A GeoDataFrame (x before y, whatever the system's axes) where
            geopandas is installed, else a DataFrame with GeoJSON as the API sends it.

        Raises:
            ApiError: ``dataset_unknown``, ``bad_parameter`` and the like.

        """
        page = min(_PAGE, most or _PAGE)
        features = self._features(f"{collection_path(collection)}/items", filters, page, progress)
        return _frame(list(islice(features, most)), filters.get("crs"))

    def parcel(self, collection: str, pid: str, **time: Unpack[Time]) -> pd.DataFrame:
        """Return one parcel as a table of one row, with the columns of :meth:`parcels`.

        Args:
            collection: Its id.
            pid: The parcel's.
            **time: ``datetime``, ``as_of``, ``crs``, see :class:`Time`. Without ``datetime`` the
                parcel is shown as it was last.

        Raises:
            ApiError: ``parcel_unknown``, ``dataset_unknown`` and the like.

        """
        feature = self._json(parcel_path(collection, pid), **_spelled(time))
        return _frame([feature], time.get("crs"))

    def peers(
        self,
        collection: str,
        pid: str,
        *,
        distance: float = 2000,
        min_area: float = 3000,
        limit: int = 100,
        **time: Unpack[Time],
    ) -> pd.DataFrame:
        """Return the parcels of the same crop nearby, the nearest first.

        Args:
            collection: Its id.
            pid: The parcel's.
            distance: From border to border at most, in metres, up to 20,000.
            min_area: Square metres, at least.
            limit: How many, up to 1000.
            **time: ``datetime``, ``as_of``, ``crs``, see :class:`Time`.

        Returns:
            The columns of :meth:`parcels` and ``distance_m``.

        Raises:
            ApiError: ``parcel_unknown``, ``dataset_unknown`` and the like.

        """
        near = {"distance": distance, "min_area": min_area, "limit": limit}
        page = self._json(f"{parcel_path(collection, pid)}/peers", **near, **_spelled(time))
        return _frame(page["features"], time.get("crs"), "distance_m")

    def collections(self) -> pd.DataFrame:
        """Return the collections that the user may read, a row each, by ``id``.

        Columns: ``title``, ``aoi``, ``year``, ``layer``, ``parcels`` (how many), ``start`` and
        ``end`` of the imagery, ``crs`` (EPSG code of the file, 4326 where it has none), ``bbox``
        (west, south, east, north, None without parcels).

        Raises:
            ApiError: ``login_failed`` and the like.

        """
        rows = [
            {
                **{name: one[name] for name in ("id", "title", "aoi", "year", "layer", "parcels")},
                **dict(
                    zip(("start", "end"), one["extent"]["temporal"]["interval"][0], strict=True)
                ),
                "crs": _code(one["storageCrs"]),
                "bbox": _box(one["extent"]),
            }
            for one in self._json("/v1/collections")["collections"]
        ]
        columns = ("id", "title", "aoi", "year", "layer", "parcels", "start", "end", "crs", "bbox")
        return table(rows, columns).set_index("id")

    def _features(
        self, path: str, filters: Filter, size: int, progress: Callable[[int], object] | None
    ) -> Iterator[dict[str, Any]]:
        query: dict[str, Any] = {**_spelled(filters), "limit": size}
        found, cursor = 0, None
        while True:
            features, onward = self._page(path, query | {"cursor": cursor})
            found += len(features)
            if progress:
                progress(found)
            yield from features
            if onward is None:
                return
            cursor = onward

    def _page(self, path: str, query: dict[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
        """Return features, and where to go on; None at the end."""
        try:
            page = self._json(path, **query)
        except ApiError as error:
            # A search that stays where it is would never end.
            if error.code != "search_too_wide" or error.cursor in (None, query["cursor"]):
                raise
            return [], error.cursor
        onward = [link["href"] for link in page["links"] if link["rel"] == "next"]
        # The key alone: behind a proxy the link may name another host.
        return page["features"], (
            parse_qs(urlsplit(onward[0]).query)["cursor"][0] if onward else None
        )


def _spelled(filters: Time | Filter) -> dict[str, Any]:
    query: dict[str, Any] = dict(filters)
    if "crs" in query:
        query["crs"] = f"{_EPSG}{query['crs']}"
    return query


def _frame(features: list[dict[str, Any]], code: int | None, *more: str) -> pd.DataFrame:
    # The agency's own columns, whatever they are called, stay as they are.
    frame = untyped((one["properties"] for one in features), (*_COLUMNS, *more))
    for name in ("valid_from", "valid_to"):
        # Days of the field, without hours or zone.
        frame[name] = pd.to_datetime(frame[name], format="ISO8601").dt.as_unit("us")
    shapes = [one["geometry"] for one in features]
    try:
        import geopandas
        import shapely
        from pyproj import CRS
    except ImportError:
        return frame.assign(geometry=shapes)
    system = CRS.from_epsg(code or 4326)
    made = shapely.from_geojson([json.dumps(shape) for shape in shapes])
    if code is not None and system.axis_info[0].direction.lower() in ("north", "south"):
        made = shapely.transform(made, lambda points: points[:, ::-1])
    return geopandas.GeoDataFrame(frame, geometry=made, crs=system)


def _code(uri: str) -> int:
    return int(uri.removeprefix(_EPSG)) if uri.startswith(_EPSG) else 4326


def _box(extent: dict[str, Any]) -> tuple[float, ...] | None:
    spatial = extent.get("spatial")
    return tuple(spatial["bbox"][0]) if spatial else None
