"""Write when certificates expire, as figures: `cbm-certificate-days OUTPUT PATTERN...`.

Of a file with several certificates the one counts that expires first. Uses Python's own library and
openssl only, as a host may have nothing else.
"""

import glob
import os
import re
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
FIGURES = {
    "cbm_certificate_expires_timestamp_seconds": "When a certificate expires.",
    "cbm_certificate_unreadable": "1 for a file that could not be read as a certificate.",
}


def expiry(path: str) -> float | None:
    """When the first certificate in a file expires (Unix seconds); None without any."""
    blocks = BLOCK.findall(Path(path).read_text(encoding="utf-8", errors="replace"))
    command = ["openssl", "x509", "-noout", "-enddate"]
    ends = [
        subprocess.run(command, input=block, capture_output=True, text=True, check=True).stdout
        for block in blocks
    ]
    return min(
        (ssl.cert_time_to_seconds(end.strip().partition("=")[2]) for end in ends), default=None
    )


def figures(patterns: list[str]) -> dict[str, list[tuple[str, float]]]:
    """Name of a figure -> (path, value)."""
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in FIGURES}
    # Patterns are absolute, which Path.glob refuses.
    for path in sorted({path for one in patterns for path in glob.glob(one)}):  # noqa: PTH207
        try:
            end = expiry(path)
        except (OSError, ValueError, subprocess.CalledProcessError):
            end = None
        if end is None:
            found["cbm_certificate_unreadable"].append((path, 1))
        else:
            found["cbm_certificate_expires_timestamp_seconds"].append((path, end))
    return found


def exposition(found: dict[str, list[tuple[str, float]]]) -> str:
    """Return them in Prometheus' text format."""
    lines = []
    for name, rows in found.items():
        lines += [f"# HELP {name} {FIGURES[name]}", f"# TYPE {name} gauge"]
        for path, value in rows:
            label = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'{name}{{path="{label}"}} {value:.0f}')
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the file at once and whole."""
    output, *patterns = sys.argv[1:]
    handle, temporary = tempfile.mkstemp(dir=Path(output).parent, suffix=".tmp")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(exposition(figures(patterns)))
        os.fchmod(file.fileno(), 0o644)
    Path(temporary).replace(output)


if __name__ == "__main__":
    main()
