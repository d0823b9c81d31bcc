"""The routes, a module per resource: requests in, answers out; SQL stands in ``queries``."""

from cbm_api.routes import (
    bulk,
    chips,
    collections,
    coverage,
    items,
    jobs,
    landing,
    legacy,
    peers,
    progress,
    scenes,
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
    scenes.api,
    coverage.api,
    progress.api,
    chips.api,
    viewer.api,
)
