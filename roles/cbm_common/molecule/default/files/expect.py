"""Runs commands; prints those that do not end, and say, what is wanted.

``expect.py '[{"ask": ["id", "-Gn", "cbm"], "answers": true, "says": "^cbm imagery$"}, ...]'``
"""

import json
import re
import subprocess
import sys

found = []
for one in json.loads(sys.argv[1]):
    done = subprocess.run(one["ask"], capture_output=True, text=True)
    said = done.stdout + done.stderr
    if (done.returncode == 0) != one["answers"] or not re.search(one["says"], said, re.MULTILINE):
        found.append(f"{' '.join(one['ask'])}: {done.returncode} {said}")
print("\n".join(found))
sys.exit(bool(found))
