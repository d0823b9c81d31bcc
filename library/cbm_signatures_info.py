#!/usr/bin/python
"""Ansible module: show the state of the ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_signatures_info
short_description: Show how far extraction is, and what failed
description:
  - Counts work items by state, names the failed ones, and says how fast the work goes, as
    C(cbm ledger status) does.
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
  description: >-
    C(items), counts by dataset, product and state (C(pending), C(running), C(done), C(failed),
    C(held), ...); C(failed), what failed and why; C(rate_per_hour), items done per hour of
    late, null where there were none for a quarter of an hour; C(seconds_left), an estimate from it
    until nothing is open, null likewise; C(workers), the processes at work as C(host:pid).
  returned: success
  type: dict
  sample:
    items: [{dataset: "nl:2023", product: s2, pending: 120, running: 8, done: 872, failed: 0}]
    failed: []
    rate_per_hour: 960.0
    seconds_left: 480
    workers: ["worker-1:4711", "worker-1:4712"]
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
