"""An application on a real PostGIS, and clients that ask it as users do."""

import base64
from dataclasses import dataclass, replace

import pytest
from argon2 import PasswordHasher
from flask.testing import FlaskClient

from cbm_api.app import create_app
from cbm_core.settings import Settings
from cbm_core.users import passwords
from tests.factories import sql

PASSWORD = "correct horse battery"


@pytest.fixture(scope="session", autouse=True)
def quick_passwords():
    """Passwords are hashed with little effort: nobody attacks those of tests."""
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", hasher)
        patch.setattr(passwords, "_NOBODY", hasher.hash("no password is this one"))
        yield


def owner(settings: Settings) -> Settings:
    """The same database for the owner of its tables, whom grants do not bind."""
    return replace(settings, database=settings.connection("owner"))


def add_user(settings: Settings, name: str, *datasets: int) -> None:
    """A user with PASSWORD who may read datasets; without the code under test."""
    admin = owner(settings)
    sql(
        admin,
        "INSERT INTO cbm.api_user (name, password_hash) VALUES (%s, %s)",
        name,
        passwords.hashed(PASSWORD),
    )
    for dataset in datasets:
        sql(admin, "INSERT INTO cbm.dataset_grant VALUES (%s, 'api', %s)", dataset, name)


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    """The header of a login."""
    token = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}


@dataclass
class Asking:
    """Asks as one user."""

    client: FlaskClient
    headers: dict[str, str]

    def get(self, path: str, **query):
        return self.client.get(path, query_string=query, headers=self.headers)

    def post(self, path: str, body, **query):
        return self.client.post(path, json=body, query_string=query, headers=self.headers)


@pytest.fixture
def app(db: Settings):
    """The application, as an installation has it: its login is a member of cbm_api only."""
    made = create_app(replace(db, database={**db.database, "user": "cbm_web"}))
    yield made
    made.extensions["cbm_database"].close()


@pytest.fixture
def asking(app, db: Settings):
    """asking("anna", dataset, ...): a new user who may read the datasets, and asks as that user."""

    def make(name: str, *datasets: int) -> Asking:
        add_user(db, name, *datasets)
        return Asking(app.test_client(), basic(name))

    return make
