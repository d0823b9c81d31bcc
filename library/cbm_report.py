#!/usr/bin/python
"""Ansible module: write a report."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_report
short_description: Write a report with a chart of NDVI series
description:
  - Writes C(report.html) and C(ndvi.png) about a dataset, as C(cbm report) does; only where they
    differ from what is there.
options:
  dataset:
    description: The dataset, C(aoi:year).
    type: str
    required: true
  out_dir:
    description: Folder on the host for the two files; made if need be.
    type: path
    required: true
  product:
    description: The product; left out - C(s2).
    type: str
  layer:
    description: Chart and list only parcels of this layer.
    type: str
  parcels:
    description: >-
      Chart these parcels; left out - two typical parcels of the six most frequent crops.
    type: list
    elements: str
  cloud_limit:
    description: >-
      Share of a parcel under cloud, shadow, cirrus or snow above which a date is drawn hollow;
      left out - 0.2.
    type: float
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Write the report
  cbm_report:
    dataset: nl:2023
    out_dir: /srv/reports/nl_2023
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["write /srv/reports/nl_2023/report.html"]
result:
  description: Paths of C(report) and C(chart), and the charted C(parcels).
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
  sample: dataset_unknown
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

VERBS = {"present": "report"}
OPTIONS = {
    "dataset": {"type": "str", "required": True},
    "out_dir": {"type": "path", "required": True},
    "product": {"type": "str"},
    "layer": {"type": "str"},
    "parcels": {"type": "list", "elements": "str"},
    "cloud_limit": {"type": "float"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
