"""Requests that are answered with a file: in line, worked on, downloaded, deleted, lost."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cbm_api.app import create_app
from cbm_api.jobs import worker
from cbm_api.queries import jobs, selection
from cbm_api.routes import bulk
from cbm_core.errors import CbmError
from tests.api.stored import random_rows
from tests.factories import add_dataset, add_parcels, add_product, add_scene, sql, square

pytestmark = pytest.mark.postgis

PATH = "/v1/collections/tt_2024/signatures"
# Longitude and latitude around all parcels.
EVERYWHERE = [[10, 47], [11, 47], [11, 48], [10, 48], [10, 47]]


@pytest.fixture
def settings(db, tmp_path):
    return replace(
        db,
        database={**db.database, "user": "cbm_web"},
        api=replace(db.api, jobs_folder=str(tmp_path / "jobs")),
    )


@pytest.fixture
def app(settings):
    made = create_app(settings)
    yield made
    made.extensions["cbm_database"].close()


@pytest.fixture
def owner(db):
    return replace(db, database={**db.database, "user": "cbm_admin"})


@pytest.fixture
def dataset(db, monkeypatch) -> int:
    """Six parcels with four scenes; more than three make a job, which reads them by twos."""
    monkeypatch.setattr(bulk, "MOST_PARCELS", 3)
    monkeypatch.setattr(worker, "CHUNK", 2)
    made = add_dataset(db)
    geometries = add_parcels(db, made, [square(600_000 + 200 * n, 5_300_000) for n in range(6)])
    first = datetime(2024, 5, 1, 10, tzinfo=UTC)
    scenes = [
        add_scene(db, {}, reference=f"s{n}", obstime=first + timedelta(days=n)) for n in range(4)
    ]
    random_rows(db, made, geometries, add_product(db, variables=("B04", "B08")), scenes)
    return made


@pytest.fixture
def do_next(app, settings):
    return lambda: worker.do_next(settings, app.extensions["cbm_database"])


def folder(settings) -> Path:
    return Path(settings.api.jobs_folder)


def test_from_request_to_file(asking, dataset, do_next, monkeypatch):
    anna = asking("anna", dataset)
    body = {"bands": ["B04"], "statistics": ["mean", "count"]}
    accepted = anna.post(PATH, body)
    assert accepted.status_code == 202
    where = accepted.headers["Location"]
    assert accepted.json["state"] == anna.get(where).json["state"] == "pending"
    assert accepted.json["parcels"] is None
    result = f"{where}/result"
    early = anna.get(result)
    assert (early.status_code, early.json["code"]) == (404, "not_found")

    assert do_next() and not do_next()
    job = anna.get(where).json
    assert (job["state"], job["parcels"], job["parcels_done"]) == ("done", 6, 6)
    assert job["result"] == result
    assert anna.get("/v1/jobs").json["jobs"] == [job]
    found = anna.get(result)
    assert found.content_type == "application/vnd.apache.parquet"
    assert len(found.data) == job["bytes"]
    table = pq.read_table(io.BytesIO(found.data))
    monkeypatch.setattr(bulk, "MOST_PARCELS", 10)
    assert table.equals(pa.ipc.open_stream(anna.post(PATH, body, f="arrow").data).read_all())
    assert table.num_rows == job["rows"] > 6

    part = anna.client.get(result, headers={**anna.headers, "Range": "bytes=0-3"})
    assert (part.status_code, part.data) == (206, b"PAR1")


def test_jobs_are_their_users_own(asking, dataset, do_next, app, owner):
    anna, bert = asking("anna", dataset), asking("bert", dataset)
    where = anna.post(PATH, {}).json["id"]
    do_next()
    for path in (f"/v1/jobs/{where}", f"/v1/jobs/{where}/result"):
        assert anna.get(path).status_code == 200
        refused = bert.get(path)
        assert (refused.status_code, refused.json["code"]) == (404, "job_unknown")
        assert app.test_client().get(path).status_code == 401
    assert bert.get("/v1/jobs").json == {"jobs": []}
    assert bert.client.delete(f"/v1/jobs/{where}", headers=bert.headers).status_code == 404
    # With the grant goes what was made while it lasted.
    sql(owner, "DELETE FROM cbm.dataset_grant WHERE grantee = 'anna'")
    assert anna.get(f"/v1/jobs/{where}/result").status_code == 404


def test_a_deleted_job_and_its_file_are_gone(asking, dataset, do_next, settings):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    do_next()
    assert len(list(folder(settings).iterdir())) == 1
    assert anna.client.delete(where, headers=anna.headers).status_code == 204
    assert list(folder(settings).iterdir()) == []
    assert anna.get(where).status_code == 404


def test_a_job_deleted_while_it_is_worked_on_leaves_nothing(
    asking, dataset, do_next, settings, monkeypatch
):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    read = worker.table.read

    def deleting(*given):
        anna.client.delete(where, headers=anna.headers)
        return read(*given)

    monkeypatch.setattr(worker.table, "read", deleting)
    with pytest.raises(CbmError, match="not this process's"):
        do_next()
    assert list(folder(settings).iterdir()) == []


def test_a_killed_worker_s_job_is_done_by_the_next(
    asking, dataset, do_next, monkeypatch, owner, settings
):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    advance = jobs.advance

    def dying(*given):
        advance(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(jobs, "advance", dying)
        do_next()
    assert anna.get(where).json["state"] == "running"
    assert not do_next()
    # A process that is killed leaves its half file, too.
    (folder(settings) / f"{where.rpartition('/')[2]}.parquet.7").touch()
    sql(owner, "UPDATE cbm.api_job SET lease_until = now() - interval '1 s'")
    assert do_next()
    assert anna.get(where).json["state"] == "done"
    assert len(list(folder(settings).iterdir())) == 1
    assert pq.read_table(io.BytesIO(anna.get(f"{where}/result").data)).num_rows > 6


def test_a_worker_that_slept_past_its_lease_writes_nothing(
    asking, dataset, do_next, monkeypatch, owner, settings
):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    finish = jobs.finish

    def asleep(*given):
        monkeypatch.setattr(jobs, "finish", finish)
        sql(owner, "UPDATE cbm.api_job SET lease_until = now() - interval '1 s'")
        assert do_next()
        finish(*given)

    monkeypatch.setattr(jobs, "finish", asleep)
    with pytest.raises(CbmError, match="not this process's"):
        do_next()
    assert anna.get(where).json["state"] == "done"
    assert [file.suffix for file in folder(settings).iterdir()] == [".parquet"]


def test_a_job_that_is_begun_three_times_in_vain_fails(asking, dataset, do_next, owner):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    sql(
        owner,
        """UPDATE cbm.api_job SET state = 'running', token = 1, attempts = 3,
             lease_until = now() - interval '1 s'""",
    )
    assert not do_next()
    job = anna.get(where).json
    assert (job["state"], job["error_code"]) == ("failed", "worker_lost")
    # Also where it was the database that was busy each time: nobody is blamed.
    assert job["error"] == "It could not be finished in three attempts."


def test_a_folder_that_cannot_be_written_fails_the_job(asking, dataset, do_next, settings):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    folder(settings).write_text("no folder")
    assert do_next()
    job = anna.get(where).json
    assert (job["state"], job["error_code"]) == ("failed", "cannot_write")


def test_a_disk_that_fills_up_fails_the_job(asking, dataset, do_next, settings, monkeypatch):
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9, total=100))
    assert do_next()
    job = anna.get(where).json
    assert (job["state"], job["error_code"]) == ("failed", "disk_full")
    assert list(folder(settings).iterdir()) == []


def test_only_so_many_at_once(asking, dataset):
    anna = asking("anna", dataset)
    for _ in range(jobs.MOST_OPEN):
        assert anna.post(PATH, {}).status_code == 202
    refused = anna.post(PATH, {})
    assert (refused.status_code, refused.json["code"]) == (429, "too_many_requests")
    assert refused.headers["Retry-After"] == "60"


@pytest.mark.parametrize("body", [{}, {"polygon": "all of them"}, {"pids": "all of them"}], ids=str)
def test_no_more_is_looked_up_than_tells_that_it_is_a_job(asking, dataset, monkeypatch, body):
    """One who asks for a country is not answered with a country's ids in memory."""
    monkeypatch.setattr(selection, "PIECE", 2)
    pieces = []
    real = selection.Selection._pieces

    def counted(*given):
        for piece in real(*given):
            pieces.append(len(piece))
            yield piece

    monkeypatch.setattr(selection.Selection, "_pieces", counted)
    if "pids" in body:
        body = {"pids": [f"p{n}" for n in range(6)]}
    if "polygon" in body:
        body = {"polygon": {"type": "Polygon", "coordinates": [EVERYWHERE]}}
    anna = asking("anna", dataset)
    accepted = anna.post(PATH, body)
    assert accepted.status_code == 202
    assert sum(pieces) <= (6 if "pids" in body else 4)


