"""Asks for web pages, all at once; prints those that were reached, or not, against what is said.

``ask.py '[{"who": ["runuser", "-u", "cbm", "--"], "what": "http://...", "reached": true}, ...]'``
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

CURL = ["/usr/bin/curl", "--silent", "--globoff", "--max-time", "5", "--output", "/dev/null"]


def wrong(question):
    """A line if it was answered otherwise than wanted, else nothing."""
    words = [*question["who"], *CURL, question["what"]]
    done = subprocess.run(words, capture_output=True, text=True)
    if (done.returncode == 0) == question["reached"]:
        return ""
    return f"{' '.join(words)}: {done.returncode} {done.stderr}"


with ThreadPoolExecutor(8) as pool:
    found = [line for line in pool.map(wrong, json.loads(sys.argv[1])) if line]
print("\n".join(found))
sys.exit(bool(found))
