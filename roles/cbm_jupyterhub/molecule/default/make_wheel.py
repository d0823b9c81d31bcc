"""Writes a wheel like the release's, with next to nothing in it: ``make_wheel.py FOLDER``.

Its extra `notebook` has what users' servers are made of; what they calculate with takes minutes
to install.
"""

import sys
import zipfile
from pathlib import Path

NAME = "cbm_backend-0.0.1"
METADATA = """\
Metadata-Version: 2.1
Name: cbm-backend
Version: 0.0.1
Provides-Extra: notebook
Requires-Dist: ipykernel; extra == "notebook"
Requires-Dist: jupyterlab; extra == "notebook"
Requires-Dist: jupyterhub; extra == "notebook"
"""
FILES = {
    "cbm_client/__init__.py": "",
    f"{NAME}.dist-info/METADATA": METADATA,
    f"{NAME}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}

record = f"{NAME}.dist-info/RECORD"
with zipfile.ZipFile(Path(sys.argv[1]) / f"{NAME}-py3-none-any.whl", "w") as wheel:
    for name, text in FILES.items():
        wheel.writestr(name, text)
    wheel.writestr(record, "".join(f"{name},,\n" for name in [*FILES, record]))
