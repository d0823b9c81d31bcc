"""Answers as the predecessor gave them: columns, and an empty object where nothing is found."""

from __future__ import annotations

import csv
import io
import json

from flask import Response, jsonify
from pydantic import BaseModel, Field
from werkzeug.utils import secure_filename

from cbm_api.queries.legacy_parcels import Columns


class Parcels(BaseModel):
    """Parcels by column; `{}` where there are none."""

    pid: list[int | str] | None = Field(
        default=None, description="Ids, as numbers where all ids of the dataset are."
    )
    cropname: list[str | None] | None = None
    cropcode: list[str | None] | None = None
    srid: list[int] | None = Field(
        default=None, description="EPSG code of the legal reference system."
    )
    geom: list[str] | None = Field(default=None, description="GeoJSON.")
    area: list[int] | None = Field(default=None, description="Square metres, in EPSG:3035.")
    clon: list[float] | None = Field(default=None, description="The centroid's longitude.")
    clat: list[float] | None = Field(default=None, description="The centroid's latitude.")
    ogc_fid: list[int | str] | None = Field(default=None, description="The same as `pid`.")


class PeerColumns(BaseModel):
    """Peers by column; `{}` where the parcel is not known."""

    pids: list[int | str] | None = None
    distance: list[float] | None = Field(default=None, description="Metres, rising.")


class Series(BaseModel):
    """A time series by column, a row per image and band; `{}` where there is none."""

    date_part: list[float] | None = Field(default=None, description="Seconds since 1970, UTC.")
    band: list[str] | None = None
    count: list[int] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    min: list[float] | None = None
    p25: list[float] | None = None
    p50: list[float] | None = None
    p75: list[float] | None = None
    max: list[float] | None = None
    obsid: list[int] | None = Field(default=None, description="Of `scl`: the image.")
    hist: list[dict[str, int]] | None = Field(
        default=None, description="Pixels per class of the scene classification (20 m)."
    )
    reference: list[str] | None = Field(default=None, description="The image's name.")


class Nothing(BaseModel):
    """An empty object."""


def columns(found: Columns) -> Response:
    """Answer with columns, or ``{}`` where they are empty."""
    return jsonify(found if any(found.values()) else {})


def table(found: Columns, name: str) -> Response:
    """Answer with columns as a CSV file; histograms in it are JSON."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(found)
    for row in zip(*found.values(), strict=True):
        writer.writerow(json.dumps(one) if isinstance(one, dict) else one for one in row)
    response = Response(text.getvalue(), content_type="text/csv; charset=utf-8")
    response.headers.set("Content-Disposition", "attachment", filename=secure_filename(name))
    return response
