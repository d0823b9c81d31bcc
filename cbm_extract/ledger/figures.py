"""What the ledger and the catalogue come to, as figures for Prometheus.

Everything here is read again every minute, at a ledger of a million items, too: items are counted
in an index, failed and running ones are few, and the newest scenes are looked for from the newest
on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from cbm_core import __version__
from cbm_core.db import Cursor, one_row
from cbm_extract.ledger.states import STATES

_Counts = dict[tuple[int, int], dict[str, int]]

# Compiling takes longer than what is compiled.
_UNCOMPILED = "SET LOCAL jit = off"

_DATASETS = """
SELECT d.id, d.aoi || ':' || d.year,
       (d.imagery_end + 1)::timestamp AT TIME ZONE 'UTC', max(p.compacted_at)
FROM cbm.dataset d LEFT JOIN cbm.signature_partition_state p ON p.dataset_id = d.id
WHERE d.purged_at IS NULL GROUP BY d.id ORDER BY 2"""

_PRODUCTS = """
SELECT id, name || CASE WHEN revision > 1 THEN '@' || revision ELSE '' END, card FROM cbm.product"""

_STATES = """
SELECT dataset_id, product_id, state, count(*) FROM cbm.work_item
GROUP BY dataset_id, product_id, state"""

# Few scenes are out of use, so they are what is begun with.
_OUT_OF_USE = """
SELECT w.dataset_id, w.product_id, w.state, s.state, count(*)
FROM cbm.scene s JOIN cbm.work_item w ON w.scene_id = s.id AND w.state IN ('pending', 'running')
WHERE s.state <> 'active' GROUP BY 1, 2, 3, 4"""

_FAILED = """
SELECT d.id, f.product, f.code, f.number
FROM cbm.dataset d CROSS JOIN LATERAL (
  SELECT w.product_id, coalesce(w.error_code, ''), count(*) FROM cbm.work_item w
  WHERE w.dataset_id = d.id AND w.state = 'failed' GROUP BY 1, 2) AS f (product, code, number)"""

_RUNNING = """
SELECT w.dataset_id, min(w.started_at), count(*) FILTER (WHERE w.lease_until < clock_timestamp())
FROM cbm.work_item w WHERE w.state = 'running' GROUP BY 1"""

_WORKERS = """
SELECT count(DISTINCT w.worker) FROM cbm.work_item w
WHERE w.state = 'running' AND w.lease_until >= clock_timestamp()"""

# Ids rise with time.
_LAST = """
SELECT (SELECT finished_at FROM cbm.run ORDER BY id DESC LIMIT 1),
       (SELECT added_at FROM cbm.scene ORDER BY id DESC LIMIT 1)"""

_NEWEST_OF_CARD = """
SELECT c.card, n.obstime
FROM (SELECT DISTINCT card FROM cbm.product) AS c CROSS JOIN LATERAL (
  SELECT s.obstime FROM cbm.scene s WHERE s.card = c.card AND s.state = 'active'
  ORDER BY s.obstime DESC LIMIT 1) AS n"""

# An index has each card's scenes by time; the ledger is asked scene by scene, until it says yes.
_NEWEST_OF_DATASET = """
SELECT d.id, a.card, a.stage, n.obstime
FROM unnest(%s::smallint[], %s::text[], %s::text[]) AS a (dataset_id, card, stage)
JOIN cbm.dataset d ON d.id = a.dataset_id
CROSS JOIN LATERAL (
  SELECT s.obstime FROM cbm.scene s
  WHERE s.card = a.card AND s.state = 'active'
    AND s.obstime >= d.imagery_start::timestamp AT TIME ZONE 'UTC'
    AND s.obstime < (d.imagery_end + 1)::timestamp AT TIME ZONE 'UTC'
    AND EXISTS (SELECT FROM cbm.work_item w
                WHERE w.scene_id = s.id AND w.dataset_id = d.id
                  AND (a.stage = 'enqueued' OR w.state = 'done'))
  ORDER BY s.obstime DESC LIMIT 1) AS n"""
_SCENE_BY_SCENE = """SELECT set_config('enable_' || method, 'off', true)
FROM unnest('{seqscan,bitmapscan,sort,hashjoin,mergejoin,material}'::text[]) AS method"""


def families(cursor: Cursor) -> Iterator[GaugeMetricFamily]:
    """Yield all figures; the transaction's planner settings are not those of others afterwards."""
    cursor.execute(_UNCOMPILED)
    cursor.execute(_DATASETS)
    datasets = cursor.fetchall()
    names = {row[0]: row[1] for row in datasets}
    yield _family(
        "cbm_extract_release", "1 for the installed release.", ("version",), [(__version__, 1)]
    )
    yield _family(
        "cbm_dataset_imagery_end_timestamp_seconds",
        "When the imagery of a dataset ends.",
        ("dataset",),
        ((name, at) for _, name, at, _ in datasets),
    )
    yield _family(
        "cbm_compaction_last_timestamp_seconds",
        "When a month of a dataset was last put in parcel order.",
        ("dataset",),
        ((name, at) for _, name, _, at in datasets),
    )
    cursor.execute(_PRODUCTS)
    products = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
    counts = _counts(cursor, names)
    yield from _items(cursor, counts, names, products)
    yield from _leases(cursor, names)
    yield from _catalogue(cursor)
    yield _newest(cursor, counts, names, products)


