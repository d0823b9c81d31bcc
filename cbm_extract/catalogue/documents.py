"""STAC documents: fetched from files and web addresses, and walked from catalogue to item."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from cbm_core.errors import CbmError
from cbm_extract.catalogue.reading import Reading

MAX_BYTES = 64 * 2**20
MAX_DOCUMENTS = 100_000
_TIMEOUT = (15, 60)  # seconds to connect, between bytes
_RETRIES = Retry(total=4, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504])

Document = dict[str, Any]


def is_url(address: str) -> bool:
    """Tell a web address from a local path."""
    return address.startswith(("http://", "https://"))


@dataclass(frozen=True)
class Rewrites:
    """Prefixes of addresses that are replaced, so that a local mirror can be used."""

    pairs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, texts: list[str]) -> Rewrites:
        """Read ``FROM=TO`` texts.

        Raises:
            CbmError: ``rewrite_invalid``.

        """
        pairs = []
        for text in texts:
            before, separator, after = text.partition("=")
            if not (separator and before and after):
                raise CbmError(
                    "rewrite_invalid",
                    f"Expected FROM=TO as rewrite, found {text!r}.",
                    "For example https://host/bucket/=/data/mirror/.",
                )
            pairs.append((before, after))
        return cls(tuple(pairs))

    def apply(self, address: str) -> str | None:
        """Return the address with the first matching prefix replaced, None where none matches."""
        for before, after in self.pairs:
            if address.startswith(before):
                return after + address.removeprefix(before)
        return None


def resolve(base: str, href: str, rewrites: Rewrites) -> str:
    """Return the absolute address of an href found in the document at ``base``.

    Local addresses come out as absolute paths.

    Raises:
        CbmError: ``href_refused`` when a document from the web names a local file.

    """
    absolute = href
    if "://" not in href:
        local = Path(os.path.normpath(Path(base).parent / href))
        absolute = urljoin(base, href) if is_url(base) else str(_existing(local))
    rewritten = rewrites.apply(absolute)
    if rewritten is not None:
        return rewritten
    if absolute.startswith("file://"):
        if is_url(base):
            raise CbmError(
                "href_refused",
                f"{base} comes from the web and names the local file {absolute}.",
                "Name a --rewrite for it, if that is meant.",
            )
        return unquote(urlsplit(absolute).path)
    return absolute


def resolve_document(base: str, href: str, rewrites: Rewrites) -> str:
    """Return the absolute address of a document that the one at ``base`` links to.

    Rewrites that lead images to an object storage, from where no documents are read, leave the
    documents beside them where they are.

    Raises:
        CbmError: as ``resolve`` does.

    """
    address = resolve(base, href, rewrites)
    if "://" in address and not is_url(address):
        return resolve(base, href, Rewrites())
    return address


def _existing(path: Path) -> Path:
    """Undo the percent-encoding of a relative href, unless a file is really called so."""
    decoded = Path(unquote(str(path)))
    return decoded if decoded.exists() and not path.exists() else path


class Loader:
    """Fetches JSON documents; one session, bounded retries, bounded size."""

    def __init__(self) -> None:
        """Open the session."""
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))

    def load(self, address: str) -> Document:
        """Return the JSON object at an address.

        Raises:
            CbmError: ``stac_missing``, ``stac_unreachable``, ``stac_invalid``,
                ``href_unsupported``.

        """
        if is_url(address):
            body = self._fetch(address)
        elif "://" in address:
            raise CbmError(
                "href_unsupported",
                f"{address} is no address that catalogues are read from.",
                "Expected a local path or http(s)://; --rewrite can replace s3:// addresses.",
            )
        else:
            body = _read(Path(address))
        try:
            document = json.loads(body)
        except ValueError as error:
            raise _invalid(address, f"it is not JSON ({error})") from None
        if not isinstance(document, dict):
            raise _invalid(address, "it is no JSON object")
        return document

    def _fetch(self, url: str) -> bytes:
        try:
            with self._session.get(url, timeout=_TIMEOUT, stream=True) as answer:
                if answer.status_code in {404, 410}:
                    raise _missing(url)
                answer.raise_for_status()
                body = bytearray()
                for chunk in answer.iter_content(2**16):
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise _invalid(url, f"it is larger than {MAX_BYTES} bytes")
                return bytes(body)
        except requests.RequestException as error:
            raise CbmError(
                "stac_unreachable",
                f"{url} cannot be fetched: {' '.join(str(error).split())}.",
                "Check network and address, then run the same command again.",
            ) from None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _invalid(str(path), f"it is larger than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(str(path)) from None
    except OSError as error:
        raise _invalid(str(path), f"it cannot be read ({error.strerror})") from None


def _missing(address: str) -> CbmError:
    return CbmError("stac_missing", f"There is no STAC document at {address}.", "Correct it.")


def _invalid(address: str, why: str) -> CbmError:
    return CbmError(
        "stac_invalid",
        f"{address} is no STAC document: {why}.",
        "Expected a catalogue, a collection, an item or a list of items.",
    )


@dataclass(frozen=True)
class Item:
    """An item, the address its relative hrefs start from, and its collection's id."""

    document: Document
    base: str
    collection: str | None


