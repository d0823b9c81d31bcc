"""What is asked of signatures: which product, numbers, time, orbit and cloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cbm_api import period
from cbm_api.images import Images
from cbm_api.parameters import Pid
from cbm_api.period import Period
from cbm_api.queries.datasets import Dataset
from cbm_api.queries.products import choose
from cbm_api.queries.signatures import STATISTICS
from cbm_api.series.polygon import Area
from cbm_core import bands as band_names
from cbm_core.datasets.products import Product, of_dataset
from cbm_core.db import Cursor
from cbm_core.errors import CbmError

Statistic = Literal["count", "mean", "std", "min", "max", "p25", "p50", "p75"]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")]


def _split(value: Any) -> Any:
    """Take ``a,b`` for ``a`` and ``b``, as in addresses."""
    if not isinstance(value, list):
        return value
    return [part for one in value for part in (one.split(",") if isinstance(one, str) else [one])]


Statistics = Annotated[list[Statistic], BeforeValidator(_split)]


class Wanted(Images):
    """Which numbers of which images."""

    product: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]{0,62}(@[0-9]{1,4})?$",
        description="A product, as GET /v1/collections/{id}/products lists them; name@1 is its "
        "first revision, a name alone its newest. Left out: the one that stands for the card, "
        "s2 where none is named.",
    )
    bands: Annotated[list[_Name], BeforeValidator(_split)] | None = Field(
        default=None,
        max_length=64,
        description="Bands and indices, with commas between; all if left out. The names B4, VVb "
        "and VVc are understood as well.",
    )
    statistics: Statistics | None = Field(
        default=None, max_length=8, description="With commas between; all eight if left out."
    )
    orbit: str | None = Field(
        default=None,
        pattern=r"^(ascending|descending|[0-9]{1,3})$",
        description="The orbit's direction, or its relative number.",
    )
    max_cloud: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Leave out images in which a greater share of the parcel's classified pixels "
        "is cloud, shadow, cirrus or snow, or in which none was classified.",
    )
    classes: bool = Field(
        default=False, description="Add the pixels of each scene class: class_0 to class_11."
    )
    decibels: bool = Field(
        default=False,
        description="Of backscatter, add 10 log10 of the mean power: VV_mean_db, VH_mean_db.",
    )


class BulkBody(Wanted):
    """Of which parcels; of all without ``pids`` and ``polygon``."""

    pids: list[Pid] | None = Field(default=None, min_length=1, max_length=100_000)
    polygon: Area | None = Field(
        default=None, description="Parcels that meet it; GeoJSON in longitude and latitude."
    )

    @property
    def area(self) -> str | None:
        """The polygon as text."""
        return self.polygon.model_dump_json() if self.polygon else None

    @model_validator(mode="after")
    def _one_of_them(self) -> BulkBody:
        if self.pids is not None and self.polygon is not None:
            raise ValueError("name pids or a polygon, not both")
        return self


@dataclass(frozen=True)
class Chosen:
    """A request understood: ``numbers`` are (variable, statistic), in the order of the columns."""

    dataset: Dataset
    product: Product
    numbers: tuple[tuple[str, str], ...]
    period: Period
    direction: str | None
    relative_orbit: int | None
    max_cloud: float | None
    classes: bool
    decibel_bands: tuple[str, ...]

    @property
    def places(self) -> list[int]:
        """Where the numbers, and then the means that decibels are taken of, are stored."""
        means = [(band, "mean") for band in self.decibel_bands]
        return [
            len(STATISTICS) * self.product.variables.index(variable) + STATISTICS.index(statistic)
            for variable, statistic in (*self.numbers, *means)
        ]


def understand(cursor: Cursor, dataset: Dataset, wanted: Wanted) -> Chosen:
    """Look up what the names of a request mean.

    Raises:
        CbmError: ``product_unknown``, ``bad_parameter``.

    """
    asked_period = period.parse(wanted.datetime)
    product = choose(of_dataset(cursor, dataset.id), wanted.product, wanted.card)
    variables = _variables(product, wanted.bands)
    if wanted.decibels and product.card != "bs":
        raise CbmError(
            "bad_parameter",
            f"Decibels are of backscatter (card bs); the product {product.name} is of card "
            f"{product.card}.",
            "Leave decibels out.",
        )
    statistics = list(dict.fromkeys(wanted.statistics or STATISTICS))
    orbit = wanted.orbit
    return Chosen(
        dataset=dataset,
        product=product,
        numbers=tuple((band, statistic) for band in variables for statistic in statistics),
        period=asked_period,
        direction=orbit if orbit and not orbit.isdigit() else None,
        relative_orbit=int(orbit) if orbit and orbit.isdigit() else None,
        max_cloud=wanted.max_cloud,
        classes=wanted.classes,
        decibel_bands=tuple(band for band in variables if band in ("VV", "VH"))
        if wanted.decibels
        else (),
    )


def _variables(product: Product, names: list[str] | None) -> list[str]:
    """Return bands under the names that they are stored by, each once."""
    if names is None:
        return list(product.variables)
    stored = {name: band_names.stored(product.card, name) for name in names}
    unknown = [name for name, band in stored.items() if band not in product.variables]
    if unknown:
        raise CbmError(
            "bad_parameter",
            f"The product {product.name} has no {', '.join(unknown)}; it has "
            f"{', '.join(product.variables)}.",
            "Name some of these in bands.",
        )
    return list(dict.fromkeys(stored.values()))
