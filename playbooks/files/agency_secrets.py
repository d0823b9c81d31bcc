"""Make an agency's secrets, encrypted by ansible-vault: ``agency_secrets.py new|rotate VAULT``.

``new`` writes the file, which must not be there; ``rotate`` puts new values into it and keeps what
it does not know, and the backups' passphrase: what lies in a repository needs that one for ever.
ANSIBLE_VAULT_PASSWORD_FILE names the file with the password. Secrets pass through pipes only.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import yaml

PASSWORDS = ("cbm_admin", "cbm_extractor", "cbm_web", "cbm_monitor", "prometheus")
# JupyterHub wants these in hexadecimal digits.
KEYS = ("hub_cookie", "hub_proxy_token")
KEPT = ("backup_passphrase",)
HEAD = (
    "# Made by tools/new-agency; rotate_secrets.yml makes all anew but the backups' passphrase.\n"
)


def fresh(known: dict[str, str]) -> dict[str, str]:
    """Return new secrets, beside those of the known ones that are kept."""
    made = {name: secrets.token_urlsafe(32) for name in PASSWORDS}
    made |= {name: secrets.token_hex(32) for name in KEYS}
    made |= {name: known.get(name) or secrets.token_urlsafe(32) for name in KEPT}
    return known | made


def vault(*words: str, text: str | None = None) -> str:
    """Run the ansible-vault beside this interpreter and return its output.

    Raises:
        SystemExit: with its message, where it fails.

    """
    program = Path(sys.executable).parent / "ansible-vault"
    done = subprocess.run(  # noqa: S603 -- a program of this environment, and words of this file
        [program, *words], check=False, input=text, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"ansible-vault {words[0]}: {done.stderr.strip()}")
    return done.stdout


def write(path: Path, document: dict[str, object]) -> None:
    """Write the file encrypted, whole or not at all."""
    plain = "---\n" + HEAD + yaml.safe_dump(document)
    encrypted = vault("encrypt", "--output=-", "-", text=plain)
    beside = path.with_suffix(".new")
    beside.write_text(encrypted)
    beside.chmod(0o600)
    beside.replace(path)


def main() -> None:
    """Make or rotate what the command line names."""
    if len(sys.argv) != 3 or sys.argv[1] not in ("new", "rotate"):
        raise SystemExit(__doc__)
    path = Path(sys.argv[2])
    if not Path(os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE", "")).is_file():
        raise SystemExit(
            "ANSIBLE_VAULT_PASSWORD_FILE names no file. It has to name the one with the password"
            " of this inventory's secrets."
        )
    if sys.argv[1] == "new":
        if path.exists():
            raise SystemExit(f"{path} exists already, and is left as it is.")
        write(path, {"cbm_agency_secrets": fresh({})})
        return
    document = yaml.safe_load(vault("view", str(path)))
    if not isinstance(document, dict) or "cbm_agency_secrets" not in document:
        raise SystemExit(f"{path} holds no cbm_agency_secrets; expected what new-agency made.")
    write(path, document | {"cbm_agency_secrets": fresh(document["cbm_agency_secrets"])})


if __name__ == "__main__":
    main()
