#!/usr/bin/python
"""Ansible module: apply pending schema migrations."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_schema
short_description: Apply the pending migrations of the database schema
description:
  - Brings the schema C(cbm) to the state the installed release needs, as C(cbm schema migrate)
    does. All pending migrations are
    applied in one transaction.
  - A migration that was changed after it was applied, one that the release lacks, and a schema
    too new for the release are
    refused by name.
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Apply pending migrations
  cbm_schema:

- name: Apply them with another settings file
  cbm_schema:
    config: /etc/cbm/test.toml
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["apply 0001_access_and_datasets (expand)"]
result:
  description: Names of the applied and the pending migrations before this run, and those of a
    newer release.
  returned: success
  type: dict
  sample: {"applied": [], "pending": ["0001_access_and_datasets"], "newer": []}
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
  sample: migration_changed
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

VERBS = {"present": "schema migrate"}
OPTIONS: dict[str, dict[str, object]] = {}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
