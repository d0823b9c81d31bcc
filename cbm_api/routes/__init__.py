"""The routes, a module per resource: requests in, answers out; SQL stands in ``queries``."""

from cbm_api.routes import (
    bulk,
    chips,
    collections,
    items,
    jobs,
    landing,
    legacy,
    peers,
    service,
    signatures,
    tiles,
    viewer,
)

BLUEPRINTS = (
    service.api,
    landing.api,
    collections.api,
    items.api,
    peers.api,
    *legacy.BLUEPRINTS,
    tiles.api,
    signatures.api,
    bulk.api,
    jobs.api,
    chips.api,
    viewer.api,
)
