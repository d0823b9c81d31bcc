#!/usr/bin/python
"""Ansible module: extract signatures."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_signatures
short_description: Extract the signatures of a dataset's parcels
description:
  - Reduces the catalogued scenes to statistics per parcel, as C(cbm extract) does, and returns
    when all is done, unless told not to wait. What is done already is not done again; an
    interrupted run goes on where it stopped.
  - Scenes that fail make the module fail with C(extraction_incomplete) and their list in
    RV(details); all others are done.
options:
  dataset:
    description: The dataset, C(aoi:year).
    type: str
    required: true
  products:
    description: >-
      Products to extract, by name - presets, those of O(product_file), or those extracted before.
      Left out - all of the file, or else V(s2).
    type: list
    elements: str
  product_file:
    description: YAML on the host that defines products.
    type: path
  start:
    description: >-
      First day of scenes (UTC), C(YYYY-MM-DD); left out - the dataset's first day of imagery.
    type: str
  end:
    description: Last day, inclusive; left out - the dataset's last day of imagery.
    type: str
  engine:
    description: >-
      V(serial) - the host does it itself, one scene at a time. V(cluster) - the workers do that
      C(cbm dispatch) keeps busy; the host only writes it down in the ledger.
    type: str
    choices: [serial, cluster]
  wait:
    description: >-
      With O(engine=cluster) - return when all is done (the default), or as soon as it is in
      the ledger; M(cbm_signatures_info) then shows how far it is.
    type: bool
  lease_seconds:
    description: >-
      With O(engine=serial) - how long a worker that fell silent keeps its scene from others.
    type: float
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Extract what is not extracted yet
  cbm_signatures:
    dataset: nl:2023
    products: [s2, s2_clear]

- name: Extract May with products of our own
  cbm_signatures:
    dataset: nl:2023
    product_file: /etc/cbm/products.yml
    start: 2023-05-01
    end: 2023-05-31

- name: Leave it to the cluster's workers, and look later how far they are
  cbm_signatures:
    dataset: nl:2023
    engine: cluster
    wait: false
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["enqueue s2 of 31 scenes"]
result:
  description: >-
    Numbers of this run (C(enqueued), C(scenes), C(rows)), and of all items by state after it
    (C(done), C(failed), C(open), C(held)).
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
  sample: extraction_incomplete
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
    "product_file": {"type": "path"},
    "start": {"type": "str"},
    "end": {"type": "str"},
    "engine": {"type": "str", "choices": ["serial", "cluster"]},
    "wait": {"type": "bool"},
    "lease_seconds": {"type": "float"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
