"""The routes, a module per resource: requests in, answers out; SQL stands in ``queries``."""

from cbm_api.routes import service, tiles

BLUEPRINTS = (service.api, tiles.api)
