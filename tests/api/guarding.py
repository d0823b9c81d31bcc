"""An application with two routes of its own behind the logins."""

from dataclasses import replace
from datetime import timedelta

from flask import g

from cbm_api.app import create_app
from cbm_api.context import log_read, reading
from cbm_core.settings import ApiSettings
from cbm_core.users import token_verbs
from cbm_core.verbs import Context
from tests.api.conftest import add_user
from tests.factories import sql


def whoami():
    """A view as any other: it needs a login."""
    return {"user": g.user}


def my_parcels():
    with reading() as cursor:
        cursor.execute("SELECT aoi FROM cbm.dataset ORDER BY aoi")
        found = [aoi for (aoi,) in cursor.fetchall()]
        log_read(cursor, "ie_2024", ["1"])
    return {"datasets": found}


def admin(db):
    return replace(db, database=db.connection("owner"))


def guarded(db):
    """guarded(requests_per_minute=3) -> a client of an application with these settings."""
    made = []

    def make(**api):
        settings = replace(db, database={**db.database, "user": "cbm_web"}, api=ApiSettings(**api))
        app = create_app(settings)
        app.add_url_rule("/whoami", view_func=whoami, methods=["GET", "POST"])
        app.add_url_rule("/mine", view_func=my_parcels)
        made.append(app)
        return app.test_client()

    yield make
    for app in made:
        app.extensions["cbm_database"].close()


def client(guarded, db):
    add_user(db, "anna")
    return guarded()


def status(client, headers, **given):
    return client.get("/whoami", headers=headers, **given).status_code


def refusal(client, headers, **given):
    response = client.get("/whoami", headers=headers, **given)
    assert response.content_type == "application/problem+json"
    return response.status_code, response.json["code"]


def do(verb, db, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(db))


def token_of(db, name, label="t"):
    return do(token_verbs.ADD, db, name=name, label=label).result["token"]


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def later(admin, seconds):
    """Let that much time pass for lockouts."""
    back = timedelta(seconds=seconds)
    sql(
        admin,
        "UPDATE cbm.api_lockout SET last_failure = last_failure - %s,"
        " locked_until = locked_until - %s",
        back, back,
    )  # fmt: skip
