"""Making of the sample: look at what is there, say what is to do, do that."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from cbm_core.errors import CbmError, folder_unusable
from cbm_core.progress import step
from cbm_extract.sample import crops, files, scenes, stac, texts, truth
from cbm_extract.sample.fields import Fields, make_fields
from cbm_extract.sample.season import Acquisition, Product, make_season

MANIFEST = "sample.json"
GENERATOR = 1  # rises when the same arguments would make other files

_PARCELS = "parcels/parcels_2021.gpkg"
_CATALOG = "scenes/catalog.json"
_BYTES_PER_PIXEL = 8.5  # of the 10 m grid, all bands of one scene, compressed


@dataclass(frozen=True)
class Recipe:
    """What a sample is made from; the same recipe makes the same files."""

    parcels: int
    dates: int
    size: int
    seed: int
    generator: int = GENERATOR

    def rng(self, *purpose: int) -> np.random.Generator:
        """Return the generator for one purpose, so that no part depends on another's draws."""
        return np.random.default_rng([self.seed, *purpose])

    def season(self) -> list[Acquisition]:
        """Return the sample's acquisitions."""
        return make_season(self.rng(1), self.dates)


@dataclass(frozen=True)
class Plan:
    """What is to be made: nothing if ``reason`` is empty."""

    folder: Path
    recipe: Recipe
    reason: str
    scenes: list[tuple[Acquisition, Product]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The plan in words."""
        if not self.reason:
            return []
        return [
            f"{self.folder}: {self.reason}: write {self.recipe.parcels} parcels, "
            f"{len(self.scenes)} scenes of {self.recipe.size} x {self.recipe.size} pixels"
        ]


def plan(folder: Path, recipe: Recipe) -> Plan:
    """Compare the folder with the recipe.

    Raises:
        CbmError: ``folder_not_empty`` when it holds something else, ``sample_differs`` when it
            holds a sample made with other arguments, ``cannot_read`` when it can't be looked at.

    """
    try:
        return _plan(folder, recipe)
    except OSError as error:
        raise folder_unusable(folder, error) from error


def _plan(folder: Path, recipe: Recipe) -> Plan:
    wanted = [(taken, product) for taken in recipe.season() for product in taken.products]
    if folder.exists() and not folder.is_dir():
        raise CbmError("not_a_folder", f"{folder} is a file.", "Name a new or empty folder.")
    if not folder.is_dir() or not any(folder.iterdir()):
        return Plan(folder, recipe, "new", wanted)
    if not (folder / MANIFEST).is_file():
        raise CbmError(
            "folder_not_empty",
            f"{folder} is not empty and holds no sample.",
            "Name a new or empty folder.",
        )
    manifest = _manifest(folder / MANIFEST)
    if manifest.get("recipe") != asdict(recipe):
        raise CbmError(
            "sample_differs",
            f"{folder} holds a sample made with {_words(manifest.get('recipe'))}; wanted is one "
            f"with {_words(asdict(recipe))}.",
            "Name another folder, or remove this one.",
        )
    missing = [pair for pair in wanted if not _scene_stands(folder, *pair)]
    if missing:
        return Plan(folder, recipe, f"{len(missing)} scenes missing or damaged", missing)
    if manifest["complete"] and _sizes_hold(folder, manifest["files"]):
        return Plan(folder, recipe, "")
    return Plan(folder, recipe, "files missing or damaged")


def _manifest(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        document = None
    if not isinstance(document, dict) or not {"recipe", "complete", "files"} <= set(document):
        raise CbmError(
            "folder_not_empty",
            f"{path} was not written by `cbm sample`.",
            "Name a new or empty folder.",
        )
    return document


def _words(recipe: Any) -> str:
    if not isinstance(recipe, dict):
        return "unknown arguments"
    return ", ".join(f"{name} {value}" for name, value in recipe.items())


def _scene_stands(folder: Path, taken: Acquisition, product: Product) -> bool:
    item = folder / "scenes" / taken.item(product)
    try:
        document = json.loads((item / f"{item.name}.json").read_text(encoding="utf-8"))
        sizes = {asset["href"]: asset["file:size"] for asset in document["assets"].values()}
    except (OSError, ValueError, KeyError):
        return False
    return _sizes_hold(item, sizes)


def _sizes_hold(folder: Path, sizes: dict[str, int]) -> bool:
    paths = ((folder / name, size) for name, size in sizes.items())
    return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def apply(todo: Plan) -> None:
    """Make what the plan says; scenes that stand complete are left alone.

    Raises:
        CbmError: ``disk_full`` before anything is written, or ``cannot_write``.

    """
    if not todo.reason:
        return
    try:
        _need_space(todo)
        _write(todo)
    except OSError as error:
        raise CbmError(
            "cannot_write",
            f"The sample cannot be written to {todo.folder}: {error.strerror or error}.",
            "Free space or name a folder that you may write, then run the same command again: "
            "what is complete is kept.",
        ) from error


def _need_space(todo: Plan) -> None:
    parent = todo.folder.absolute()
    while not parent.exists():
        parent = parent.parent
    needed = int(len(todo.scenes) * todo.recipe.size**2 * _BYTES_PER_PIXEL) + 5_000_000
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise CbmError(
            "disk_full",
            f"{parent} has {free // 1_000_000} MB free; the sample needs {needed // 1_000_000} MB.",
            "Free space, name another folder, or ask for fewer dates or a smaller size.",
        )


def _write(todo: Plan) -> None:
    folder, recipe = todo.folder, todo.recipe
    bounds = scenes.bounds(recipe.size)
    fields = make_fields(recipe.rng(2), bounds, recipe.parcels)
    stand = crops.make_stand(recipe.rng(3), recipe.parcels)
    legal = scenes.to_legal(fields.geometries)
    ground = scenes.make_ground(recipe.rng(4), fields, legal, stand, recipe.size)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    _write_manifest(todo, complete=False)
    _write_scenes(todo, ground)
    _write_descriptions(todo, fields, legal, ground)
    _write_manifest(todo, complete=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted run left under temporary names."""
    for place in (folder, folder / "parcels", folder / "scenes"):
        for left in place.glob(f"{files.TEMPORARY}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def _write_manifest(todo: Plan, *, complete: bool) -> None:
    names = (_PARCELS, _CATALOG, "truth.json", "demo.yml", "README.txt") if complete else ()
    files.write_json(
        todo.folder / MANIFEST,
        {
            "about": "Written by `cbm sample`.",
            "recipe": asdict(todo.recipe),
            "complete": complete,
            "files": {name: (todo.folder / name).stat().st_size for name in names},
        },
    )


def _write_scenes(todo: Plan, ground: scenes.Ground) -> None:
    view, shown = None, None
    with step("sample scenes", len(todo.scenes), "scenes") as progress:
        for taken, product in todo.scenes:
            if view is None or taken is not shown:
                view = scenes.make_view(todo.recipe.rng(5, taken.number), ground, taken)
                shown = taken
            _write_scene(todo, taken, product, view)
            progress.advance()


def _write_scene(todo: Plan, taken: Acquisition, product: Product, view: scenes.View) -> None:
    """Write one scene's folder under a temporary name, then rename it."""
    target = todo.folder / "scenes" / taken.item(product)
    waiting = target.with_name(f"{files.TEMPORARY}{target.name}")
    waiting.mkdir(parents=True)
    sizes: dict[str, int] = {}
    for band in crops.BANDS:
        if band not in taken.missing:
            sizes[band] = _write_band(
                waiting, band, files.encode_cog(view.raw(band, product), band)
            )
    sizes["SCL"] = _write_band(waiting, "SCL", files.encode_cog(view.classes, "SCL"))
    item = stac.make_item(taken, product, view, sizes, todo.recipe.size)
    files.write_json(waiting / f"{target.name}.json", item)
    if target.exists():  # it is there but damaged: the plan said so
        shutil.rmtree(target)
    waiting.rename(target)


def _write_band(folder: Path, band: str, content: bytes) -> int:
    (folder / f"{band}.tif").write_bytes(content)
    return len(content)


def _write_descriptions(
    todo: Plan, fields: Fields, legal: list[shapely.Geometry], ground: scenes.Ground
) -> None:
    folder, recipe, season = todo.folder, todo.recipe, todo.recipe.season()
    declaration = truth.make_declaration(recipe.rng(6), ground.stand.crop)
    columns = truth.parcel_columns(declaration, legal)
    files.write_parcels(folder / _PARCELS, "parcels", legal, columns)
    names = [taken.item(product) for taken in season for product in taken.products]
    files.write_json(folder / _CATALOG, stac.make_catalog(names))
    items = {name: _read_item(folder / "scenes" / name) for name in names}
    known = truth.make_truth(season, items, fields, ground, declaration)
    files.write_json(folder / "truth.json", known)
    files.write_bytes(folder / "demo.yml", texts.DEMO.encode())
    readme = texts.README.format(
        parcels=recipe.parcels,
        scenes=len(names),
        size=recipe.size,
        twice=next(taken.day for taken in season if len(taken.products) > 1),
        edge=next(taken.day for taken in season if taken.edge),
        lacking=next(taken.day for taken in season if taken.missing),
    )
    files.write_bytes(folder / "README.txt", readme.encode())


def _read_item(folder: Path) -> dict[str, Any]:
    item: dict[str, Any] = json.loads((folder / f"{folder.name}.json").read_text(encoding="utf-8"))
    return item
