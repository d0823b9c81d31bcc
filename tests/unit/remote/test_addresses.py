"""What messages show of addresses."""

import pytest

from cbm_core.remote.addresses import shown


@pytest.mark.parametrize(
    ("href", "told"),
    [
        ("https://user:SECRET@host/x.tif?y", "https://host/x.tif"),
        ("https://user:SECR@ET@host:8443/a@b/x.tif?sig=SECRET", "https://host:8443/a@b/x.tif"),
        ("/vsicurl/https://user:SECRET@host/x.tif?y", "/vsicurl/https://host/x.tif"),
        ("HTTPS://user:SECRET@host/x.tif?sig=SECRET", "HTTPS://host/x.tif"),
        ("ftp://user:SECRET@host/x.tif", "ftp://host/x.tif"),
        ("s3://bucket/key@2.tif?sig=SECRET", "s3://bucket/key@2.tif"),
        ("/vsis3/bucket/key.tif?sig=SECRET", "/vsis3/bucket/key.tif"),
        ("zip+https://user:SECRET@host/a.zip?sig=SECRET!/x.tif", "zip+https://host/a.zip!/x.tif"),
        ("zip+https://host/a.zip!/x.tif?sig=SECRET", "zip+https://host/a.zip!/x.tif"),
    ],
)
def test_no_login_and_no_query_is_shown(href, told):
    assert shown(href) == told


@pytest.mark.parametrize(
    "path", ["/data/what?/me@home/x.tif", "x?.tif", "zip:///data/what?/a@b.zip!/x.tif"]
)
def test_local_paths_are_shown_whole(path):
    assert shown(path) == path