def _counts(cursor: Cursor, names: dict[int, str]) -> _Counts:
    """Return (dataset, product) -> state -> items."""
    counts: _Counts = {}
    cursor.execute(_STATES)
    for dataset, product, state, number in cursor.fetchall():
        if dataset in names:
            counts.setdefault((dataset, product), dict.fromkeys(STATES, 0))[state] = number
    cursor.execute(_OUT_OF_USE)
    for dataset, product, state, why, number in cursor.fetchall():
        if dataset in names:
            states = counts[dataset, product]
            states[state] -= number
            states[why] = states.get(why, 0) + number
    return counts


def _items(
    cursor: Cursor, counts: _Counts, names: dict[int, str], products: dict[int, tuple[str, str]]
) -> Iterator[GaugeMetricFamily]:
    yield _family(
        "cbm_ledger_items",
        "Work items; open ones of scenes that are out of use count under the scene's state.",
        ("dataset", "product", "state"),
        (
            (names[dataset], products[product][0], state, number)
            for (dataset, product), states in counts.items()
            for state, number in states.items()
        ),
    )
    cursor.execute(_FAILED)
    yield _family(
        "cbm_ledger_failed_items",
        "Failed work items by the code of their error.",
        ("dataset", "product", "code"),
        (
            (names[dataset], products[product][0], code, number)
            for dataset, product, code, number in cursor.fetchall()
            if dataset in names
        ),
    )


def _leases(cursor: Cursor, names: dict[int, str]) -> Iterator[GaugeMetricFamily]:
    cursor.execute(_RUNNING)
    running = {row[0]: row[1:] for row in cursor.fetchall()}
    yield _family(
        "cbm_ledger_oldest_lease_timestamp_seconds",
        "When the oldest item that is running was claimed.",
        ("dataset",),
        ((name, running.get(id_, (None, 0))[0]) for id_, name in names.items()),
    )
    yield _family(
        "cbm_ledger_expired_items",
        "Running items whose lease ran out: their workers fell silent, no other came.",
        ("dataset",),
        ((name, running.get(id_, (None, 0))[1]) for id_, name in names.items()),
    )
    cursor.execute(_WORKERS)
    yield _family("cbm_ledger_workers", "Processes that hold a live lease.", (), [one_row(cursor)])


def _catalogue(cursor: Cursor) -> Iterator[GaugeMetricFamily]:
    cursor.execute(_LAST)
    finished, added = one_row(cursor)
    yield _family(
        "cbm_run_last_timestamp_seconds", "When the latest item was done.", (), [(finished,)]
    )
    yield _family(
        "cbm_catalogue_added_timestamp_seconds",
        "When the latest scene was catalogued.",
        (),
        [(added,)],
    )
    cursor.execute(_SCENE_BY_SCENE)
    cursor.execute(_NEWEST_OF_CARD)
    yield _family(
        "cbm_catalogue_newest_scene_timestamp_seconds",
        "Acquisition of the newest scene in use.",
        ("card",),
        cursor.fetchall(),
    )


def _newest(
    cursor: Cursor, counts: _Counts, names: dict[int, str], products: dict[int, tuple[str, str]]
) -> GaugeMetricFamily:
    """Look where there is something: a dataset without an item would have all scenes looked at."""
    asked = {
        (dataset, products[product][1], stage)
        for (dataset, product), states in counts.items()
        for stage, some in (("enqueued", sum(states.values())), ("extracted", states["done"]))
        if some
    }
    cursor.execute(_SCENE_BY_SCENE)
    columns = [list(column) for column in zip(*sorted(asked), strict=True)] or [[], [], []]
    cursor.execute(_NEWEST_OF_DATASET, columns)
    return _family(
        "cbm_dataset_newest_scene_timestamp_seconds",
        "Acquisition of the newest scene in use that was enqueued, or extracted, for a dataset.",
        ("dataset", "card", "stage"),
        ((names[row[0]], *row[1:]) for row in cursor.fetchall()),
    )


def _family(name: str, text: str, labels: tuple[str, ...], rows: Any) -> GaugeMetricFamily:
    """Make one family of rows (label, ..., value); a row without a value is left out."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for *values, value in rows:
        if value is not None:
            number = value.timestamp() if isinstance(value, datetime) else float(value)
            family.add_metric(values, number)
    return family
