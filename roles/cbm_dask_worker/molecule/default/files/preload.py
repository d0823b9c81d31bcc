"""Stands where a release has what the workers load."""

import os
from pathlib import Path

NOTES = Path("/var/lib/cbm/dask/notes")


def dask_setup(_worker):
    with NOTES.open("a") as notes:
        notes.write(f"loaded {os.environ['CBM_CONFIG']}\n")


async def dask_teardown(_worker):
    with NOTES.open("a") as notes:
        notes.write("gave back\n")
