"""Remembers what Python compiles out of zip files: half of the time that an Ansible module takes.

Ansible hands each task's module over as source code in a zip file, which Python compiles anew each
time. Part of the image of test hosts only; who may not write into the folder goes without.
"""

import _imp
import marshal
import os
import zipimport
from types import CodeType

FOLDER = "/var/cache/zipcache"
_known = vars(zipimport)
_compile = _known["_compile_source"]


# Every Python that starts reads this, so it takes no pathlib along.
def _remembered(path: str, source: bytes) -> CodeType:
    kept = f"{FOLDER}/{_imp.source_hash(1, source).hex()}"
    code: CodeType
    try:
        with open(kept, "rb") as file:  # noqa: PTH123 -- see above
            code = marshal.loads(file.read())
            return code
    except (OSError, ValueError, EOFError):
        code = _compile(path, source)
    try:
        with open(f"{kept}.{os.getpid()}", "wb") as file:  # noqa: PTH123 -- see above
            file.write(marshal.dumps(code))
        os.replace(f"{kept}.{os.getpid()}", kept)  # noqa: PTH105 -- see above
    except OSError:
        pass
    return code


_known["_compile_source"] = _remembered