@pytest.mark.parametrize("body", [{}, {"pids": ["p0", "p1", "p2", "p3"]}], ids=str)
def test_who_has_too_many_jobs_is_refused_before_parcels_are_looked_up(
    asking, dataset, monkeypatch, body
):
    anna = asking("anna", dataset)
    for _ in range(jobs.MOST_OPEN):
        assert anna.post(PATH, body).status_code == 202
    looked_up = []
    monkeypatch.setattr(selection.Selection, "_pieces", lambda *_: looked_up.append(1) or iter(()))
    assert anna.post(PATH, body).status_code == 429
    assert not looked_up
    assert anna.post(PATH, {"pids": ["p0"]}).status_code == 200


def test_the_worker_reads_ids_piece_by_piece(asking, dataset, do_next, monkeypatch):
    monkeypatch.setattr(selection, "PIECE", 2)
    anna = asking("anna", dataset)
    area = {"type": "Polygon", "coordinates": [EVERYWHERE]}
    tables = []
    for body in ({}, {"polygon": area}, {"pids": [f"p{n}" for n in range(6)]}):
        where = anna.post(PATH, body).headers["Location"]
        assert do_next()
        tables.append(pq.read_table(io.BytesIO(anna.get(f"{where}/result").data)))
    assert tables[0].num_rows > 6
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


