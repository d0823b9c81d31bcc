import numpy as np
import pytest

from cbm_extract.reduce.classes import as_classes, class_counts
from tests.unit.reduce.pixels import blobs, runs_of


def test_counts_are_numpys():
    rng = np.random.default_rng(0)
    masks = blobs(rng, 40, 60, 50)
    classes = rng.integers(0, 12, (60, 50)).astype(np.uint8)
    counts = class_counts(runs_of(masks), classes)
    assert counts.dtype == np.int64
    for k, mask in enumerate(masks):
        assert counts[k].tolist() == np.bincount(classes[mask], minlength=12).tolist()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (np.array([0, 4, 11, 12, 255], np.uint8), [0, 4, 11, 0, 0]),
        (np.array([-1, 4, 300], np.int16), [0, 4, 0]),
        (np.array([np.nan, np.inf, -np.inf, 4, 11, 12, -3], np.float32), [0, 0, 0, 4, 11, 0, 0]),
    ],
)
def test_what_is_no_class_is_no_data(raw, expected):
    classes = as_classes(raw)
    assert classes.tolist() == expected
    assert classes.dtype == np.uint8


def test_classes_of_another_raster_are_a_mistake():
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        class_counts(runs_of([np.ones((4, 4))]), np.zeros((3, 3), np.uint8))
