#!/usr/bin/python
"""Ansible module: declare a user of the API."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_api_user
short_description: Declare a user of the API
description:
  - A user has a password, and may read the parcels and signatures of the datasets granted.
  - With O(state=present) does what C(cbm user add) does, with O(state=disabled) what C(cbm user
    disable) does. The name of a disabled user stays taken, so that the log of reads stays clear.
options:
  state:
    description: V(present) adds the user or lets a disabled one in again. V(disabled) shuts the
      user out.
    type: str
    choices: [present, disabled]
    default: present
  name:
    description: Name of the user, at most 64 letters, digits and C(._@-).
    type: str
    required: true
  password_file:
    description:
      - A file on the host whose first line is the password, of 12 characters or more. Only the
        user who runs the module may read it (mode 0600).
      - Left out - unchanged; a new user has no password at first.
    type: path
  datasets:
    description: The datasets (C(aoi:year)) that the user may read; all of them, others are taken
      away. Left out - unchanged.
    type: list
    elements: str
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Let an inspector read the declarations of Ireland of 2024
  cbm_api_user:
    name: anna
    password_file: /etc/cbm/users/anna
    datasets: ["ie:2024"]

- name: Shut out who has left
  cbm_api_user:
    name: paul
    state: disabled
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["add user anna", "set the password of anna", "let anna read ie:2024"]
result:
  description: The name of the C(user).
  returned: success
  type: dict
  sample: {"user": "anna"}
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
  sample: password_unfit
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

VERBS = {"present": "user add", "disabled": "user disable"}
OPTIONS = {
    "name": {"type": "str", "required": True},
    # The name of a file is no secret; its content never passes through here.
    "password_file": {"type": "path", "no_log": False, "for_states": ["present"]},
    "datasets": {"type": "list", "elements": "str", "for_states": ["present"]},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
