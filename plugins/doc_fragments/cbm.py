"""What the documentation of every module in library/ shares."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that say how the installed release is reached, and what all modules promise."""

    DOCUMENTATION = r"""
options:
  cbm_command:
    description: The command of the installed release.
    type: path
    default: /opt/cbm/current/venv/bin/cbm
  config:
    description: The settings file, which says how to reach the database.
    type: path
    default: /etc/cbm/cbm.toml
requirements:
  - a release of cbm-backend on the host
author:
  - The CbM backend developers (!UNKNOWN)
"""

    CHANGING = r"""
attributes:
  check_mode:
    support: full
    description: >-
      Plans as a real run does and changes nothing. What an earlier step of the same run would
        still have to make (the release, the
      schema, the dataset) is taken as made - RV(ignore:changed) is true, RV(ignore:reason) says
        what is missing, and a warning repeats it.
  diff_mode:
    support: full
    description: Shows the state before and after.
  idempotent:
    support: full
    description: A second run changes nothing.
"""

    READING = r"""
attributes:
  check_mode:
    support: full
    description: Reads as ever. What is not made yet is not an error, but empty.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: N/A
    description: Changes nothing.
"""
