"""Image chips as arrays: which there are, numbers, pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cbm_client.asking import Asking, When, given, parcel_path, table
from cbm_client.errors import ApiError

Pixels = NDArray[np.uint8]
# A file that is gone or broken costs a series its one date.
_LOST = ("raster_missing", "raster_damaged")
_COLUMNS = (
    "scene", "obstime", "cloud_percent", "reference", "card", "platform", "tile",
    "orbit_direction", "relative_orbit", "bands",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Chip:
    """A window of an image, in the image's own pixels.

    ``values``: float32 [bands, rows, columns] in the unit of the statistics, NaN without data;
    ``bands`` names them. ``transform`` (affine) leads from (column, row) to coordinates in ``crs``.
    ``obstime`` is UTC.
    """

    values: NDArray[np.float32]
    bands: tuple[str, ...]
    transform: Any
    crs: str
    obstime: datetime
    reference: str

    def __getitem__(self, band: str) -> NDArray[np.float32]:
        """Return a band: float32 [rows, columns].

        Raises:
            KeyError: There is no such band.

        """
        if band not in self.bands:
            raise KeyError(f"{band}; there are {', '.join(self.bands)}")
        found: NDArray[np.float32] = self.values[self.bands.index(band)]
        return found


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of a date: uint8 [rows, columns, 4] (RGBA), None where the image's file is lost."""

    pixels: Pixels | None
    obstime: datetime
    cloud_percent: float | None


class Which(TypedDict, total=False):
    """Which images; all may be left out.

    ``card``: ``s2`` (if left out), ``bs``, ``c6``, ``c12``. ``datetime``: left out, the dataset's
    imagery. ``max_cloud``: highest cloud percentage of the whole scene. ``size``: metres of a
    chip's side, 20 to 5120; left out, the parcel and 100 m around it.
    """

    card: str
    datetime: When
    max_cloud: float
    size: float


class Shown(TypedDict, total=False):
    """How pictures are made; all may be left out.

    ``bands``: one, or three for red, green and blue. ``range``: what is black and white, in the
    unit of the statistics: ``0,3000``, or a pair per band. ``stretch``: the same as percentiles of
    the chip: ``2,98``. ``outline``: draw the parcel's borders (True if left out). ``side``: pixels
    of a side.
    """

    bands: str | tuple[str, ...] | list[str]
    range: str
    stretch: str
    outline: bool
    side: int


class Drawn(Shown, total=False):
    """How one picture is made, and ``size`` as in :class:`Which`."""

    size: float


class Sheet(Which, Shown, total=False):
    """Which images, how many (``limit``), how they are shown, and how many in a row."""

    limit: int
    columns: int