@dataclass
class Walk:
    """A catalogue being followed along links ``child``, ``item`` and ``next``, each once."""

    loader: Loader
    rewrites: Rewrites
    reading: Reading
    _seen: set[str] = field(default_factory=set)

    def items(self, address: str) -> Iterator[Item]:
        """Iterate over the items under an address.

        Documents below it that cannot be had are skipped and reported in ``reading``.

        Raises:
            CbmError: for the document at the address itself, as :meth:`Loader.load` does;
                ``catalogue_too_large``.

        """
        waiting: list[tuple[str, str | None]] = [(address, None)]
        while waiting:
            here, collection = waiting.pop()
            if here in self._seen:
                continue
            if len(self._seen) >= MAX_DOCUMENTS:
                raise CbmError(
                    "catalogue_too_large",
                    f"The catalogue has more than {MAX_DOCUMENTS} documents.",
                    "Catalogue its parts one by one.",
                )
            self._seen.add(here)
            try:
                document = self.loader.load(here)
                if document.get("type") in {"Feature", "FeatureCollection"}:
                    waiting += self._next_page(document, here, collection)
                    yield from _features(document, here, collection)
                else:
                    # The last one pushed is followed first.
                    waiting += reversed(self._links(document, here, collection))
            except CbmError as error:
                if here == address:
                    raise
                self.reading.skip(here, error)

    def _next_page(
        self, document: Document, here: str, collection: str | None
    ) -> list[tuple[str, str | None]]:
        """Return the page of a search that follows, where an address alone leads to it."""
        links = document.get("links")
        for link in links if isinstance(links, list) else []:
            if not isinstance(link, dict) or link.get("rel") != "next":
                continue
            if str(link.get("method") or "GET").upper() == "GET" and not link.get("body"):
                href = str(link.get("href", ""))
                return [(resolve_document(here, href, self.rewrites), collection)]
            self.reading.warnings.append(
                f"{here} is one page of a search that goes on by POST; the others are not read"
            )
        return []

    def _links(
        self, document: Document, here: str, collection: str | None
    ) -> list[tuple[str, str | None]]:
        links = document.get("links")
        if not isinstance(links, list):
            raise _invalid(here, "it has no links")
        if document.get("type") == "Collection":
            collection = str(document.get("id"))
        wanted = [
            str(link.get("href", ""))
            for link in links
            if isinstance(link, dict) and link.get("rel") in {"child", "item"}
        ]
        if not wanted:
            raise _invalid(here, "it has neither items nor children (searches are not supported)")
        found = []
        for href in wanted:
            try:
                found.append((resolve_document(here, href, self.rewrites), collection))
            except CbmError as error:
                self.reading.skip(href, error)
        return found


def _features(document: Document, here: str, collection: str | None) -> Iterator[Item]:
    features = document.get("features") if document["type"] != "Feature" else [document]
    if not isinstance(features, list):
        raise _invalid(here, "its features are no list")
    for feature in features:
        if not isinstance(feature, dict):
            raise _invalid(here, "a feature is no JSON object")
        own = feature.get("collection")
        yield Item(feature, here, str(own) if own else collection)
