"""The orthophoto of a dataset: what is shown behind its parcels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cbm_core import db
from cbm_core.datasets import store
from cbm_core.datasets.store import Dataset
from cbm_core.errors import CbmError
from cbm_core.verbs import Answer, ChangingArguments, Context, Verb, positional

_KEY = "background"
DEEPEST_ZOOM = 19
SOURCE = (
    "GeoTIFF (path, s3:// or https://), address of map tiles with {z}, {x} and {y} in it, or with"
    " layers of a Web Map Service. It may be read by all readers of the dataset: no secret."
)
_WEB = ("http://", "https://")
_RASTERS = ("/", "s3://", *_WEB)


class Background(BaseModel):
    """Where pictures of the ground come from; kept as ``background`` in a dataset's settings.

    ``source`` is a GeoTIFF in red, green and blue (a path, ``s3://`` or ``https://``); or the
    address of map tiles in Web Mercator with ``{z}``, ``{x}`` and ``{y}`` in it, which go down to
    ``zoom``; or with ``layers`` that of a Web Map Service.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(max_length=1000)
    layers: str | None = Field(default=None, max_length=200)
    zoom: int = Field(default=DEEPEST_ZOOM, ge=0, le=24)

    @property
    def is_tiles(self) -> bool:
        """Say whether ``source`` is a template of map tiles."""
        return all(part in self.source for part in ("{z}", "{x}", "{y}"))

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Background | None:
        """Return the background that a dataset's settings name, None without one."""
        return cls.model_validate(settings[_KEY]) if _KEY in settings else None


class _Background(ChangingArguments):
    dataset: str = positional("Dataset, aoi:year.")
    source: str | None = Field(
        default=None,
        max_length=1000,
        description=SOURCE,
    )
    layers: str | None = Field(default=None, max_length=200, description="Layers of the service.")
    zoom: int = Field(
        default=DEEPEST_ZOOM, ge=0, le=24, description="Deepest zoom of the map tiles."
    )
    absent: bool = Field(default=False, description="Take the background away.")


def wanted(source: str, layers: str | None, zoom: int) -> Background:
    """Return the background that a source describes.

    Raises:
        CbmError: ``background_invalid``.

    """
    background = Background(source=source, layers=layers, zoom=zoom)
    is_service = layers is not None or "{" in source
    if not source.startswith(_WEB if is_service else _RASTERS):
        raise CbmError(
            "background_invalid",
            f"The source {source} is no address that pictures are read from.",
            "Expected an absolute path, s3:// or https://; of services https:// only.",
        )
    if "{" in source and (not background.is_tiles or layers):
        raise CbmError(
            "background_invalid",
            f"Expected {{z}}, {{x}} and {{y}} in the address of map tiles, and no layers; found"
            f" {source}.",
        )
    return background


def placed(dataset: Dataset, background: Background | None) -> Dataset:
    """Return the dataset with that background, with None without any."""
    settings = {name: value for name, value in dataset.settings.items() if name != _KEY}
    if background:
        settings[_KEY] = background.model_dump(exclude_defaults=True)
    return replace(dataset, settings=settings)


def change(before: dict[str, Any], after: Dataset) -> list[str]:
    """Say in words what becomes of the background; ``before`` are the settings until now."""
    background = Background.of(after.settings)
    if background == Background.of(before):
        return []
    what = f"show {background.source} behind" if background else "take the background from"
    return [f"{what} the parcels of {after.name}"]


def _run(arguments: _Background, context: Context) -> Answer:
    source = arguments.source
    if arguments.absent != (source is None):
        raise CbmError("background_invalid", "Expected either --source or --absent.")
    background = None if source is None else wanted(source, arguments.layers, arguments.zoom)
    with db.session(context.settings) as connection, db.transaction(connection) as cursor:
        dataset = store.require_dataset(cursor, arguments.dataset)
        after = placed(dataset, background)
        lines = change(dataset.settings, after)
        if lines and not arguments.check:
            store.update(cursor, after)
            store.audit(cursor, "dataset background", dataset.name, lines)
    return Answer(
        changed=bool(lines),
        plan=lines,
        result={"dataset": dataset.name, _KEY: after.settings.get(_KEY)},
        before=f"{dataset.settings.get(_KEY, '')}\n",
        after=f"{after.settings.get(_KEY, '')}\n",
        text="" if arguments.check and lines else "; ".join(lines) or "Nothing to do.",
    )


BACKGROUND = Verb("Say which orthophoto is shown behind a dataset's parcels.", _Background, _run)
