"""The sample's README and the description that the demo reads."""

from __future__ import annotations

DEMO = """\
# What this folder holds, for `make demo DATA=<this folder>`. A folder of your own data needs the
# same file; paths are relative to it.
dataset:
  aoi: sample
  year: 2021
  imagery_start: 2021-03-01
  imagery_end: 2021-10-31
parcels:
  - source: parcels/parcels_2021.gpkg
    source_layer: parcels
    id: column:parcel_id
    crop_code: crop_code
    crop_name: crop_name
    # Columns to keep beside id and crop. Not named here: farmer_name, which stays out.
    keep_columns: [declared_ha]
scenes:
  - source: scenes/catalog.json
    format: stac
products: [s2, s2_clear]
"""

README = """\
A generated sample for the CbM backend
======================================

Nothing here was measured: fields, farmers, crops and scenes are invented. The tile 32UAA does not
exist, so that no scene can be mistaken for a Sentinel-2 product. The same arguments of
`cbm sample` make the same sample.

parcels/parcels_2021.gpkg
    {parcels} declared parcels in EPSG:25832: parcel_id, crop_code, crop_name, declared_ha, and
    farmer_name, a personal column that an import must drop. Among them are parcels with holes or
    two parts, parcels that overlap a neighbour, the same geometry under two ids, parcels smaller
    than a pixel, two across the edge of the imagery and one outside it.
scenes/catalog.json
    A static STAC catalogue of {scenes} scenes: EPSG:32632, {size} x {size} pixels of 10 m.
scenes/<item>/
    B02 B03 B04 B08 at 10 m; B05 B06 B07 B8A B11 B12 and SCL at 20 m: cloud-optimised GeoTIFF,
    uint16 (SCL: uint8), 0 is no data.
truth.json
    What is true: crop (one in fifty is declared wrongly), mowing and harvest dates, clouds per
    scene, noise-free series of some parcels.
demo.yml
    The description that `make demo DATA=<this folder>` reads.
sample.json
    Arguments and file sizes; its "complete" says that nothing is missing.

The scenes
----------
Reflectance is raw / 10000 for products N0300 and (raw - 1000) / 10000 for products N0500, which is
what raster:bands says. The acquisition of {twice} is there in both; the older product is
superseded. On {edge} the swath ends within the scene. The scene of {lacking} has no B11.

A pixel whose class is 4, 5 or 6 shows the ground alone: the reflectance of the parcel's true
series, times a texture of mean 1 over the parcel, plus noise. Classes 8 and 9 are clouds, 10
cirrus, 3 cloud shadow. In 10 m bands a pixel belongs to the parcel under its centre; a pixel of a
20 m band is the mean of its four 10 m pixels and so is mixed along a parcel's border.

In truth.json "clean" parcels share no pixel with another parcel; "series" holds reflectance (0-1)
and NDVI = (B08 - B04) / (B08 + B04) of the mean reflectance.
"""
