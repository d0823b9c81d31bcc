#!/usr/bin/python
"""Ansible module: add, change or purge a dataset."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_dataset
short_description: Add, change or purge a dataset
description:
  - A dataset is an area and a year of declaration. Parcels, signatures and the right to read them
    belong to one.
  - With O(state=present) does what C(cbm dataset add) does, with O(state=absent) what C(cbm
    dataset purge) does.
options:
  state:
    description: Whether the dataset is there. V(absent) removes its parcels, plans and signatures
      for good.
    type: str
    choices: [present, absent]
    default: present
  aoi:
    description: Short name of the area, such as V(ie).
    type: str
    required: true
  year:
    description: Year of declaration.
    type: int
    required: true
  imagery_start:
    description: First day of imagery, C(YYYY-MM-DD); at first 1 January of O(year). Left out -
      unchanged.
    type: str
  imagery_end:
    description: Last day of imagery, inclusive; at first 31 December of O(year). Left out -
      unchanged.
    type: str
  bounds:
    description:
      - The area's bounds in degrees (EPSG:4326), C(west,south,east,north). An import reports
        parcels outside.
      - West may be greater than east where the area crosses the antimeridian.
    type: str
  readers:
    description: The database roles that may read the dataset; all of them, others lose it. Left
      out - unchanged.
    type: list
    elements: str
  background:
    description:
      - What is shown behind the parcels, as C(cbm dataset background) sets it. A GeoTIFF in red,
        green and blue (a path on the API's hosts, C(s3://) or C(https://)); or the address of map
        tiles in Web Mercator with C({z}), C({x}) and C({y}) in it; or with O(background_layers)
        that of a Web Map Service.
      - All readers of the dataset may read it; it is no place for a secret.
      - Left out - unchanged; empty - none.
    type: str
  background_layers:
    description: Layers, where O(background) is a Web Map Service.
    type: str
  background_zoom:
    description: Deepest zoom, where O(background) is the address of map tiles; V(19) where it is
      left out.
    type: int
  confirm:
    description: With O(state=absent), the dataset's name C(aoi:year) again. Without it nothing is
      removed.
    type: str
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Add the declarations of Ireland of 2024
  cbm_dataset:
    aoi: ie
    year: 2024
    imagery_start: 2023-10-01
    imagery_end: 2024-10-31
    readers: [analysts_ie]

- name: Show an orthophoto behind its parcels
  cbm_dataset:
    aoi: ie
    year: 2024
    background: s3://orthos/2023.tif

- name: Show map tiles behind them instead
  cbm_dataset:
    aoi: ie
    year: 2024
    background: https://maps.example/ortho/{z}/{x}/{y}.png
    background_zoom: 20

- name: Remove a dataset for good
  cbm_dataset:
    aoi: ie
    year: 2019
    state: absent
    confirm: ie:2019
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["add dataset ie:2024 (imagery 2023-10-01 to 2024-10-31)",
    "show s3://orthos/2023.tif behind the parcels of ie:2024"]
result:
  description: The name C(dataset), and for O(state=absent) the numbers of what was C(removed).
  returned: success
  type: dict
  sample: {"dataset": "ie:2024"}
version:
  description: Version of the release that answered; null when there is none yet (check mode only).
  returned: success
  type: str
  sample: 0.1.0
reason:
  description: Code of what an earlier step of the same run would still have to make.
  returned: in check mode, when something is missing
  type: str
  sample: schema_missing
code:
  description: Stable code of the failure.
  returned: failure
  type: str
  sample: role_unknown
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

VERBS = {"present": "dataset add", "absent": "dataset purge"}
OPTIONS = {
    "aoi": {"type": "str", "required": True},
    "year": {"type": "int", "required": True},
    "imagery_start": {"type": "str", "for_states": ["present"]},
    "imagery_end": {"type": "str", "for_states": ["present"]},
    "bounds": {"type": "str", "for_states": ["present"]},
    "readers": {"type": "list", "elements": "str", "for_states": ["present"]},
    "background": {"type": "str", "for_states": ["present"]},
    "background_layers": {"type": "str", "for_states": ["present"]},
    "background_zoom": {"type": "int", "for_states": ["present"]},
    "confirm": {"type": "str", "for_states": ["absent"]},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
