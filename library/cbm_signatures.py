#!/usr/bin/python
"""Ansible module: extract signatures."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_signatures
short_description: Extract the signatures of a dataset's parcels
description:
  - Reduces the catalogued scenes to statistics per parcel, as C(cbm extract) does. What is done
    already is not done again; an interrupted run goes on where it stopped.
options:
  dataset:
    description: The dataset, C(aoi:year).
    type: str
    required: true
  products:
    description: Products to extract, by name; left out - V(s2).
    type: list
    elements: str
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Extract what is not extracted yet
  cbm_signatures:
    dataset: nl:2023
    products: [s2, s2_clear]
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["extract s2 of 31 scenes"]
result:
  description: What was done.
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

VERBS = {"present": "extract"}
OPTIONS = {
    "dataset": {"type": "str", "required": True},
    "products": {"type": "list", "elements": "str"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
