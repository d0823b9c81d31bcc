#!/usr/bin/python
"""Ansible module: list the imports of a dataset."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_parcel_set_info
short_description: List the imports of a dataset
description:
  - Lists what was imported into a dataset and when, as C(cbm parcels list) does.
options:
  dataset:
    description: The dataset, C(aoi:year).
    type: str
    required: true
extends_documentation_fragment:
  - cbm
  - cbm.reading
"""

EXAMPLES = r"""
- name: List imports
  cbm_parcel_set_info:
    dataset: nl:2023
  register: imports
"""

RETURN = r"""
result:
  description: The C(dataset) and its C(parcel_sets), with source, layer, counts and time.
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

from ansible.module_utils.cbm_bridge import run_info

VERB = "parcels list"
OPTIONS = {
    "dataset": {"type": "str", "required": True},
}


def main() -> None:
    """Run the module."""
    run_info(VERB, OPTIONS)


if __name__ == "__main__":
    main()
