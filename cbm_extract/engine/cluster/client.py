"""The way to the workers' scheduler: TLS alone, with certificates of the installation's own CA."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from distributed import Client, Security
from distributed.comm.core import FatalCommClosedError

from cbm_core.errors import CbmError
from cbm_core.settings import EngineSettings

CONNECT_SECONDS = 10.0

_FILES = ("tls_ca_file", "tls_cert_file", "tls_key_file")


def connect(engine: EngineSettings, seconds: float = CONNECT_SECONDS) -> Client:
    """Open a connection to the scheduler; it is tried for ``seconds``.

    Raises:
        CbmError: as :func:`security`; ``scheduler_unreachable`` when nothing answers,
            ``scheduler_untrusted`` when the two sides do not accept each other's certificate, or
            the scheduler speaks no TLS at all.

    """
    trusted = security(engine)
    # What is worth saying is said by the caller; Dask would print tracebacks beside.
    for name in ("asyncio", "distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(
            str(engine.scheduler),
            name="cbm-dispatch",
            security=trusted,
            timeout=seconds,
            set_as_default=False,
            direct_to_workers=False,
        )
    except (OSError, ValueError) as error:
        raise _refused(engine, error) from None


def security(engine: EngineSettings) -> Security:
    """Return what a client shows and accepts; every file is opened once to be sure of it.

    Raises:
        CbmError: ``engine_unset`` when scheduler or certificates are not in the settings,
            ``engine_invalid`` when the scheduler's address is not one of TLS,
            ``certificate_unreadable``, ``certificate_invalid`` (no PEM, or key and certificate
            do not belong together).

    """
    missing = [name for name in ("scheduler", *_FILES) if getattr(engine, name) is None]
    if missing:
        raise CbmError(
            "engine_unset",
            f"The settings do not say how to reach the workers: no {', '.join(missing)}.",
            "Set them in [engine] of the settings file.",
        )
    if not str(engine.scheduler).startswith("tls://"):
        raise CbmError(
            "engine_invalid",
            f"The scheduler's address is {engine.scheduler}; expected tls://host:port.",
            "Scheduler and workers speak TLS only: correct [engine] of the settings file.",
        )
    for name in _FILES:
        _check_readable(Path(getattr(engine, name)), name)
    trusted = Security(
        require_encryption=True,
        tls_ca_file=engine.tls_ca_file,
        tls_client_cert=engine.tls_cert_file,
        tls_client_key=engine.tls_key_file,
    )
    try:
        trusted.get_connection_args("client")
    except ssl.SSLError as error:
        raise CbmError(
            "certificate_invalid",
            f"{engine.tls_cert_file} with {engine.tls_key_file} and {engine.tls_ca_file} is of no"
            f" use: {error.reason or error}.",
            "Expected PEM files: the host's certificate, its own key, and the CA's certificate.",
        ) from None
    return trusted


def _check_readable(file: Path, name: str) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        raise CbmError(
            "certificate_unreadable",
            f"{file} ({name} in [engine]) cannot be read: {error.strerror}.",
            "Run as a user who may read it, or correct the settings file.",
        ) from None


def _refused(engine: EngineSettings, error: Exception) -> CbmError:
    texts = _causes(error)
    # A side that does not like what it sees closes the connection, sometimes without a word.
    doubts = [text for text in texts if "SSL" in text] or [text for text in texts if "<TLS" in text]
    if doubts or isinstance(error, FatalCommClosedError):
        return CbmError(
            "scheduler_untrusted",
            f"The scheduler at {engine.scheduler} and this host do not trust each other, or it is"
            f" just stopping: {[*texts, *doubts][-1]}.",
            f"Both need certificates of one CA that are still valid; here {engine.tls_cert_file}"
            f" of {engine.tls_ca_file}. The scheduler must require TLS.",
        )
    return CbmError(
        "scheduler_unreachable",
        f"No connection to the scheduler at {engine.scheduler}: {texts[-1]}.",
        "Check that it runs (`systemctl status cbm-dask-scheduler`), the address in [engine] of"
        " the settings, and the firewall.",
    )


def _causes(error: BaseException) -> list[str]:
    """Return what an error and its causes say, the first cause last."""
    texts = [type(error).__name__]
    cause: BaseException | None = error
    while cause is not None:
        text = " ".join(str(cause).split()).rstrip(".")
        texts += [text] if text else []
        cause = cause.__cause__ or cause.__context__
    return texts
