"""Series of parcels, made from rows of the database. Pure."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cbm_core.datasets.products import Product
from cbm_extract.store.report_queries import Value

# Cloud shadow, clouds of medium and high probability, thin cirrus, snow or ice.
CLOUDED_CLASSES = (3, 8, 9, 10, 11)
STATISTICS = ("mean", "std", "min", "p25", "p50", "p75", "max")

_NIR = ("B08", "B8A")
_RED = "B04"


@dataclass(frozen=True)
class Point:
    """NDVI of a parcel at one time.

    ``value`` is None without statistics; ``clouded`` is the share of the parcel's classified
    pixels that are cloud, shadow, cirrus or snow, None where none were classified.
    """

    obstime: datetime
    value: float | None
    clouded: float | None


def clouded_share(classes: dict[int, int] | None) -> float | None:
    """Return the share of classes 3, 8, 9, 10 and 11 among all pixels counted."""
    total = sum((classes or {}).values())
    if classes is None or total == 0:
        return None
    return sum(classes.get(number, 0) for number in CLOUDED_CLASSES) / total


def ndvi_variables(product: Product) -> tuple[str, ...] | None:
    """Return what NDVI is taken from: the index itself, else near infrared and red, else None."""
    if "NDVI" in product.variables:
        return ("NDVI",)
    nir = next((band for band in _NIR if band in product.variables), None)
    return (nir, _RED) if nir and _RED in product.variables else None


def ndvi_series(
    rows: Iterable[Value], variables: tuple[str, ...]
) -> dict[tuple[str, str], list[Point]]:
    """Return (layer, pid) -> points in order of time.

    With two variables NDVI is (a - b) / (a + b) of their means.
    """
    grouped: dict[tuple[str, str], dict[tuple[datetime, str, str], dict[str, Value]]] = {}
    for row in rows:
        of_parcel = grouped.setdefault((row.layer, row.pid), {})
        of_parcel.setdefault((row.obstime, row.tile, row.reference), {})[row.band] = row
    return {
        parcel: [_point(bands, variables) for _, bands in sorted(scenes.items())]
        for parcel, scenes in grouped.items()
    }


def _point(bands: dict[str, Value], variables: tuple[str, ...]) -> Point:
    means = [bands[name].statistics[0] if name in bands else None for name in variables]
    any_row = next(iter(bands.values()))
    return Point(any_row.obstime, _ndvi(means), clouded_share(any_row.classes))


def _ndvi(means: Sequence[float | None]) -> float | None:
    known = [mean for mean in means if mean is not None]
    if len(known) < len(means):
        return None
    if len(known) == 1:
        return known[0]
    nir, red = known
    return (nir - red) / (nir + red) if nir + red > 0 else None


def is_clear(point: Point, limit: float, *, classified: bool) -> bool:
    """Tell whether a point counts as clear.

    ``classified`` says that the product counts scene classes at all: an unclassified parcel (too
    small for a pixel of 20 m) then is not known to be clear.
    """
    if point.clouded is None:
        return not classified
    return point.clouded <= limit


def decibels(power: float | None) -> float | None:
    """Return 10 log10 of linear power, None where there is none to take it of."""
    return 10 * math.log10(power) if power is not None and power > 0 else None


def as_records(rows: Iterable[Value], card: str = "s2") -> list[dict[str, Any]]:
    """Return one flat, JSON-serialisable record per row.

    Of card ``bs`` ``mean_db`` is the mean power in decibels: means are never taken of decibels.
    """
    return [
        {
            "obstime": row.obstime.isoformat(),
            "reference": row.reference,
            "tile": row.tile,
            "band": row.band,
            "count": row.count,
            **dict(zip(STATISTICS, row.statistics, strict=True)),
            "px_imaged": row.px_imaged,
            "px_clear": row.px_clear,
            "clouded": _rounded(clouded_share(row.classes)),
            **({"mean_db": decibels(row.statistics[0])} if card == "bs" else {}),
        }
        for row in rows
    ]


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def as_csv(records: Sequence[dict[str, Any]]) -> str:
    """Return the records as CSV with a header line; no value is an empty field."""
    out = io.StringIO()
    names = ["obstime", "reference", "tile", "band", "count", *STATISTICS]
    names += ["px_imaged", "px_clear", "clouded"]
    if records and "mean_db" in records[0]:
        names.append("mean_db")
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().rstrip("\n")


def as_table(records: Sequence[dict[str, Any]]) -> str:
    """Lay the records out for people: times in UTC, no value as a dash."""
    if not records:
        return "No rows."
    decibel = ["dB"] if "mean_db" in records[0] else []
    names = ["band", "count", *STATISTICS, *decibel, "imaged", "clear", "clouded"]
    lines = [["UTC", "tile", *names]]
    for record in records:
        cells = [record["obstime"][:16].replace("T", " "), record["tile"], record["band"]]
        cells.append(str(record["count"]))
        cells += [_number(record[name]) for name in STATISTICS]
        if decibel:
            cells.append("-" if record["mean_db"] is None else f"{record['mean_db']:.1f}")
        share = record["clouded"]
        cells += [str(record["px_imaged"]), str(record["px_clear"])]
        lines.append([*cells, "-" if share is None else f"{100 * share:.0f} %"])
    return text_table(lines, left=3)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.6f}" if 0 < abs(value) < 0.01 else f"{value:.4f}"


def text_table(lines: Sequence[Sequence[str]], left: int) -> str:
    """Align columns; the first ``left`` to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