class Chips(Asking):
    """The part of the client that gives images."""

    def chips(
        self, collection: str, pid: str, *, limit: int = 100, **which: Unpack[Which]
    ) -> pd.DataFrame:
        """Return which images show a parcel, by time: a row per pass.

        Args:
            collection: Its id.
            pid: The parcel's.
            limit: The first of the period, up to 500.
            **which: ``card``, ``datetime``, ``max_cloud``, ``size``, see :class:`Which`.

        Returns:
            ``scene`` (the number to ask for), ``obstime``, ``cloud_percent`` (of the whole scene),
            ``reference``, ``card``, ``platform``, ``tile``, orbit, ``bands`` (a list).
            ``attrs["complete"]`` says whether the period has no more.

        Raises:
            ApiError: ``parcel_unknown``, ``bad_parameter`` and the like.

        """
        found = self._json(f"{parcel_path(collection, pid)}/chips", limit=limit, **which)
        rows = [{name: one[name] for name in _COLUMNS} for one in found["chips"]]
        frame = table(rows, _COLUMNS)
        frame.attrs["complete"] = found["complete"]
        return frame

    def chip(
        self,
        collection: str,
        pid: str,
        scene: int,
        *,
        bands: str | tuple[str, ...] | list[str] | None = None,
        size: float | None = None,
    ) -> Chip:
        """Return a parcel's window of one image as numbers.

        Args:
            collection: Its id.
            pid: The parcel's.
            scene: The image's number, from :meth:`chips`.
            bands: Up to 16; left out, those of the picture.
            size: Metres of a side, 20 to 5120; left out, the parcel and 100 m around it.

        Raises:
            ApiError: ``scene_unknown``, ``raster_missing``, ``raster_unreachable`` and the like.

        """
        from rasterio.io import MemoryFile

        path = f"{parcel_path(collection, pid)}/chips/{int(scene)}.tif"
        body = self._image(path, {"bands": bands, "size": size}, "image/tiff")
        with MemoryFile(body) as memory, memory.open() as source:
            tags = source.tags()
            return Chip(
                values=source.read(),
                bands=tuple(source.descriptions),
                transform=source.transform,
                crs=source.crs.to_string(),
                obstime=datetime.fromisoformat(tags["obstime"]),
                reference=tags["reference"],
            )

    def picture(self, collection: str, pid: str, scene: int, **drawn: Unpack[Drawn]) -> Pixels:
        """Return a parcel's window of one image as a picture.

        Args:
            collection: Its id.
            pid: The parcel's.
            scene: The image's number, from :meth:`chips`.
            **drawn: ``bands``, ``range``, ``stretch``, ``outline``, ``side``, ``size``, see
                :class:`Shown`.

        Returns:
            uint8 [rows, columns, 4]: red, green, blue and opacity, 0 where there is no data.

        Raises:
            ApiError: ``scene_unknown``, ``raster_missing``, ``raster_unreachable`` and the like.

        """
        path = f"{parcel_path(collection, pid)}/chips/{int(scene)}.png"
        return _pixels(self._image(path, drawn, "image/png"))

    def pictures(
        self,
        collection: str,
        pid: str,
        *,
        limit: int = 24,
        shown: Shown | None = None,
        **which: Unpack[Which],
    ) -> list[Picture]:
        """Return a parcel's pictures of many dates, for ``plot.chips``: a request for each.

        Args:
            collection: Its id.
            pid: The parcel's.
            limit: The first of the period.
            shown: How they are made, see :class:`Shown`.
            **which: ``card``, ``datetime``, ``max_cloud``, ``size``, see :class:`Which`.

        Raises:
            ApiError: ``parcel_unknown``, ``raster_unreachable`` and the like.

        """
        drawn: dict[str, Any] = {"side": 128, **(shown or {})}
        if "size" in which:
            drawn["size"] = which["size"]
        found = []
        for one in self.chips(collection, pid, limit=limit, **which).itertuples():
            pixels = None
            try:
                pixels = self.picture(collection, pid, one.scene, **drawn)
            except ApiError as error:
                if error.code not in _LOST:
                    raise
            cloud = None if pd.isna(one.cloud_percent) else float(one.cloud_percent)
            found.append(Picture(pixels, one.obstime.to_pydatetime(), cloud))
        return found

    def sheet(self, collection: str, pid: str, **sheet: Unpack[Sheet]) -> Pixels:
        """Return many dates in one picture that the server draws, each with its date below.

        Args:
            collection: Its id.
            pid: The parcel's.
            **sheet: ``limit`` (24, at most 60), ``columns``, and what :class:`Which` and
                :class:`Shown` say.

        Returns:
            uint8 [rows, columns, 4]

        Raises:
            ApiError: ``parcel_unknown``, ``raster_unreachable`` and the like.

        """
        return _pixels(self._image(f"{parcel_path(collection, pid)}/chips.png", sheet, "image/png"))

    def background(
        self, collection: str, pid: str, *, size: float | None = None, side: int = 512
    ) -> Pixels:
        """Return the dataset's orthophoto around a parcel.

        Args:
            collection: Its id.
            pid: The parcel's.
            size: Metres of a side; left out, the parcel and 100 m around it.
            side: Pixels of a side.

        Returns:
            uint8 [rows, columns, 4]

        Raises:
            ApiError: ``not_found``: the collection has none; ``parcel_unknown`` and the like.

        """
        path = f"{parcel_path(collection, pid)}/background.png"
        return _pixels(self._image(path, {"size": size, "side": side}, "image/png"))

    def _image(self, path: str, query: Any, kind: str) -> bytes:
        answer = self._transport.get(path, given(query))
        if answer.headers.get("Content-Type") != kind:
            raise ApiError("not_the_api", f"{answer.url} does not answer as the API does.")
        return answer.content


def _pixels(png: bytes) -> Pixels:
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGBA"))
