"""The settings file."""

import pytest

from cbm_core import settings
from cbm_core.errors import CbmError


def write(tmp_path, text):
    path = tmp_path / "cbm.toml"
    path.write_text(text)
    return path


def test_owner_section_overrides_the_common_one(tmp_path):
    loaded = settings.load(
        write(tmp_path, '[database]\nuser = "a"\nport = 5433\n[database.owner]\nuser = "b"\n')
    )
    assert loaded.connection("ingest") == {"user": "a", "port": "5433"}
    assert loaded.connection("owner") == {"user": "b", "port": "5433"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[database", "not valid TOML"),
        ('[database]\npassword = "secret"\n', "password"),
        ("[databse]\n", "databse"),
        ("[database.owner]\nnmae = 1\n", "nmae"),
        ('[storage]\nendpiont = "https://s3.example"\n', "endpiont"),
        ('[storage]\nendpoint = "s3.example"\n', "https://host"),
        ('[storage]\nendpoint = "https://s3.example/bucket"\n', "https://host"),
        ('[storage]\nendpoint = "https://me:secret@s3.example"\n', "credentials_file"),
        ('[storage]\nvirtual_hosting = "no"\n', "true or false"),
        ("[storage]\nstaging_limit_mb = -1\n", "staging_limit_mb"),
        ("[storage]\nstaging_limit_mb = 1.5\n", "a whole number"),
        ('[api]\ncors_origins = "https://a.example https://b.example/"\n', "b.example/"),
        ('[api]\ncors_origins = "*"\n', "https://host"),
        ('[api]\ncors_origins = "https://me:secret@a.example"\n', "https://host"),
        ("[api]\ntrusted_proxies = -1\n", "trusted_proxies"),
        ("[api]\nrequests_per_minute = 0\n", "requests_per_minute"),
        ("[api]\nrequests_at_once = 0\n", "requests_at_once"),
        ("[api]\nread_log_days = 7\n", "30 or more"),
        ('[api]\noidc_issuer = "https://login.example"\n', "all three or none"),
    ],
)
def test_wrong_files_are_refused_by_name(tmp_path, text, expected):
    with pytest.raises(CbmError, match=expected) as caught:
        settings.load(write(tmp_path, text))
    assert caught.value.code == "config_invalid"
    assert "secret" not in str(caught.value)


def test_without_a_file_libpq_environment_serves(monkeypatch, tmp_path):
    monkeypatch.delenv("CBM_CONFIG", raising=False)
    monkeypatch.setattr(settings, "DEFAULT_CONFIG", tmp_path / "none.toml")
    assert settings.load() == settings.Settings()


def test_storage_section(tmp_path):
    loaded = settings.load(
        write(
            tmp_path,
            '[storage]\nendpoint = "https://s3.example:8333/"\nvirtual_hosting = false\n'
            'credentials_file = "/etc/cbm/s3"\nstaging_limit_mb = 0\n',
        )
    )
    assert loaded.storage.endpoint == "https://s3.example:8333/"
    assert (loaded.storage.virtual_hosting, loaded.storage.staging_limit_mb) == (False, 0)
    assert loaded.storage.profile == "default"


def test_api_section(tmp_path):
    loaded = settings.load(
        write(
            tmp_path,
            '[api]\ncors_origins = "https://a.example https://b.example:8443"\n'
            'read_log_days = 0\noidc_issuer = "i"\noidc_audience = "a"\noidc_jwks = "/keys"\n',
        )
    )
    assert loaded.api.cors_origins.split() == ["https://a.example", "https://b.example:8443"]
    assert (loaded.api.oidc_jwks, loaded.api.oidc_claim) == ("/keys", "sub")
