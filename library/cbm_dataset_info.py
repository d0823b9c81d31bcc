#!/usr/bin/python
"""Ansible module: list datasets."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_dataset_info
short_description: List the datasets
description:
  - Lists datasets with their imagery period, bounds, background, readers and parcels per layer, as
    C(cbm dataset list) does.
extends_documentation_fragment:
  - cbm
  - cbm.reading
"""

EXAMPLES = r"""
- name: List datasets
  cbm_dataset_info:
  register: datasets
"""

RETURN = r"""
result:
  description: The C(datasets).
  returned: success
  type: dict
  sample:
    datasets:
      - {aoi: ie, year: 2024, dataset: "ie:2024", imagery_start: "2024-01-01", imagery_end:
        "2024-12-31", bounds: null, background: {source: "s3://orthos/2023.tif"},
         readers: [], parcels: {"": 120000}}
version:
  description: Version of the release that answered; null when there is none yet (check mode only).
  returned: success
  type: str
  sample: 0.1.0
reason:
  description: Code of what is missing.
  returned: in check mode, when something is missing
  type: str
code:
  description: Stable code of the failure.
  returned: failure
  type: str
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

VERB = "dataset list"
OPTIONS: dict[str, dict[str, object]] = {}


def main() -> None:
    """Run the module."""
    run_info(VERB, OPTIONS)


if __name__ == "__main__":
    main()
