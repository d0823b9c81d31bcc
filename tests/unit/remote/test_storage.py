"""Which storage `s3://` means: addresses, keys, and credentials files that are refused."""

import os

import pytest

from cbm_core.errors import CbmError
from cbm_core.remote import storage
from cbm_core.settings import StorageSettings

KEYS = "aws_access_key_id = AKIAX\naws_secret_access_key = very-secret-word\n"
HREF = "s3://bucket/a/b.jp2"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch, tmp_path):
    """An environment without AWS's variables and files."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def credentials(tmp_path, text=f"[default]\n{KEYS}", mode=0o600):
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("virtual", "start"),
    [
        (False, "https://s3.example/bucket/a/b.jp2?"),
        (True, "https://bucket.s3.example/a/b.jp2?"),
    ],
)
def test_links_follow_the_addressing_style(tmp_path, virtual, start):
    settings = StorageSettings(
        endpoint="https://s3.example",
        virtual_hosting=virtual,
        credentials_file=credentials(tmp_path),
    )
    link = storage.link(HREF, settings)
    assert link.startswith(start)
    assert "X-Amz-Signature" in link
    assert "very-secret-word" not in link


def test_settings_are_preferred_to_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "elsewhere.example")
    monkeypatch.setenv("AWS_REGION", "elsewhere")
    settings = StorageSettings(
        endpoint="https://eodata.example:8443/",
        region="waw",
        credentials_file=credentials(tmp_path, f"[cdse]\n{KEYS}"),
        profile="cdse",
    )
    link = storage.link(HREF, settings)
    assert link.startswith("https://bucket.eodata.example:8443/a/b.jp2?")
    assert "Credential=AKIAX%2F" in link
    assert "%2Fwaw%2Fs3%2F" in link


def test_without_settings_the_environment_serves(monkeypatch):
    monkeypatch.setenv("AWS_S3_ENDPOINT", "h:9000")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    with pytest.raises(CbmError) as caught:
        storage.link(HREF, StorageSettings())
    assert caught.value.code == "raster_forbidden"
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert storage.link(HREF, StorageSettings()) == "http://h:9000/bucket/a/b.jp2"
    monkeypatch.delenv("AWS_NO_SIGN_REQUEST")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "waw")
    link = storage.link(HREF, StorageSettings())
    assert link.startswith("http://h:9000/bucket/a/b.jp2?")
    assert "Credential=AKIAENV%2F" in link
    assert "%2Fwaw%2Fs3%2F" in link


def test_replaced_keys_are_noticed(tmp_path):
    settings = StorageSettings(
        endpoint="https://s3.example", credentials_file=credentials(tmp_path)
    )
    assert "Credential=AKIAX%2F" in storage.link(HREF, settings)
    credentials(tmp_path, f"[default]\n{KEYS}".replace("AKIAX", "AKIANEW"))
    os.utime(settings.credentials_file, ns=(1, 1))  # clocks of files are coarse
    assert "Credential=AKIANEW%2F" in storage.link(HREF, settings)


def test_credentials_file_readable_by_others_is_refused(tmp_path):
    for mode in (0o604, 0o644, 0o606):
        with pytest.raises(CbmError) as caught:
            storage.check(StorageSettings(credentials_file=credentials(tmp_path, mode=mode)))
        assert caught.value.code == "credentials_exposed"
        assert f"{mode:04o}" in caught.value.message
    storage.check(StorageSettings(credentials_file=credentials(tmp_path, mode=0o640)))


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("", "default"),
        (f"[other]\n{KEYS}", "default"),
        (f"[default]\n{KEYS}", "other"),
        ("[default]\naws_access_key_id = AKIAX\n", "default"),
        ("[default]\naws_access_key_id = AKIAX\naws_secret_access_key =\n", "default"),
        (KEYS, "default"),
        (f"[default]\n{KEYS}{KEYS}", "default"),
    ],
)
def test_unusable_credentials_are_refused_without_showing_them(tmp_path, text, profile):
    with pytest.raises(CbmError) as caught:
        storage.check(
            StorageSettings(credentials_file=credentials(tmp_path, text), profile=profile)
        )
    assert caught.value.code == "credentials_invalid"
    assert f"[{profile}]" in caught.value.message
    assert "very-secret-word" not in str(caught.value)
    assert "AKIAX" not in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(CbmError) as caught:
        storage.check(StorageSettings(credentials_file=str(tmp_path / "none")))
    assert caught.value.code == "credentials_missing"
    with pytest.raises(CbmError) as caught:
        storage.check(StorageSettings(ca_file=str(tmp_path / "none.pem")))
    assert caught.value.code == "ca_file_missing"
