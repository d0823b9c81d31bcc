"""Run SQL with psql, the password in psql's environment: neither an argument nor a file has it.

Reads ``{"connection": {libpq keyword: value}, "password": ..., "sql": ...}`` from standard input.
"""

import json
import os
import subprocess
import sys

given = json.load(sys.stdin)
words = [f"{name}='{value}'" for name, value in given["connection"].items()]
done = subprocess.run(
    [
        "/usr/bin/psql",
        "--no-psqlrc",
        "--no-password",
        "--no-align",
        "--tuples-only",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--dbname=" + " ".join([*words, "connect_timeout=10"]),
    ],
    input=given["sql"],
    env={**os.environ, **({"PGPASSWORD": given["password"]} if given["password"] else {})},
    cwd="/",
    text=True,
    check=False,
)
sys.exit(done.returncode)
