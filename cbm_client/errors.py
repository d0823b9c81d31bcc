"""What the client raises when the API, or the way to it, fails."""

from __future__ import annotations

# What to do here, in terms of this client; what the server says stands in the message.
_HINTS = {
    "login_required": "Give Client a user and password, or a token.",
    "login_failed": "Check user and password, or ask the operator for another token.",
    "token_expired": "Ask the operator for another token.",
    "locked_out": "Wait as long as retry_after says; every failed login makes it longer.",
    "dataset_unknown": "collections() lists the collections that you may read.",
    "parcel_unknown": "parcels() lists the collection's parcels.",
    "product_unknown": "products() lists the collection's products.",
    "scene_unknown": "chips() lists the images that show a parcel.",
    "job_unknown": "jobs() lists your jobs.",
    "request_entity_too_large": "Ask for fewer parcels at once, or for those within a polygon.",
    "too_many_requests": "Ask later, or give Client more patience.",
    "busy": "Ask later, or give Client more patience.",
    "redirected": "Give Client the address that the server names.",
    "tls_failed": "Where the agency signs its own certificates, name their CA's file with ca=.",
    "unreachable": "Check the address, the network and the proxy.",
    "timed_out": "Ask for less at once, or give Client a longer timeout.",
    "cut_off": "Ask again.",
    "not_the_api": "Check the address: it ends before /v1.",
}


class ApiError(Exception):
    """A request that was refused or failed.

    ``code`` is for programs and stays the same: the codes of docs/api.md, or ``unreachable``,
    ``timed_out``, ``tls_failed``, ``cut_off``, ``redirected``, ``not_the_api``, ``http_502`` and
    the like. ``message`` says what is wrong, ``hint`` what to do about it in this client ('' where
    there is nothing to add). ``status`` is HTTP's, None where no answer came; ``request_id`` finds
    the request in the server's log; ``retry_after`` is in seconds, where the server named them;
    ``cursor`` is where a search goes on that found nothing in its time (``search_too_wide``).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        cursor: str | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.hint = _HINTS.get(code, "")
        self.status = status
        self.request_id = request_id
        self.retry_after = retry_after
        self.cursor = cursor
        found = f" (request {request_id})" if request_id else ""
        super().__init__(f"{code}: {' '.join(filter(None, (message, self.hint)))}{found}")
