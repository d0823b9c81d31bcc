#!/opt/cbm/current/venv/bin/python
"""The command of a release, with the code beside it."""

import sys

sys.path.insert(0, "/opt/code")

from cbm_extract.cli import main

sys.exit(main())
