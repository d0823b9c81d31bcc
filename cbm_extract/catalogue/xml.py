"""Reading XML that strangers wrote: no document type, so no entities; bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from cbm_core.errors import CbmError

MAX_BYTES = 64 * 2**20  # ESA's largest metadata files have some 5 MB


class _NoDoctype(TreeBuilder):
    """Entities, internal and external, can only be declared in a document type."""

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> NoReturn:
        raise ValueError("it declares a document type")


class Document:
    """A parsed file; elements are found by their local names, whatever their namespace."""

    def __init__(self, path: Path) -> None:
        """Parse a file.

        Raises:
            CbmError: ``xml_missing``, ``xml_invalid``.

        """
        self.path = path
        try:
            if path.stat().st_size > MAX_BYTES:
                raise self.invalid(f"it is larger than {MAX_BYTES} bytes")
            parser = XMLParser(target=_NoDoctype())  # noqa: S314 refuses document types
            parser.feed(path.read_bytes())
            self.root: Element = parser.close()
        except OSError as error:
            raise CbmError(
                "xml_missing", f"{path} cannot be read: {error.strerror}.", "Is the copy complete?"
            ) from None
        except (ParseError, ValueError) as error:
            raise self.invalid(str(error)) from None

    def invalid(self, why: str) -> CbmError:
        """Return the error for a file that cannot be used."""
        return CbmError(
            "xml_invalid", f"{self.path} is not usable: {why}.", "Fetch the product again."
        )

    def all(self, *tags: str) -> Iterator[Element]:
        """Iterate over the elements with one of these local names, in document order."""
        for element in self.root.iter():
            if element.tag.rpartition("}")[2] in tags:
                yield element

    def text(self, *tags: str) -> str | None:
        """Return the text of the first such element, None without one or when it is empty."""
        for element in self.all(*tags):
            return (element.text or "").strip() or None
        return None

    def required(self, *tags: str) -> str:
        """Return the text of the first such element.

        Raises:
            CbmError: ``xml_invalid``.

        """
        text = self.text(*tags)
        if text is None:
            raise self.invalid(f"it has no {tags[0]}")
        return text

    def number(self, text: str | None, tag: str) -> float:
        """Return a number found in this file.

        Raises:
            CbmError: ``xml_invalid``.

        """
        try:
            return float(text or "")
        except ValueError:
            raise self.invalid(f"{tag} is no number: {text!r}") from None
