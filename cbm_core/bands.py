"""The names under which clients of the predecessor ask for bands, and back.

``cbm.legacy_band`` says the same in the database. Sentinel-1 bands carry the card in a suffix:
VVb is backscatter, VVc coherence. B2, B4 and B8 are other spellings of B02, B04 and B08.
"""

from __future__ import annotations

import re

_SUFFIX = {"bs": "b", "c6": "c", "c12": "c"}
_POLARISATIONS = ("VV", "VH")
_SHORT = re.compile(r"B([1-9])")


def legacy(card: str, band: str) -> str:
    """Return a stored band's name as legacy clients know it: VV of card ``bs`` is ``VVb``."""
    return band + _SUFFIX.get(card, "") if band in _POLARISATIONS else band


def stored(card: str, name: str) -> str:
    """Return the stored name of a band of a card, from any spelling; other names stay."""
    suffix = _SUFFIX.get(card)
    if suffix and name in {band + suffix for band in _POLARISATIONS}:
        return name.removesuffix(suffix)
    short = _SHORT.fullmatch(name)
    return f"B0{short[1]}" if short else name
