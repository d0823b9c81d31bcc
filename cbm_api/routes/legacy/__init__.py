"""The routes that clients of the JRC's earlier Checks-by-Monitoring system ask, unchanged."""

from cbm_api.routes.legacy import backgrounds, chips, info, parcels, series

BLUEPRINTS = (info.api, parcels.api, series.api, chips.api, backgrounds.api)
