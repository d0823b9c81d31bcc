import datetime
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbm_core.errors import CbmError
from cbm_extract.parcels import mapping
from cbm_extract.parcels.mapping import Mapping, parse_id


def ids(rule: str, rows: int, stem="file", **columns):
    table = {name: pa.array(values) for name, values in columns.items()}
    return mapping.apply(Mapping(parse_id(rule)), table, rows, stem).pid.to_pylist()


def test_column_filename_and_expression():
    assert ids("column:a", 2, a=["x", "y"]) == ["x", "y"]
    assert ids("column:a:b", 1, **{"a:b": [7]}) == ["7"]
    assert ids("filename", 1, "Parzelle35") == ["Parzelle35"]
    assert ids("expression:{a}/{b}", 2, a=[1, 2], b=["x", "y"]) == ["1/x", "2/y"]
    assert ids("expression:LU-{a}", 1, a=[3]) == ["LU-3"]
    assert ids("expression:{{{a}}}", 1, a=[3]) == ["{3}"]
    assert ids("expression:{a}{a}", 1, a=["x"]) == ["xx"]


def test_blank_parts_make_no_id():
    assert ids("column:a", 4, a=["x", None, "", "  "]) == ["x", None, None, None]
    assert ids("expression:{a}-{b}", 3, a=["x", "x", "x"], b=["y", None, " "]) == [
        "x-y",
        None,
        None,
    ]
    assert ids("column:a", 2, a=[1.5, float("nan")]) == ["1.5", None]


@pytest.mark.parametrize(
    "rule",
    ["", "pid", "column:", "expression:", "expression:const", "expression:{a", "expression:a}",
     "expression:{}", "expression:{a}{b", "eval:1", "filename:x"],
)  # fmt: skip
def test_other_rules_are_refused(rule):
    with pytest.raises(ValueError, match=r"expected|names no column"):
        parse_id(rule)


@given(st.lists(st.tuples(st.text(max_size=5), st.sampled_from(["a", "b b", "ç"])), min_size=1))
def test_an_expression_is_plain_substitution(parts):
    escaped = [(text.replace("{", "{{").replace("}", "}}"), name) for text, name in parts]
    rule = "expression:" + "".join(f"{text}{{{name}}}" for text, name in escaped)
    values = {"a": ["1"], "b b": ["two"], "ç": ["III"]}
    expected = "".join(text + values[name][0] for text, name in parts)
    assert ids(rule, 1, **values) == [expected]


def test_numbers_and_dates_become_plain_text():
    def text(values, kind=None):
        return mapping.as_text(pa.array(values, kind), "c").to_pylist()

    assert text([106806035.0, 0.5, -3.0, None, float("inf")]) == [
        "106806035", "0.5", "-3", None, None,
    ]  # fmt: skip
    assert text([0.1], pa.float32()) == ["0.1"]
    assert text([2**62], pa.int64()) == [str(2**62)]
    assert text([True, None]) == ["true", None]
    assert text([datetime.date(2024, 5, 1)]) == ["2024-05-01"]
    assert text(["006"]) == ["006"]
    assert text(["x"], pa.large_string()) == ["x"]
    assert text(["x", "y"], pa.dictionary(pa.int8(), pa.string())) == ["x", "y"]


def test_values_without_a_text_form_are_refused():
    for values in (pa.array([b"x"]), pa.array([[1]]), pa.array([{"a": 1}])):
        with pytest.raises(CbmError, match="column c") as caught:
            mapping.as_text(values, "c")
        assert caught.value.code == "column_type"


def test_broken_text_is_refused():
    latin = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xe6")]
    )
    for values in (latin, pa.array(["a\x00b"])):
        with pytest.raises(CbmError) as caught:
            mapping.as_text(values, "c")
        assert caught.value.code == "encoding_invalid"


def test_attributes_keep_their_kinds():
    columns = {
        "n": pa.array([1, None]),
        "x": pa.array([0.5, float("nan")]),
        "yes": pa.array([True, False]),
        "tëxt": pa.array(['"q"', None]),
        "day": pa.array([datetime.date(2024, 5, 1), None]),
    }
    rule = Mapping(parse_id("column:n"), keep=tuple(columns))
    found = [json.loads(t) for t in mapping.apply(rule, columns, 2, "").attributes.to_pylist()]
    assert found == [
        {"n": 1, "x": 0.5, "yes": True, "tëxt": '"q"', "day": "2024-05-01"},
        {"n": None, "x": None, "yes": False, "tëxt": None, "day": None},
    ]


def test_missing_column_names_the_nearest():
    rule = Mapping(parse_id("column:Ident"), "crop_cod", None, ("a",))
    with pytest.raises(CbmError) as caught:
        rule.require(["IDENT", "crop_code", "a"])
    assert caught.value.code == "column_missing"
    assert "Did you mean IDENT" in caught.value.hint
    assert caught.value.details["missing"] == ["Ident", "crop_cod"]
    assert Mapping(parse_id("column:x"), keep=("y",)).dropped(["x", "y", "name"]) == ["name"]
