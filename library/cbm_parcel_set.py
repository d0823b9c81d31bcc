#!/usr/bin/python
"""Ansible module: import a file of parcels."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_parcel_set
short_description: Import a file of parcels into a dataset's layer
description:
  - Imports parcels as C(cbm parcels import) does - all or nothing, in one transaction. The same
    file with the same options changes nothing; of a changed file only what differs is touched.
  - Reads what OGR reads, GeoParquet and archives of these; recognises files by their content.
    What is wrong with a file is reported in RV(result), or refused by name.
options:
  dataset:
    description: The dataset, C(aoi:year).
    type: str
    required: true
  source:
    description: File, archive or FileGDB folder on the host.
    type: path
    required: true
  layer:
    description: >-
      Our layer of the dataset, at first the one without a name. Importing replaces only this one.
    type: str
  id:
    description: >-
      Where the parcels' ids are - C(column:NAME), C(expression:{COLUMN1}-{COLUMN2}) or
      V(filename).
    type: str
    required: true
  member:
    description: Data set inside an archive that holds several.
    type: str
  source_layer:
    description: Layer of a file that has several with features.
    type: str
  crop_code:
    description: Column of the crop code.
    type: str
  crop_name:
    description: Column of the crop name.
    type: str
  keep_columns:
    description: Further columns to keep; all others are dropped, and the report names them.
    type: list
    elements: str
  crs:
    description: CRS of a file that does not say it, such as V(EPSG:25832).
    type: str
  encoding:
    description: Text encoding of a shapefile that does not say it, such as V(cp1250).
    type: str
  geometry_column:
    description: Geometry column (WKB) of Parquet without GeoParquet metadata.
    type: str
  duplicates:
    description: What to do with an id that stands more than once; left out - V(refuse).
    type: str
    choices: [refuse, suffix, first]
  overlap_threshold_m2:
    description: >-
      Overlaps above this area in square metres are reported; left out - 100, a pixel of 10 m.
    type: float
  bounds:
    description: >-
      C(west,south,east,north) in degrees. Parcels outside are reported, and refused if all are.
      Left out - the dataset's.
    type: str
  allow_ballpark:
    description: >-
      Accept a transformation that ignores the difference of the datums. Left out - refuse it.
    type: bool
  unpack_limit_gb:
    description: Refuse archives that unpack to more.
    type: float
  valid_from:
    description: >-
      From when the parcels are as in the file, C(YYYY-MM-DD); left out - the dataset's first day
      of imagery.
    type: str
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Import the declarations of the Netherlands
  cbm_parcel_set:
    dataset: nl:2023
    source: /srv/data/brpgewaspercelen.gpkg
    id: column:fid
    crop_code: gewascode
    crop_name: gewas

- name: Import grassland beside them, from an archive with several files
  cbm_parcel_set:
    dataset: nl:2023
    layer: grass
    source: /srv/data/lpis.7z
    member: lpis/grass.shp
    id: expression:{BLOCK}-{NUMBER}
    crs: EPSG:28992
    encoding: cp1252
    duplicates: suffix
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["add 2000 parcels"]
result:
  description: >-
    C(parcels) now in the layer, how many were C(added), C(changed) and C(removed), the number of
    the C(parcel_set), and the C(report) on the file.
  returned: success
  type: dict
version:
  description: Version of the release that answered; null when there is none yet (check mode only).
  returned: success
  type: str
  sample: 0.1.0
reason:
  description: Code of what an earlier step of the same run would still have to make.
  returned: in check mode, when something is missing
  type: str
  sample: not_installed
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: duplicate_ids
hint:
  description: What to do about the failure.
  returned: failure
  type: str
details:
  description: Further facts about the failure.
  returned: failure
  type: dict
"""

from ansible.module_utils.cbm_bridge import run_changing

VERBS = {"present": "parcels import"}
OPTIONS = {
    "dataset": {"type": "str", "required": True},
    "source": {"type": "path", "required": True},
    "layer": {"type": "str"},
    "id": {"type": "str", "required": True},
    "member": {"type": "str"},
    "source_layer": {"type": "str"},
    "crop_code": {"type": "str"},
    "crop_name": {"type": "str"},
    "keep_columns": {"type": "list", "elements": "str"},
    "crs": {"type": "str"},
    "encoding": {"type": "str"},
    "geometry_column": {"type": "str"},
    "duplicates": {"type": "str", "choices": ["refuse", "suffix", "first"]},
    "overlap_threshold_m2": {"type": "float"},
    "bounds": {"type": "str"},
    "allow_ballpark": {"type": "bool"},
    "unpack_limit_gb": {"type": "float"},
    "valid_from": {"type": "str"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
