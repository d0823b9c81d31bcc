"""Remote files as extraction reads them: patiently, and through the proxy that the host names.

Workers may stand behind a proxy, named by whoever runs them (``https_proxy``, ``no_proxy``).
"""

from __future__ import annotations

import os

from rasterio.abc import FileContainer

from cbm_core.remote import storage
from cbm_core.remote.files import RemoteFolder
from cbm_core.remote.objects import RemoteObject
from cbm_core.remote.web import PIECE, Access, Patience
from cbm_core.settings import StorageSettings

PATIENCE = Patience()

FileContainer.register(RemoteFolder)


class _State:
    storage = StorageSettings()


def configure(settings: StorageSettings) -> None:
    """Make this process ask the storage that the settings name; call it before any read.

    Raises:
        CbmError: as :func:`cbm_core.remote.storage.check`.

    """
    storage.check(settings)
    _State.storage = settings
    if settings.ca_file:
        os.environ["REQUESTS_CA_BUNDLE"] = settings.ca_file  # documents of catalogues


def access() -> Access:
    """Return how this process asks."""
    return Access(_State.storage, PATIENCE, PIECE, proxied=True)


def opened(address: str) -> RemoteObject:
    """Return the file at an ``s3://`` or ``http(s)://`` address.

    Raises:
        CbmError: as :class:`RemoteObject`.

    """
    return RemoteObject(address, access())
