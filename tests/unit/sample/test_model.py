"""The model behind the sample: field pattern, phenology, calendar, sky."""

import numpy as np
import pytest
import shapely

from cbm_core.errors import CbmError
from cbm_extract.sample import crops, fields, season, sky

BOUNDS = (651_200.0, 5_376_960.0, 653_760.0, 5_379_520.0)


@pytest.mark.parametrize("seed", range(4))
def test_fields_are_valid_as_many_as_asked_for_and_hold_the_odd_cases(seed):
    made = fields.make_fields(np.random.default_rng(seed), BOUNDS, 60)

    assert len(made.geometries) == len(made.kinds) == 60
    assert shapely.is_valid(made.geometries).all()
    by_kind = {
        kind: [g for g, k in zip(made.geometries, made.kinds, strict=True) if k == kind]
        for kind in set(made.kinds)
    }
    box = shapely.box(*BOUNDS)
    assert all(shapely.get_num_interior_rings(hole) == 1 for hole in by_kind["hole"])
    assert all(shapely.get_num_geometries(parts) == 2 for parts in by_kind["parts"])
    assert all(tiny.area < 100 for tiny in by_kind["tiny"])
    assert all(
        edge.crosses(box.exterior) or edge.intersects(box.exterior) for edge in by_kind["edge"]
    )
    assert all(outside.disjoint(box) for outside in by_kind["outside"])
    for copy in by_kind["duplicate"]:
        assert sum(copy.equals(other) for other in made.geometries) == 2
    for field in by_kind["plain"]:
        assert box.contains(field)
        assert 0.05e4 <= field.area <= 20.5e4


def test_plain_fields_hardly_overlap_and_the_odd_ones_do():
    made = fields.make_fields(np.random.default_rng(3), BOUNDS, 60)
    tree = shapely.STRtree(made.geometries)
    left, right = tree.query(made.geometries, predicate="intersects")
    areas = {"plain": 0.0, "overlap": 0.0}
    for one, other in zip(left, right, strict=True):
        if one < other:
            kinds = {made.kinds[one], made.kinds[other]}
            area = made.geometries[one].intersection(made.geometries[other]).area
            if kinds == {"plain"}:
                areas["plain"] = max(areas["plain"], area)
            elif "overlap" in kinds:
                areas["overlap"] = max(areas["overlap"], area)
    assert areas["plain"] < 20  # slivers along a bent common boundary, m2
    assert areas["overlap"] > 500


def test_too_many_parcels_for_the_area_are_refused():
    with pytest.raises(CbmError) as caught:
        fields.make_fields(np.random.default_rng(0), BOUNDS, 2000)
    assert caught.value.code == "sample_too_dense"
    assert "2000 parcels" in caught.value.message


def _stand(code: str, cuts: list[float] | None = None) -> crops.Stand:
    index = [crop.code for crop in crops.CROPS].index(code)
    days = np.full((1, crops.CUTS_MAX), np.nan)
    days[0, : len(cuts or [])] = cuts or []
    one = np.ones(1)
    return crops.Stand(np.array([index]), one * 0, one, one, days)


def _ndvi(stand: crops.Stand, day: float) -> float:
    return float(crops.ndvi(stand.reflectance(day))[0])


@pytest.mark.parametrize(
    ("code", "green_day", "bare_day"),
    [
        ("115", 135, 240),  # wheat: mid May, after harvest at the end of July
        ("411", 215, 110),  # maize: August, before sowing
        ("603", 220, 100),  # sugar beet
        ("311", 150, 225),  # rapeseed after flowering
    ],
)
def test_crops_are_green_and_bare_when_they_should_be(code, green_day, bare_day):
    assert _ndvi(_stand(code), green_day) > 0.78
    assert _ndvi(_stand(code), bare_day) < 0.35


def test_rapeseed_in_flower_is_yellow():
    def ratio(day: float) -> float:
        values = _stand("311").reflectance(day)[0]
        return values[crops.BANDS.index("B04")] / values[crops.BANDS.index("B02")]

    assert ratio(122) > 1.5 * ratio(150)


