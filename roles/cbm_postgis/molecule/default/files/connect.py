"""Tries to connect with psql and says what was not as expected; reads the attempts as JSON.

Each has `where` (a connection string) and perhaps `password` and `sql`; it is expected to give
`answer`, or to be refused with what `refused` matches.
"""

import json
import os
import re
import subprocess
import sys

for attempt in json.load(sys.stdin):
    done = subprocess.run(
        [
            *("psql", "--no-password", "--tuples-only", "--no-align"),
            f"--command={attempt.get('sql', 'SELECT 1')}",
            f"{attempt['where']} connect_timeout=10",
        ],
        env={**os.environ, "PGPASSWORD": attempt.get("password", "")},
        capture_output=True,
        text=True,
    )
    answer, error = done.stdout.strip(), done.stderr.strip()
    if refused := attempt.get("refused"):
        fits = done.returncode == 2 and not answer and re.search(refused, error)
    else:
        fits = done.returncode == 0 and not error and answer == attempt.get("answer", "1")
    if not fits:
        print(f"{attempt['where']}: expected {refused or 'to get in'}, found {answer} {error}")
