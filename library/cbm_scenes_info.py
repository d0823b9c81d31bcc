#!/usr/bin/python
"""Ansible module: list catalogued scenes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_scenes_info
short_description: List catalogued scenes
description:
  - Lists scenes as C(cbm scenes list) does.
options:
  card:
    description: Only this card, such as V(s2).
    type: str
  date_from:
    description: Only from this day (UTC) on, C(YYYY-MM-DD).
    type: str
  date_to:
    description: Only up to this day (UTC), inclusive.
    type: str
  tile:
    description: Only this tile, such as V(32TMT).
    type: str
  state:
    description: Only scenes in this state.
    type: str
    choices: [active, superseded, held, retracted]
  limit:
    description: At most so many scenes; left out - 1000.
    type: int
extends_documentation_fragment:
  - cbm
  - cbm.reading
"""

EXAMPLES = r"""
- name: List what is held back
  cbm_scenes_info:
    state: held
  register: held
"""

RETURN = r"""
result:
  description: The number of scenes in C(total), and the C(scenes).
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
  sample: schema_missing
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

VERB = "scenes list"
OPTIONS = {
    "card": {"type": "str"},
    "date_from": {"type": "str"},
    "date_to": {"type": "str"},
    "tile": {"type": "str"},
    "state": {"type": "str", "choices": ["active", "superseded", "held", "retracted"]},
    "limit": {"type": "int"},
}


def main() -> None:
    """Run the module."""
    run_info(VERB, OPTIONS)


if __name__ == "__main__":
    main()
