#!/usr/bin/python
"""Ansible module: make a sample area."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_sample
short_description: Make a small area with parcels, scenes and known truth
description:
  - Makes a folder to try the system on, as C(cbm sample) does - generated parcels, a season of
    Sentinel-2-like scenes, and a C(demo.yml) that describes them for the playbook demo. The same
    options make the same sample.
options:
  out_dir:
    description: New or empty folder on the host, or one that holds this sample already.
    type: path
    required: true
  parcels:
    description: Number of parcels; left out - 2000.
    type: int
  dates:
    description: Number of acquisitions, March to October; left out - 30.
    type: int
  size:
    description: Pixels of 10 m per side; left out - 1024.
    type: int
  seed:
    description: Another seed makes another sample; left out - 1.
    type: int
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Make a sample
  cbm_sample:
    out_dir: /srv/sample
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["write /srv/sample"]
result:
  description: The C(folder), and the path of C(demo.yml) in it as C(demo).
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
  sample: folder_not_empty
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

VERBS = {"present": "sample"}
OPTIONS = {
    "out_dir": {"type": "path", "required": True},
    "parcels": {"type": "int"},
    "dates": {"type": "int"},
    "size": {"type": "int"},
    "seed": {"type": "int"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
