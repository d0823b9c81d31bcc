"""The roles write what the cluster is tested with."""

import json
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from tests.cluster import dask_config

ROLES = Path(__file__).parents[3] / "roles"
PKI = Path("/etc/some where/pki")


@pytest.mark.parametrize(
    ("role", "part"), [("cbm_dask_scheduler", "scheduler"), ("cbm_dask_worker", "worker")]
)
def test_the_roles_write_what_is_tested(role, part):
    environment = Environment(undefined=StrictUndefined, autoescape=False)
    environment.filters |= {"to_json": json.dumps, "comment": lambda text: f"# {text}"}
    text = (ROLES / role / "templates/dask.yaml.j2").read_text()
    given = {"ansible_managed": "managed", f"{role}_certificate_folder": str(PKI)}
    written = yaml.safe_load(environment.from_string(text).render(given))["distributed"]
    tested = dask_config(PKI)["distributed"]
    assert written == {"comm": tested["comm"], part: tested[part]}
