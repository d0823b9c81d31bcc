#!/usr/bin/python
"""Ansible module: catalogue scenes."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: cbm_scenes
short_description: Catalogue the scenes of a folder, SAFE products or a STAC catalogue
description:
  - Registers scenes as C(cbm scenes add) does. Scenes that are registered already stay; of
    several products of one acquisition the newest is active, the others are kept as superseded.
options:
  source:
    description: >-
      A folder of rasters, a SAFE folder or a folder with some, or a STAC file, folder or URL.
    type: str
    required: true
  format:
    description: What the source is; left out - V(auto), which looks what is there.
    type: str
    choices: [auto, folder, safe, stac, card-bs, card-coh6, card-coh12]
  description:
    description: >-
      YAML that explains the file names of a folder of rasters; left out - C(scenes.yml) in the
      folder.
    type: str
  card:
    description: The card expected, such as V(s2). Scenes of any other are refused.
    type: str
  rewrite:
    description: >-
      C(FROM=TO), a prefix of STAC addresses and what to put in its place, for a local mirror.
    type: list
    elements: str
extends_documentation_fragment:
  - cbm
  - cbm.changing
"""

EXAMPLES = r"""
- name: Catalogue SAFE products
  cbm_scenes:
    source: /eodata/Sentinel-2/MSI/L2A/2023/05
    card: s2

- name: Catalogue a static STAC catalogue through a mirror
  cbm_scenes:
    source: https://stac.example.org/season/catalog.json
    format: stac
    rewrite: ["s3://bucket/=/mirror/bucket/"]
"""

RETURN = r"""
plan:
  description: What was, or in check mode would be, done; empty when nothing changed.
  returned: success
  type: list
  elements: str
  sample: ["add S2A_MSIL2A_20230504T103621_N0509_R008_T32TMT_20230504T163258"]
result:
  description: >-
    How many C(scenes) were found, C(added), C(changed), C(unchanged), C(superseded) and
    C(restored); C(warnings) and what was C(skipped), and why.
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
  sample: source_unknown
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

VERBS = {"present": "scenes add"}
OPTIONS = {
    "source": {"type": "str", "required": True},
    "format": {
        "type": "str",
        "choices": ["auto", "folder", "safe", "stac", "card-bs", "card-coh6", "card-coh12"],
    },
    "description": {"type": "str"},
    "card": {"type": "str"},
    "rewrite": {"type": "list", "elements": "str"},
}


def main() -> None:
    """Run the module."""
    run_changing(VERBS, OPTIONS)


if __name__ == "__main__":
    main()
