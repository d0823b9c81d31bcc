"""All kinds of requests at once for a while: nothing fails, and memory stays.

``benchmarks/api_soak.py`` does the same for ten minutes; with ``CBM_CHAOS_SEEDS`` it is a minute
here.
"""

import os
from dataclasses import replace

import pytest

from benchmarks import api_soak
from tests.api import busy

pytestmark = pytest.mark.postgis

# No more clients than a process has database sessions: nobody needs to be refused.
SECONDS, CLIENTS = (60 if "CBM_CHAOS_SEEDS" in os.environ else 30), 4
# Half a minute is short: buffers are still filled here and there.
GROWTH_MB = 2 * api_soak.GROWTH_MB


def test_mixed_load(busy_world, seaweed, tmp_path):
    settings, there = busy_world
    reading = replace(settings, storage=seaweed.settings(tmp_path))
    wishes = busy.wishes(there)
    # Time is not what is tested: a busy machine may take longer over images than users would wait.
    found = api_soak.soak(reading, wishes, tmp_path, SECONDS, CLIENTS, raster_seconds=60)
    assert not found.unexpected, found.unexpected[:5]
    assert {kind for kind, _, _ in found.statuses} == {wish.kind for wish in wishes}
    assert "Traceback" not in found.log
    assert found.growth <= GROWTH_MB, found.memory
