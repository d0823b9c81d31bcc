"""From settings to what boto3 looks at, and credentials files that are refused."""

import os

import pytest

from cbm_core.errors import CbmError
from cbm_core.settings import StorageSettings
from cbm_extract.read import storage

KEYS = "aws_access_key_id = AKIAX\naws_secret_access_key = very-secret-word\n"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment of its own, without AWS's variables."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return os.environ


def credentials(tmp_path, text=f"[default]\n{KEYS}", mode=0o600):
    path = tmp_path / "credentials"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_without_settings_the_environment_is_left_alone(environment):
    before = dict(environment)
    storage.configure(StorageSettings())
    assert environment == before


def test_settings_reach_the_environment(environment, tmp_path):
    environment["AWS_SECRET_ACCESS_KEY"] = "another"
    file = credentials(tmp_path, f"[cdse]\n{KEYS}")
    storage.configure(
        StorageSettings(
            endpoint="https://eodata.example:443/",
            region="default",
            virtual_hosting=False,
            credentials_file=file,
            profile="cdse",
        )
    )
    assert environment["AWS_S3_ENDPOINT"] == "eodata.example:443"
    assert environment["AWS_HTTPS"] == "YES"
    assert environment["AWS_VIRTUAL_HOSTING"] == "FALSE"
    assert environment["AWS_REGION"] == "default"
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == file
    assert environment["AWS_PROFILE"] == "cdse"
    # What is in the environment would be preferred to the file.
    assert "AWS_SECRET_ACCESS_KEY" not in environment


@pytest.mark.parametrize(
    ("virtual", "start"),
    [
        (False, "https://s3.example/bucket/a/b.jp2?"),
        (True, "https://bucket.s3.example/a/b.jp2?"),
    ],
)
def test_links_follow_the_addressing_style(monkeypatch, tmp_path, virtual, start):
    settings = StorageSettings(
        endpoint="https://s3.example",
        virtual_hosting=virtual,
        credentials_file=credentials(tmp_path),
    )
    monkeypatch.undo()  # boto3 needs the real environment
    for name, value in storage.environment(settings).items():
        monkeypatch.setenv(name, value)
    link = storage.link("s3://bucket/a/b.jp2")
    assert link.startswith(start)
    assert "X-Amz-Signature" in link
    assert "very-secret-word" not in link


def test_credentials_file_readable_by_others_is_refused(tmp_path):
    for mode in (0o604, 0o644, 0o606):
        with pytest.raises(CbmError) as caught:
            storage.configure(StorageSettings(credentials_file=credentials(tmp_path, mode=mode)))
        assert caught.value.code == "credentials_exposed"
        assert f"{mode:04o}" in caught.value.message
    storage.configure(StorageSettings(credentials_file=credentials(tmp_path, mode=0o640)))


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
        storage.configure(
            StorageSettings(credentials_file=credentials(tmp_path, text), profile=profile)
        )
    assert caught.value.code == "credentials_invalid"
    assert f"[{profile}]" in caught.value.message
    assert "very-secret-word" not in str(caught.value)
    assert "AKIAX" not in str(caught.value)


def test_missing_files(tmp_path):
    with pytest.raises(CbmError) as caught:
        storage.configure(StorageSettings(credentials_file=str(tmp_path / "none")))
    assert caught.value.code == "credentials_missing"
    with pytest.raises(CbmError) as caught:
        storage.configure(StorageSettings(ca_file=str(tmp_path / "none.pem")))
    assert caught.value.code == "ca_file_missing"
