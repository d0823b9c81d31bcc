"""Users of the API: declaring them, their passwords, grants and tokens, the log of reads."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg2.errors
import pytest

from cbm_core import db as database
from cbm_core.errors import CbmError
from cbm_core.users import log_verbs, passwords, token_verbs, tokens, verbs
from cbm_core.verbs import Context
from cbm_extract import cli
from tests.factories import add_dataset, sql

pytestmark = pytest.mark.postgis

GOOD, OTHER = "correct horse battery", "battery horse correct"


def run(verb, settings, **arguments):
    return verb.run(verb.arguments.model_validate(arguments), Context(settings))


def refused(code, verb, settings, **arguments):
    with pytest.raises(CbmError) as caught:
        run(verb, settings, **arguments)
    assert caught.value.code == code
    return caught.value


@pytest.fixture
def admin(db):
    """The owner's login, for looking at what others may not see."""
    return replace(db, database=db.connection("owner"))


@pytest.fixture
def world(db):
    """Datasets ie:2024 and nl:2023."""
    add_dataset(db, "ie", 2024)
    add_dataset(db, "nl", 2023)
    return db


@pytest.fixture
def password(tmp_path):
    """password("...") -> a file that holds it."""

    def write(text=GOOD):
        file = tmp_path / "password"
        file.write_text(text + "\n")
        file.chmod(0o600)
        return str(file)

    return write


def described(settings, name):
    users = {user["user"]: user for user in run(verbs.LIST, settings).result["users"]}
    return users[name]


def stored_hash(admin, name):
    return sql(admin, "SELECT password_hash FROM cbm.api_user WHERE name = %s", name)[0][0]


def changes(admin, action):
    found = sql(
        admin, "SELECT detail -> 'changes' FROM cbm.audit WHERE action = %s ORDER BY id", action
    )
    return [lines for (lines,) in found]


def test_declared_then_nothing_to_do(world, admin, password):
    wanted = {"name": "Anna", "password_file": password(), "datasets": ["nl:2023", "ie:2024"]}
    first = run(verbs.ADD, world, **wanted)
    assert first.plan == [
        "add user Anna",
        "set the password of Anna",
        "let Anna read ie:2024",
        "let Anna read nl:2023",
    ]
    assert first.before == ""
    assert json.loads(first.after) == described(world, "Anna")
    assert described(world, "Anna") == {
        "user": "Anna",
        "disabled": False,
        "has_password": True,
        "datasets": ["ie:2024", "nl:2023"],
        "tokens": [],
    }
    assert passwords.matches(stored_hash(admin, "Anna"), GOOD)
    again = run(verbs.ADD, world, **wanted)
    assert (again.changed, again.plan, again.before) == (False, [], first.after)
    assert changes(admin, "user add") == [first.plan], "a run that changes nothing is not audited"
    for text in (first.text, first.after, *map(str, changes(admin, "user add"))):
        assert GOOD not in text
        assert "argon2" not in text


def test_what_is_left_out_stays(world, admin, password):
    run(verbs.ADD, world, name="anna", password_file=password(), datasets=["ie:2024"])
    before = stored_hash(admin, "anna")
    assert not run(verbs.ADD, world, name="anna").changed
    moved = run(verbs.ADD, world, name="anna", datasets=["nl:2023"])
    assert moved.plan == ["let anna read nl:2023", "take reading of ie:2024 from anna"]
    assert stored_hash(admin, "anna") == before
    assert run(verbs.ADD, world, name="anna", datasets=[]).changed
    assert described(world, "anna")["datasets"] == []


def test_check_says_the_same_and_changes_nothing(world, admin, password):
    wanted = {"name": "anna", "password_file": password(), "datasets": ["ie:2024"]}
    planned = run(verbs.ADD, world, check=True, **wanted)
    assert sql(admin, "SELECT count(*) FROM cbm.api_user") == [(0,)]
    assert sql(admin, "SELECT count(*) FROM cbm.audit") == [(0,)]
    done = run(verbs.ADD, world, **wanted)
    assert (planned.plan, planned.after) == (done.plan, done.after)
    for verb, arguments in (
        (verbs.PASSWD, {"password_file": password(OTHER)}),
        (verbs.DISABLE, {}),
        (verbs.GRANT, {"datasets": ["nl:2023"]}),
        (verbs.REVOKE, {"datasets": ["ie:2024"]}),
        (token_verbs.ADD, {"label": "x"}),
    ):
        assert run(verb, world, name="anna", check=True, **arguments).changed
    assert described(world, "anna") == json.loads(done.after)
    assert passwords.matches(stored_hash(admin, "anna"), GOOD)


def test_an_unknown_dataset_adds_nobody(world, admin):
    refused("dataset_unknown", verbs.ADD, world, name="anna", datasets=["ie:2024", "ie:1999"])
    assert sql(admin, "SELECT count(*) FROM cbm.api_user") == [(0,)]


