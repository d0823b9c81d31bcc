"""What images say about parcels: series, peers' series, coverage, scenes, products."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, Unpack
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import requests

from cbm_client.asking import (
    Asking,
    When,
    collection_path,
    given,
    names,
    parcel_path,
    table,
    typed,
    when,
)
from cbm_client.errors import ApiError
from cbm_client.jobs import Job

_ARROW = "application/vnd.apache.arrow.stream"
_PARQUET = "application/vnd.apache.parquet"
_SCENES = 1000
_OF_SCENE = (
    "id", "reference", "part", "card", "platform", "obstime", "tile", "orbit_direction",
    "relative_orbit", "cloud_percent", "state",
)  # fmt: skip
_OF_COVERAGE = ("obstime", "product", "revision", "reference", "code", "why")
_OF_PRODUCT = ("name", "revision", "card", "unit", "variables", "buffer_m")
_WORDS = {"obstime", "platform", "orbit_direction"}


class Numbers(TypedDict, total=False):
    """Which numbers of which images; all may be left out.

    ``product``: ``s2_clear``, or a revision of it, ``s2_clear@1``; left out, the one that stands
    for ``card`` (``s2``, ``bs``, ``c6``, ``c12``; ``s2`` if left out). ``bands``: bands and
    indices. ``statistics``: of ``count``, ``mean``, ``std``, ``min``, ``max``, ``p25``, ``p50``,
    ``p75``. ``datetime``: when the image was taken. ``orbit``: ``ascending``, ``descending``, or a
    relative orbit. ``max_cloud``: the greatest share (0 to 1) of the parcel's classified pixels
    that may be cloud, shadow, cirrus or snow. ``classes``: pixels of each scene class, too.
    ``decibels``: decibels of the mean power, too (card ``bs``).
    """

    product: str
    card: str
    bands: str | Iterable[str]
    statistics: str | Iterable[str]
    datetime: When
    orbit: str | int
    max_cloud: float
    classes: bool
    decibels: bool


class Near(Numbers, total=False):
    """Which parcels count as peers: as for ``Client.peers``; and which numbers."""

    distance: float
    min_area: float
    limit: int


class Images(TypedDict, total=False):
    """Which scenes; all may be left out.

    ``state``: ``active``, ``superseded``, ``held`` or ``retracted``. ``max_cloud_percent``: of the
    whole scene.
    """

    card: str
    datetime: When
    state: str
    orbit: str | int
    max_cloud_percent: float


class Series(Asking):
    """The part of the client that gives numbers."""

    def signatures(
        self,
        collection: str,
        parcels: str | Iterable[str] | None = None,
        *,
        polygon: Mapping[str, Any] | Any = None,
        progress: Callable[[Job], object] | None = None,
        **numbers: Unpack[Numbers],
    ) -> pd.DataFrame:
        """Return series of parcels: a row per parcel and pass, a column per number.

        More than 10,000 parcels make a job; it is waited for, fetched and deleted. A wait that is
        broken off leaves the job: :meth:`Client.jobs` finds it.

        Args:
            collection: Its id.
            parcels: An id, or some; left out, all parcels (that meet ``polygon``).
            polygon: GeoJSON, or a shape of shapely, in longitude and latitude.
            progress: Called with the :class:`Job` while it is waited for; ``print`` will do.
            **numbers: ``product``, ``card``, ``bands``, ``statistics``, ``datetime``, ``orbit``,
                ``max_cloud``, ``classes``, ``decibels``, see :class:`Numbers`.

        Returns:
            ``pid``, ``obstime`` (datetime64[us, UTC]), ``reference``, ``part``, ``tile``,
            ``platform``, ``orbit_direction``, ``relative_orbit`` (Int16), ``px_imaged``,
            ``px_clear`` (int32), ``clouded`` (share, NaN where no pixel was classified), then
            ``B04_mean`` and the like: float32 in the product's unit, NaN where there is no value;
            ``B04_count`` is int32, 0 there. Several parcels are ordered by place, each by time.

        Raises:
            ApiError: ``parcel_unknown``, ``product_unknown``, ``bad_parameter`` and the like;
                ``cut_off``; what made the job fail.

        """
        wanted = _wanted(numbers)
        if isinstance(parcels, str) and polygon is None:
            query = given({**wanted, "f": "arrow"})
            answer = self._transport.get(f"{parcel_path(collection, parcels)}/signatures", query)
            _require(answer, _ARROW)
            return _frame(pa.ipc.open_stream(answer.content).read_all())
        answer = self._ask(collection, parcels, polygon, wanted)
        if answer.status_code == requests.codes.accepted:
            job = Job(self._transport, answer.json())
            with TemporaryDirectory() as folder:
                return _frame(pq.read_table(_finish(job, Path(folder) / "series", progress)))
        body = b"".join(self._transport.pieces(answer))
        return _frame(pq.read_table(io.BytesIO(body)))

    def download_signatures(
        self,
        path: str | Path,
        collection: str,
        parcels: str | Iterable[str] | None = None,
        *,
        polygon: Mapping[str, Any] | Any = None,
        progress: Callable[[Job], object] | None = None,
        **numbers: Unpack[Numbers],
    ) -> Path:
        """Write what :meth:`signatures` returns to a Parquet file, however many parcels there are.

        Args:
            path: The file; it has its name when it is whole.
            collection: Its id.
            parcels: As for :meth:`signatures`.
            polygon: As for :meth:`signatures`.
            progress: As for :meth:`signatures`.
            **numbers: As for :meth:`signatures`.

        Raises:
            ApiError: As for :meth:`signatures`.

        """
        target = Path(path)
        answer = self._ask(collection, parcels, polygon, _wanted(numbers))
        if answer.status_code == requests.codes.accepted:
            return _finish(Job(self._transport, answer.json()), target, progress)
        half = target.with_name(f"{target.name}.part")
        try:
            with half.open("wb") as file:
                file.writelines(self._transport.pieces(answer))
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
        return target

    def peer_statistics(self, collection: str, pid: str, **near: Unpack[Near]) -> pd.DataFrame:
        """Return a parcel's series beside those of its peers: a row per pass.

        Args:
            collection: Its id.
            pid: The parcel's.
            **near: ``distance``, ``min_area``, ``limit`` as for :meth:`Client.peers`, and the
                numbers of :meth:`signatures`; ``statistics`` is ``mean`` if left out.

        Returns:
            ``obstime``, ``platform``, ``orbit_direction``, ``px_imaged``, ``px_clear``,
            ``clouded``, and of each number, ``NDVI_mean`` say, the parcel's, and of its peers
            ``NDVI_mean_peers_count``, ``_mean``, ``_std``, ``_min``, ``_p25``, ``_p50``, ``_p75``,
            ``_max``. ``attrs["peers"]`` are the peers' ids.

        Raises:
            ApiError: ``parcel_unknown``, ``product_unknown``, ``bad_parameter`` and the like.

        """
        path = f"{parcel_path(collection, pid)}/peers/statistics"
        document = self._json(path, **_wanted(near))
        frame = typed(pd.DataFrame(document["columns"]))
        for name in frame.columns.difference(list(_WORDS)):
            frame[name] = frame[name].astype("int32" if name.endswith("_count") else "float32")
        frame.attrs["peers"] = document["peers"]
        return frame

    def coverage(
        self,
        collection: str,
        pid: str,
        *,
        product: str | None = None,
        card: str | None = None,
        datetime: When | None = None,
    ) -> pd.DataFrame:
        """Return why there is a value of a date or not: a row per scene and product, by time.

        Returns:
            ``obstime``, ``product``, ``revision``, ``reference``, ``code`` (``ok``, ``clouded``,
            ``no_image``, ...), ``why`` (a sentence), ``part``, ``tile``, ``cloud_percent`` (of the
            whole scene), ``px_imaged``, ``px_clear``. A date without a row has no scene.

        Raises:
            ApiError: ``parcel_unknown``, ``product_unknown``, ``bad_parameter`` and the like.

        """
        path = f"{parcel_path(collection, pid)}/coverage"
        found = self._json(path, product=product, card=card, datetime=datetime)
        return table(found["answers"], _OF_COVERAGE)

    def scenes(self, collection: str, **images: Unpack[Images]) -> pd.DataFrame:
        """Return the scenes that the collection's extraction was asked for, by time.

        Args:
            collection: Its id.
            **images: ``card``, ``datetime``, ``state``, ``orbit``, ``max_cloud_percent``, see
                :class:`Images`.

        Returns:
            A row per scene: ``id``, ``reference``, ``obstime``, ``tile``, orbit, ``cloud_percent``,
            ``state``, what took its place, and of coherence the earlier image's time.

        Raises:
            ApiError: ``dataset_unknown``, ``bad_parameter``.

        """
        query: dict[str, Any] = {**images, "limit": _SCENES}
        found: list[dict[str, Any]] = []
        while True:
            page = self._json(f"{collection_path(collection)}/scenes", **query)
            found += page["scenes"]
            onward = [link["href"] for link in page["links"] if link["rel"] == "next"]
            if not onward:
                return table(found, _OF_SCENE)
            query["after"] = parse_qs(urlsplit(onward[0]).query)["after"][0]

    def products(self, collection: str) -> pd.DataFrame:
        """Return the products that the collection is extracted with, the newest revision first.

        Returns:
            ``name``, ``revision``, ``card``, ``unit`` (of the bands), ``variables`` (bands and
            indices), ``buffer_m`` (inward buffer of the parcels).

        Raises:
            ApiError: ``dataset_unknown``.

        """
        found = self._json(f"{collection_path(collection)}/products")
        return table(found["products"], _OF_PRODUCT)

    def _ask(
        self, collection: str, parcels: str | Iterable[str] | None, polygon: Any, wanted: Any
    ) -> requests.Response:
        body = dict(wanted)
        if parcels is not None:
            body["pids"] = [parcels] if isinstance(parcels, str) else [str(one) for one in parcels]
        if polygon is not None:
            body["polygon"] = _geojson(polygon)
        path = f"{collection_path(collection)}/signatures"
        answer = self._transport.post(path, body, {"f": "parquet"})
        if answer.status_code != requests.codes.accepted:
            _require(answer, _PARQUET)
        return answer


def _wanted(numbers: Numbers | Near) -> dict[str, Any]:
    wanted: dict[str, Any] = {k: v for k, v in numbers.items() if v is not None}
    for name in ("bands", "statistics"):
        if name in wanted:
            wanted[name] = names(wanted[name])
    if "datetime" in wanted:
        wanted["datetime"] = when(wanted["datetime"])
    if "orbit" in wanted:
        wanted["orbit"] = str(wanted["orbit"])
    return wanted


def _geojson(polygon: Any) -> Any:
    """Return a polygon in two dimensions, with lists for tuples, as JSON has it."""
    if isinstance(polygon, Mapping):
        return polygon
    import shapely

    return shapely.geometry.mapping(shapely.force_2d(polygon))


def _finish(job: Job, target: Path, progress: Callable[[Job], object] | None) -> Path:
    job.wait(progress)
    job.download(target)
    job.delete()
    return target


def _frame(found: pa.Table) -> pd.DataFrame:
    return found.to_pandas(types_mapper={pa.int16(): pd.Int16Dtype()}.get)


def _require(answer: requests.Response, kind: str) -> None:
    if answer.headers.get("Content-Type", "").partition(";")[0] != kind:
        answer.close()
        raise ApiError("not_the_api", f"{answer.url} does not answer as the API does.")
