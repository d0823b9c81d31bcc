"""Client of the API of an area monitoring system: parcels, series and images for analysts.

    from cbm_client import Client, plot

    client = Client("https://cbm.example", "anna", password)
    series = client.signatures("ie_2024", "P123", bands="NDVI", statistics="mean")
    plot.series(series, "NDVI_mean")

Needs nothing of the server but its address and a login.
"""

from cbm_client.client import Client
from cbm_client.errors import ApiError
from cbm_client.images import Chip, Picture
from cbm_client.jobs import Job

__all__ = ["ApiError", "Chip", "Client", "Job", "Picture"]