def test_passwd_changes_the_password_and_ends_lockouts(world, admin, password):
    run(verbs.ADD, world, name="anna", password_file=password())
    sql(
        admin,
        "INSERT INTO cbm.api_lockout (user_name, address, failures)"
        " VALUES ('anna', '192.0.2.1', 9), ('paul', '192.0.2.1', 9)",
    )
    assert not run(verbs.PASSWD, world, name="anna", password_file=password()).changed
    changed = run(verbs.PASSWD, world, name="anna", password_file=password(OTHER))
    assert changed.plan == ["set the password of anna"]
    assert passwords.matches(stored_hash(admin, "anna"), OTHER)
    assert sql(admin, "SELECT user_name FROM cbm.api_lockout") == [("paul",)]


def test_passwd_asks_nobody_where_nobody_is(world, monkeypatch):
    run(verbs.ADD, world, name="anna")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    refused("password_missing", verbs.PASSWD, world, name="anna")
    refused("user_unknown", verbs.PASSWD, world, name="nobody")


def test_disabled_and_let_in_again(world):
    run(verbs.ADD, world, name="anna", datasets=["ie:2024"])
    assert run(verbs.DISABLE, world, name="anna").plan == ["disable user anna"]
    assert not run(verbs.DISABLE, world, name="anna").changed
    assert described(world, "anna")["disabled"]
    again = run(verbs.ADD, world, name="anna")
    assert again.plan == ["enable user anna"]
    assert described(world, "anna")["datasets"] == ["ie:2024"]


