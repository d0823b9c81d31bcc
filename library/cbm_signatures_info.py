#!/usr/bin/python
"""Ansible module: show the state of the ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_signatures_info
short_description: Show how far extraction is, and what failed
description:
  - Counts work items by state and names the failed ones, as C(cbm ledger status) does.
options:
  dataset:
    description: Only this dataset, C(aoi:year).
    type: str
extends_documentation_fragment:
  - cbm
  - cbm.reading
"""

EXAMPLES = r"""
- name: Look at the ledger
  cbm_signatures_info:
    dataset: nl:2023
  register: ledger
"""

RETURN = r"""
result:
  description: C(items), counts by dataset, product and state; C(failed), what failed and why.
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

VERB = "ledger status"
OPTIONS = {
    "dataset": {"type": "str"},
}


def main() -> None:
    """Run the module."""
    run_info(VERB, OPTIONS)


if __name__ == "__main__":
    main()
