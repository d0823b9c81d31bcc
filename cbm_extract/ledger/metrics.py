"""The command ``cbm metrics``: the state of the extraction in Prometheus' text format."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from pydantic import Field

from cbm_core import db
from cbm_core.errors import CbmError
from cbm_core.verbs import Answer, Arguments, Context, Verb
from cbm_extract.ledger import figures

# Nobody needs figures that are older than the next ones.
_TIMEOUT_SECONDS = 45


class _Metrics(Arguments):
    output: Path | None = Field(
        default=None,
        description="Write to this file, at once and whole, instead of showing them; for"
        " the textfile collector of Prometheus' node exporter.",
    )


class _Collected:
    """Families that were read before, in the form a registry takes."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families


def _metrics(arguments: _Metrics, context: Context) -> Answer:
    with db.session(context.settings) as connection:
        connection.set_session(readonly=True)
        with db.transaction(connection) as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)",
                           (f"{_TIMEOUT_SECONDS}s",))  # fmt: skip
            found = list(figures.families(cursor))
    registry = CollectorRegistry()
    registry.register(_Collected(found))
    text = generate_latest(registry).decode()
    number = sum(len(family.samples) for family in found)
    if arguments.output is None:
        return Answer(result={"figures": number, "text": text}, text=text.rstrip("\n"))
    _replace(arguments.output, text)
    return Answer(result={"figures": number, "output": str(arguments.output)})


def _replace(path: Path, text: str) -> None:
    """Write a file that others read at any moment; its ending keeps the half-written one unread."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise CbmError(
            "output_unwritable",
            f"{path.parent} cannot be written to: {error.strerror}.",
            "Make the folder, writable by the account that runs this command.",
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


METRICS = Verb("Show the state of the extraction as figures for Prometheus.", _Metrics, _metrics)
