"""Makes a security archive and another one, and installs an older version of their packages."""

import hashlib
import subprocess
import tempfile
from pathlib import Path

ROOT = Path("/var/tmp/archives")
SECURITY = ["cbm-plain", "cbm-held", "postgresql-cbm", "docker-cbm"]


def package(folder: Path, name: str, version: str) -> Path:
    with tempfile.TemporaryDirectory() as tree:
        control = Path(tree) / "DEBIAN/control"
        control.parent.mkdir()
        control.write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: CbM <cbm@example.org>\nDescription: probe\n"
        )
        path = folder / f"{name}_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--build", "-Znone", tree, str(path)], check=True)
    return path


def archive(name: str, codename: str, label: str, names: list[str]) -> str:
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for one in names:
        path = package(folder, one, "2")
        control = subprocess.run(
            ["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True
        ).stdout
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries.append(
            f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"
        )
    packages = "\n".join(entries).encode()
    (folder / "Packages").write_bytes(packages)
    (folder / "Release").write_text(
        f"Origin: Debian\nLabel: {label}\nCodename: {codename}\nSuite: {codename}\n"
        "Date: Mon, 02 Nov 2026 00:00:00 UTC\nSHA256:\n"
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )
    return f"deb [trusted=yes] file:{folder} ./\n"


ROOT.mkdir(exist_ok=True)
for name in [*SECURITY, "cbm-feature"]:
    subprocess.run(["dpkg", "--install", str(package(ROOT, name, "1"))], check=True)
(ROOT / "sources.list").write_text(
    archive("security", "bookworm-security", "Debian-Security", SECURITY)
    + archive("feature", "bookworm", "Debian", ["cbm-feature"])
)
(ROOT / "state").mkdir(exist_ok=True)
(ROOT / "apt.conf").write_text(
    f'Dir::Etc::SourceList "{ROOT}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
    f'Dir::State::Lists "{ROOT}/state";\n'
)
subprocess.run(
    ["apt-get", "update"],
    check=True,
    env={"APT_CONFIG": f"{ROOT}/apt.conf", "PATH": "/usr/bin:/bin"},
)
