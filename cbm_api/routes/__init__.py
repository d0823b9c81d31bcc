"""The routes, a module per resource: requests in, answers out; SQL stands in ``queries``."""

from cbm_api.routes import bulk, chips, jobs, legacy, service, signatures, tiles

BLUEPRINTS = (
    service.api,
    *legacy.BLUEPRINTS,
    tiles.api,
    signatures.api,
    bulk.api,
    jobs.api,
    chips.api,
)
