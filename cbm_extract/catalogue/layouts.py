"""Layouts of folders that need no description, because every such folder looks the same.

``card-bs`` is SNAP's geocoded backscatter, ``<name>.data/Gamma0_VV.img`` and ``.hdr``, perhaps with
``<name>.dim`` beside it; ``card-coh6`` and ``card-coh12`` are coherence of images six or twelve
days apart, ``<name>.tif`` with bands VV and VH. The predecessor wrote and read these, and the
processors of Copernicus Data Space deliver them.
"""

from __future__ import annotations

from pathlib import Path

from cbm_extract.catalogue import sentinel1
from cbm_extract.catalogue.description import BandDescription, Description

BACKSCATTER = Description(
    card=sentinel1.BACKSCATTER,
    files="**/*.data/Gamma0_*.img",
    pattern=r"(?:.*/)?(?P<reference>[^/]+)\.data/Gamma0_(?P<band>[HV]{2})\.img",
    bands={"VV": BandDescription(), "VH": BandDescription()},
)


def _coherence(card: str) -> Description:
    return Description(
        card=card,
        files="**/*.tif",
        pattern=r"(?:.*/)?(?P<reference>[^/]+)\.tif",
        bands={"VV": BandDescription(index=1), "VH": BandDescription(index=2)},
    )


LAYOUTS = {
    "card-bs": BACKSCATTER,
    **{f"card-coh{days}": _coherence(card) for card, days in sentinel1.PAIR_DAYS.items()},
}


def recognise(folder: Path) -> str | None:
    """Return the layout that a folder tree has, None for none of them.

    Coherence is known by the dates in the first pair's name.
    """
    if next(folder.glob(BACKSCATTER.files), None):
        return "card-bs"
    days = {sentinel1.pair_days(path.stem) for path in folder.glob("**/*.tif")}
    return next((name for name in LAYOUTS if name in {f"card-coh{one}" for one in days}), None)