def test_grass_falls_at_a_mowing_and_comes_back():
    mown, left = _stand("451", [150.0]), _stand("451")
    assert _ndvi(mown, 149) == _ndvi(left, 149)
    assert _ndvi(mown, 151) < _ndvi(left, 151) - 0.25
    assert _ndvi(mown, 195) == pytest.approx(_ndvi(left, 195), abs=0.02)


def test_mowings_are_in_order_in_season_and_only_on_grass():
    stand = crops.make_stand(np.random.default_rng(5), 3000)
    for index, cuts in zip(stand.crop, stand.cuts, strict=True):
        days = cuts[~np.isnan(cuts)]
        low, high = crops.CROPS[index].cuts
        assert low <= len(days) <= high
        assert (np.diff(days) >= 28).all()
        assert ((days > 95) & (days < 290)).all()
    meadow = [crop.code for crop in crops.CROPS].index("451")
    assert {int((~np.isnan(cuts)).sum()) for cuts in stand.cuts[stand.crop == meadow]} >= {1, 2, 3}


def test_every_crop_grows_somewhere_and_shares_add_up():
    assert sum(crop.share for crop in crops.CROPS) == pytest.approx(1.0)
    assert set(crops.make_stand(np.random.default_rng(0), 40).crop) == set(range(len(crops.CROPS)))


@pytest.mark.parametrize("count", [4, 7, 30, season.PASSES])
def test_season_has_its_oddities_whatever_its_length(count):
    made = season.make_season(np.random.default_rng(1), count)
    assert len(made) == len({taken.day for taken in made}) == count
    assert [taken.day for taken in made] == sorted(taken.day for taken in made)
    twice = [taken for taken in made if len(taken.products) == 2]
    assert len(twice) == 1
    assert [(p.baseline, p.superseded) for p in twice[0].products] == [
        ("N0300", True),
        ("N0500", False),
    ]
    assert sum(taken.edge for taken in made) == 1
    assert [taken.missing for taken in made if taken.missing] == [("B11",)]
    assert {p.baseline for taken in made for p in taken.products} == {"N0300", "N0500"}
    assert all((p.offset == -1000) == (p.baseline == "N0500") for t in made for p in t.products)


def test_sun_stands_where_almanacs_have_it():
    # Bavaria, about 10:27 UTC: near solstice a little before noon and high, in March at about 33.
    made = season.make_season(np.random.default_rng(1), season.PASSES)
    by_day = {taken.day.isoformat(): taken.sun for taken in made}
    assert by_day["2021-06-20"][1] == pytest.approx(62.5, abs=1.0)
    assert by_day["2021-03-22"][1] == pytest.approx(40.5, abs=1.0)
    assert all(140 < azimuth < 180 for azimuth, _ in by_day.values())


def test_sky_does_to_reflectance_only_what_its_classes_say():
    taken = season.Acquisition(
        0,
        season.FIRST_PASS,
        "A",
        cloud_share=0.3,
        cirrus_share=0.2,
        edge=False,
        missing=(),
        products=(),
    )
    made = sky.make_sky(np.random.default_rng(2), taken, 128)
    clear = made.classes == 0
    assert (made.opacity[clear] == 0).all()
    assert (made.veil[clear] == 0).all()
    assert (made.light[clear] == 1).all()
    assert (made.light[made.classes == sky.SHADOW] < 1).all()
    assert np.isin(made.classes, (8, 9)).mean() == pytest.approx(0.3, abs=0.01)
    assert (made.classes == sky.CIRRUS).any()
    assert (made.opacity[made.classes == 9] > made.opacity[made.classes == 8].max()).all()


def test_shadows_fall_away_from_the_sun():
    rows, columns = sky._shadow_shift((160.0, 45.0))
    assert rows < 0  # north of the cloud
    assert columns < 0  # and west, as the sun stands a little east of south
    assert np.hypot(rows, columns) * sky.PIXEL_M == pytest.approx(1100, abs=25)
