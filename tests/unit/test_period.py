"""What the parameter ``datetime`` means."""

from datetime import UTC, datetime

import pytest

from cbm_api import period
from cbm_core.errors import CbmError

FIRST, LAST = period.parse(None).start, period.parse(None).end


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024-05-01", at(2024, 5, 1), at(2024, 5, 2)),
        ("2024-05-01/2024-05-31", at(2024, 5, 1), at(2024, 6, 1)),
        ("2024-05-01/..", at(2024, 5, 1), LAST),
        ("2024-05-01/", at(2024, 5, 1), LAST),
        ("../2024-12-31", FIRST, at(2025, 1, 1)),
        ("/2024-12-31T10:00:00Z", FIRST, at(2024, 12, 31, 10, 0, 0, 1)),
        ("2024-05-01T10:30:00Z", at(2024, 5, 1, 10, 30), at(2024, 5, 1, 10, 30, 0, 1)),
        ("2024-05-01t12:30:00.5+02:00/..", at(2024, 5, 1, 10, 30, 0, 500_000), LAST),
        ("2024-05-01T10:30/2024-05-01", at(2024, 5, 1, 10, 30), at(2024, 5, 2)),
    ],
)
def test_periods(text, start, end):
    assert period.parse(text) == period.Period(start, end)


@pytest.mark.parametrize(
    "text",
    ["", "..", "/", "../..", "2024", "2024-5-1", "2024-02-30", "2024-W01-1", "20240501", "now",
     "2024-05-02/2024-05-01", "2024-05-01/2024-05-02/2024-05-03", "1899-12-31", "3000-01-01",
     "2024-05-01T25:00:00Z", "2024-05-01T10:00:00+99:99", " 2024-05-01", "2024-05-01\0",
     "٢٠٢٤-05-01"],
)  # fmt: skip
def test_what_is_none(text):
    with pytest.raises(CbmError) as caught:
        period.parse(text)
    assert caught.value.code == "bad_parameter"