def test_a_disabled_user_sees_nothing_whoever_asks_on_the_users_behalf(world):
    """As a job does that the user left behind, or an address made for the user."""
    run(verbs.ADD, world, name="anna", datasets=["ie:2024"])
    api = replace(world, database={**world.database, "user": "cbm_web"})

    def seen():
        with closing(database.connect(api)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT set_config('cbm.api_user', 'anna', true)")
            cursor.execute("SELECT aoi FROM cbm.dataset")
            return cursor.fetchall()

    assert seen() == [("ie",)]
    run(verbs.DISABLE, world, name="anna")
    assert seen() == []
    run(verbs.ADD, world, name="anna")
    assert seen() == [("ie",)]


def test_grant_and_revoke(world):
    run(verbs.ADD, world, name="anna", datasets=["ie:2024"])
    granted = run(verbs.GRANT, world, name="anna", datasets=["ie:2024", "nl:2023"])
    assert granted.plan == ["let anna read nl:2023"]
    assert not run(verbs.GRANT, world, name="anna", datasets=["nl:2023"]).changed
    revoked = run(verbs.REVOKE, world, name="anna", datasets=["ie:2024", "ie:2024"])
    assert revoked.plan == ["take reading of ie:2024 from anna"]
    assert not run(verbs.REVOKE, world, name="anna", datasets=["ie:2024"]).changed
    assert described(world, "anna")["datasets"] == ["nl:2023"]
    refused("user_unknown", verbs.GRANT, world, name="nobody", datasets=["ie:2024"])


def test_a_role_of_the_same_name_keeps_its_grants(world, admin):
    """Database roles and users of the API are two kinds of readers."""
    sql(world, "INSERT INTO cbm.dataset_grant SELECT id, 'role', 'cbm_read' FROM cbm.dataset")
    run(verbs.ADD, world, name="cbm_read", datasets=["ie:2024"])
    run(verbs.ADD, world, name="cbm_read", datasets=[])
    assert sql(admin, "SELECT count(*) FROM cbm.dataset_grant WHERE via = 'role'") == [(2,)]


def test_tokens(world, admin):
    run(verbs.ADD, world, name="anna")
    made = run(token_verbs.ADD, world, name="anna", label="laptop", days=30)
    token = made.result["token"]
    assert token in made.text
    assert sql(admin, "SELECT hash FROM cbm.api_token")[0][0].tobytes() == tokens.digest(token)
    expires = datetime.fromisoformat(described(world, "anna")["tokens"][0]["expires_at"])
    assert abs(expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    refused("token_exists", token_verbs.ADD, world, name="anna", label="laptop")
    assert run(token_verbs.REVOKE, world, name="anna", label="laptop").changed
    assert not run(token_verbs.REVOKE, world, name="anna", label="laptop").changed
    assert described(world, "anna")["tokens"] == []
    assert run(token_verbs.ADD, world, name="anna", label="laptop").result["token"] != token
    rows = sql(admin, "SELECT label, revoked_at IS NULL FROM cbm.api_token ORDER BY id")
    assert rows == [("laptop", False), ("laptop", True)], "a revoked token is not forgotten"
    trail = sql(admin, "SELECT string_agg(detail::text, '') FROM cbm.audit")[0][0]
    assert token not in trail


def test_the_extraction_and_the_api_cannot_change_users(world):
    run(verbs.ADD, world, name="anna")
    for login in ("cbm_extractor", "cbm_web", "cbm_analyst"):
        settings = replace(world, owner={"user": login})
        refused("no_permission", verbs.ADD, settings, name="anna", datasets=["ie:2024"])
        refused("no_permission", token_verbs.ADD, settings, name="anna", label="x")
        refused("no_permission", log_verbs.LOG, settings)


@pytest.fixture
def reads(world, admin):
    """Four reads: two of anna's, one of them old; two of paul's, one of a layer."""
    for who, days, detail in (
        ("api:anna", 400, {"dataset": "ie_2024", "parcels": ["1", "2"], "route": "/a"}),
        ("api:anna", 1, {"dataset": "ie_2024", "parcels": ["2"], "route": "/b"}),
        ("api:paul", 2, {"dataset": "ie_2024.m", "parcels": 1200, "route": "/c"}),
        ("api:paul", 0, {"dataset": "nl_2023", "parcels": ["2"], "route": "/d"}),
    ):
        sql(
            admin,
            "INSERT INTO cbm.audit (at, who, action, detail)"
            " VALUES (now() - make_interval(days => %s), %s, 'read', %s)",
            days, who, json.dumps(detail),
        )  # fmt: skip
    sql(admin, "INSERT INTO cbm.audit (at, action) VALUES ('2020-01-01Z', 'dataset add')")
    return world


@pytest.mark.parametrize(
    ("selection", "routes"),
    [
        ({}, ["/d", "/b", "/c", "/a"]),
        ({"limit": 1}, ["/d"]),
        ({"user": "anna"}, ["/b", "/a"]),
        ({"dataset": "ie:2024"}, ["/b", "/c", "/a"]),
        ({"dataset": "nl:2023", "parcel": "2"}, ["/d"]),
        ({"parcel": "1"}, ["/a"]),
        ({"parcel": "2"}, ["/d", "/b", "/a"]),
        ({"parcel": "1200"}, []),
        ({"user": "ann%"}, []),
    ],
)
def test_log_shows_who_read_what(reads, selection, routes):
    answer = run(log_verbs.LOG, reads, **selection)
    assert [read["route"] for read in answer.result["reads"]] == routes
    assert len(answer.text.splitlines()) == max(1, len(routes))


def test_days_of_the_log_are_inclusive(reads):
    day = (datetime.now(UTC) - timedelta(days=400)).date()
    found = run(log_verbs.LOG, reads, start=day, end=day).result["reads"]
    assert [(read["user"], read["parcels"]) for read in found] == [("anna", ["1", "2"])]


def test_old_reads_are_forgotten_and_that_is_remembered(reads, admin):
    day = (datetime.now(UTC) - timedelta(days=2)).date() + timedelta(days=1)
    planned = run(log_verbs.LOG, reads, forget_before=day, check=True)
    assert planned.plan == [f"forget 2 reads before {day}"]
    assert len(run(log_verbs.LOG, reads).result["reads"]) == 4
    assert run(log_verbs.LOG, reads, forget_before=day).result == {"forgotten": 2}
    assert [read["route"] for read in run(log_verbs.LOG, reads).result["reads"]] == ["/d", "/b"]
    assert not run(log_verbs.LOG, reads, forget_before=day).changed
    actions = sql(admin, "SELECT action FROM cbm.audit WHERE action <> 'read' ORDER BY id")
    assert actions == [("dataset add",), ("user log",)]


def test_forgetting_takes_no_selection_and_no_day_to_come(reads):
    refused("arguments_invalid", log_verbs.LOG, reads, forget_before=date(2024, 1, 1), user="anna")
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    refused("arguments_invalid", log_verbs.LOG, reads, forget_before=tomorrow)


def forget_as_the_api(settings, days):
    api = replace(settings, database={**settings.database, "user": "cbm_web"})
    with closing(database.connect(api)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SELECT cbm.forget_reads(%s)", (days,))
        return cursor.fetchone()[0]


def test_the_api_forgets_what_is_old_only(reads, admin):
    with pytest.raises(psycopg2.errors.InvalidParameterValue):
        forget_as_the_api(reads, 29)
    assert forget_as_the_api(reads, 401) == 0
    assert forget_as_the_api(reads, 30) == 1
    assert len(run(log_verbs.LOG, reads).result["reads"]) == 3
    assert sql(admin, "SELECT count(*) FROM cbm.audit WHERE action = 'dataset add'") == [(1,)]


def test_on_the_command_line(world, password, monkeypatch, tmp_path, capsys):
    lines = [f'{key} = "{value}"' for key, value in world.database.items()]
    config = tmp_path / "cbm.toml"
    config.write_text("\n".join(["[database]", *lines, "[database.owner]", 'user = "cbm_admin"']))
    monkeypatch.setenv("CBM_CONFIG", str(config))

    def cbm(*words):
        assert cli.main(list(words)) == 0
        return capsys.readouterr().out

    cbm("user", "add", "anna", "--password-file", password(), "--datasets", "ie:2024")
    cbm("user", "grant", "anna", "nl:2023", "ie:2024")
    token = cbm("user", "token", "add", "anna", "laptop", "--days", "1").splitlines()[0]
    assert token.startswith("cbm_")
    assert "reads: ie:2024, nl:2023" in cbm("user", "list")
    assert "worthless" in cbm("user", "token", "revoke", "anna", "laptop")
    assert cbm("user", "log") == "Nobody read anything like that.\n"
    assert cli.main(["user", "add", "no:colon"]) == 1