@pytest.mark.parametrize("shut_out", ["UPDATE cbm.api_user SET disabled_at = now()",
                                      "DELETE FROM cbm.dataset_grant"])  # fmt: skip
def test_jobs_and_files_of_who_is_shut_out_are_dropped(
    asking, dataset, do_next, app, settings, owner, shut_out
):
    anna, bert = asking("anna", dataset), asking("bert", dataset)
    for user in (anna, anna, bert):
        assert user.post(PATH, {}).status_code == 202
    assert do_next() and len(list(folder(settings).iterdir())) == 1
    name = "name" if "api_user" in shut_out else "grantee"
    sql(owner, f"{shut_out} WHERE {name} = 'anna'")
    # What she has in line is refused at once, and hers goes.
    assert do_next() and not do_next()
    worker.tidy(settings, app.extensions["cbm_database"])
    assert sql(owner, "SELECT user_name, state FROM cbm.api_job") == [("bert", "done")]
    ((left,),) = sql(owner, "SELECT id::text FROM cbm.api_job")
    assert [file.name for file in folder(settings).iterdir()] == [f"{left}.parquet"]


def test_a_job_whose_user_is_disabled_meanwhile_leaves_nothing(
    asking, dataset, do_next, settings, owner, monkeypatch
):
    anna = asking("anna", dataset)
    anna.post(PATH, {})
    read = worker.table.read

    def disabling(*given):
        sql(owner, "UPDATE cbm.api_user SET disabled_at = now()")
        return read(*given)

    monkeypatch.setattr(worker.table, "read", disabling)
    with pytest.raises(CbmError, match="not this process's"):
        do_next()
    assert list(folder(settings).iterdir()) == []


def test_the_process_tidies_works_and_stops(asking, dataset, settings, owner):
    anna = asking("anna", dataset)
    folder(settings).mkdir()
    old = anna.post(PATH, {}).json["id"]
    (folder(settings) / f"{old}.parquet").touch()
    (folder(settings) / "11111111-1111-1111-1111-111111111111.parquet.7").touch()
    sql(
        owner,
        "UPDATE cbm.api_job SET state = 'done', expires_at = now() - interval '1 s'",
    )
    new = anna.post(PATH, {}).json["id"]
    stop = threading.Event()
    thread = threading.Thread(target=worker.work, args=(settings, stop))
    thread.start()
    while anna.get(f"/v1/jobs/{new}").json["state"] != "done":
        assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert [file.name for file in folder(settings).iterdir()] == [f"{new}.parquet"]
    assert anna.get(f"/v1/jobs/{old}").status_code == 404


def test_the_process_that_operators_run(asking, dataset, settings, tmp_path):
    database = "\n".join(
        f"{name} = {json.dumps(value)}" for name, value in settings.database.items()
    )
    config = tmp_path / "cbm.toml"
    config.write_text(
        f"[database]\n{database}\n[api]\njobs_folder = {json.dumps(settings.api.jobs_folder)}\n"
    )
    anna = asking("anna", dataset)
    where = f"/v1/jobs/{anna.post(PATH, {}).json['id']}"
    environment = {**os.environ, "CBM_CONFIG": str(config)}
    process = subprocess.Popen([sys.executable, "-m", "cbm_api.jobs"], env=environment)
    try:
        until = time.monotonic() + 60
        while anna.get(where).json["state"] != "done":
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_purge_takes_the_jobs_along(asking, dataset, do_next, owner, db):
    asking("anna", dataset).post(PATH, {})
    do_next()
    sql(db, "SELECT cbm.purge_dataset(%s::smallint)", dataset)
    assert sql(owner, "SELECT count(*) FROM cbm.api_job") == [(0,)]


def test_bad_ids(asking, dataset):
    anna = asking("anna", dataset)
    for given in ("x", "1'--", "%00", "..%2f..%2fetc%2fpasswd", "1" * 400):
        found = anna.get(f"/v1/jobs/{given}/result")
        assert found.status_code in (400, 404), given
