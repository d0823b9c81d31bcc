"""Parameters that say which images are meant."""

from __future__ import annotations

from pydantic import Field

from cbm_api.parameters import Parameters


class Images(Parameters):
    """Of which kind, and when."""

    card: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9]{0,15}$",
        description="s2 (Sentinel-2), bs (backscatter), c6, c12 (coherence).",
    )
    datetime: str | None = Field(
        default=None,
        max_length=80,
        description="When the image was taken (UTC): a day, a moment, or two with a slash "
        "between; '..' leaves an end open.",
    )
