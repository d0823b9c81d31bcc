"""JPEG 2000 files for tests, and what is changed in them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from cbm_extract.plan.lattice import Lattice, Placement
from cbm_extract.plan.runs import Runs
from cbm_extract.read.jp2 import Jp2Reader, open_jp2
from tests.unit.read.rasters import ORIGIN, texture

SOT = b"\xff\x90\x00\x0a"


def write_jp2(path: Path, values: np.ndarray, tile: int | tuple[int, int], **options: Any) -> Path:
    """Write with GDAL, reversible unless told otherwise; ``tile`` rows and columns."""
    rows, cols = (tile, tile) if isinstance(tile, int) else tile
    defaults = {"QUALITY": 100, "REVERSIBLE": "YES", "blockxsize": cols, "blockysize": rows}
    profile = {
        "height": values.shape[0],
        "width": values.shape[1],
        "dtype": values.dtype,
        "crs": "EPSG:32632",
        "transform": rasterio.Affine(10, 0, ORIGIN[0], 0, -10, ORIGIN[1]),
    }
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", count=1, **profile, **(defaults | options)
    ) as dataset:
        dataset.write(values, 1)
    return path


def like_esa(path: Path, seed: int = 0) -> tuple[Path, np.ndarray]:
    """A small band coded as those of Sentinel-2; rough and smooth in parts, the last tile empty."""
    values = texture(300, 420, seed=seed)
    values[100:200] //= 256
    values[256:, 384:] = 0
    options = {
        "RESOLUTIONS": 6,
        "PRECINCTS": ",".join(["{64,64}"] * 6),
        "CODEBLOCK_WIDTH": 16,
        "CODEBLOCK_HEIGHT": 16,
        "NBITS": 15,
        "PLT": "YES",
        "TLM": "YES",
    }
    return write_jp2(path, values, 128, **options), values


def by_gdal(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def reader_of(path: Path) -> Jp2Reader:
    reader = open_jp2(path)
    assert reader is not None
    return reader


def decode(path: Path, runs: list[Runs] | None = None) -> np.ndarray:
    """Decode the tiles that hold a wanted pixel, the others stay 0."""
    reader = reader_of(path)
    out = np.zeros(reader.shape, reader.dtype)
    for row, col in np.argwhere(reader.want(runs)):
        reader.decode(row, col, block(reader, out, row, col))
    reader.close()
    return out


def block(reader: Jp2Reader, out: np.ndarray, row: int, col: int) -> np.ndarray:
    height, width = reader.block_shape
    return out[row * height : (row + 1) * height, col * width : (col + 1) * width]


def runs_at(shape: tuple[int, int], spans: list[tuple[int, int, int]]) -> Runs:
    """Runs (row, column, length) of one geometry."""
    spans = sorted(spans)
    row, col, length = np.array(spans, dtype=np.int32).reshape(-1, 3).T
    placement = Placement(Lattice("EPSG:32632", 10.0, 10.0, 0.0, 0.0), 0, 0, *shape)
    one = np.ones(1, dtype=np.int32)
    indptr = np.array([0, len(spans)], dtype=np.int64)
    return Runs(placement, one, one.astype(bool), indptr, row, col, length.astype(np.uint16))


def mask_of(runs: list[Runs]) -> np.ndarray:
    placement = runs[0].placement
    mask = np.zeros((placement.height, placement.width), dtype=bool)
    for one in runs:
        for row, col, length in zip(one.row, one.col, one.length, strict=True):
            mask[row, col : col + length] = True
    return mask


def codestream_of(path: Path) -> bytes:
    """The codestream without its boxes."""
    data = path.read_bytes()
    return data[data.index(b"\xff\x4f\xff\x51") :]


def tile_parts(codestream: bytes) -> list[bytes]:
    """Main header, every tile-part, and the end marker."""
    at = codestream.index(SOT)
    parts = [codestream[:at]]
    while codestream[at : at + 2] == SOT[:2]:
        (length,) = struct.unpack_from(">I", codestream, at + 6)
        parts.append(codestream[at : at + length])
        at += length
    return [*parts, codestream[at:]]


def tile_part(tile: int, number: int, count: int, packets: bytes) -> bytes:
    return SOT + struct.pack(">HIBBH", tile, len(packets) + 14, number, count, 0xFF93) + packets
