"""The command: same in, same out; safe to repeat, to interrupt, and with foreign folders."""

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from cbm_core.errors import CbmError
from cbm_extract.sample import build, files
from tests.unit.sample.conftest import run


def state(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_same_arguments_make_the_same_files_and_another_seed_others(made, tmp_path):
    assert run(tmp_path / "again").changed
    assert state(tmp_path / "again") == state(made)
    run(tmp_path / "other", seed=2)
    other = state(tmp_path / "other")
    assert other["parcels/parcels_2021.gpkg"] != state(made)["parcels/parcels_2021.gpkg"]


def test_second_run_changes_nothing(copy):
    before = times(copy)
    answer = run(copy)
    assert not answer.changed
    assert answer.plan == []
    assert times(copy) == before


def test_check_says_what_would_be_done_and_writes_nothing(tmp_path):
    folder = tmp_path / "new"
    answer = run(folder, check=True)
    assert answer.changed
    assert "60 parcels" in answer.plan[0]
    assert "7 scenes" in answer.plan[0]
    assert not folder.exists()


@pytest.mark.parametrize("after", [0, 17, 60])
def test_interrupted_run_is_completed(made, tmp_path, monkeypatch, after):
    folder = tmp_path / "stopped"
    encode, calls = files.encode_cog, []

    def stop(raw, band):
        calls.append(band)
        if len(calls) > after:
            raise KeyboardInterrupt
        return encode(raw, band)

    monkeypatch.setattr(files, "encode_cog", stop)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not json.loads((folder / "sample.json").read_text())["complete"]
    monkeypatch.undo()

    written = {path: path.stat().st_mtime_ns for path in folder.rglob("[!.]*/B02.tif")}
    answer = run(folder)
    assert answer.changed
    assert state(folder) == state(made)
    # Whole scenes of the first run stand as they were.
    kept = [p for p, when in written.items() if p.exists() and p.stat().st_mtime_ns == when]
    assert len(kept) == after // 11
    assert not run(folder).changed


@pytest.mark.parametrize("name", ["truth.json", "parcels/parcels_2021.gpkg", "scenes/catalog.json"])
def test_removed_file_is_made_again(made, copy, name):
    (copy / name).unlink()
    assert run(copy).changed
    assert state(copy) == state(made)


def test_damaged_scene_is_made_again_and_only_that(made, copy):
    damaged = sorted((copy / "scenes").glob("*/B08.tif"))[2]
    damaged.write_bytes(damaged.read_bytes()[:100])
    others = [path for path in (copy / "scenes").glob("*/B08.tif") if path != damaged]
    before = {path: path.stat().st_mtime_ns for path in others}
    answer = run(copy)
    assert answer.changed
    assert "1 scenes missing or damaged" in answer.plan[0]
    assert state(copy) == state(made)
    assert {path: path.stat().st_mtime_ns for path in others} == before


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CbmError) as caught:
        run(tmp_path)
    assert caught.value.code == "folder_not_empty"
    (tmp_path / "sample.json").write_text('{"mine": true}')
    with pytest.raises(CbmError) as caught:
        run(tmp_path)
    assert caught.value.code == "folder_not_empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sample.json", "thesis.txt"]


def test_sample_made_with_other_arguments_is_not_touched(copy):
    before = times(copy)
    with pytest.raises(CbmError) as caught:
        run(copy, parcels=61)
    assert caught.value.code == "sample_differs"
    assert "parcels 60" in caught.value.message
    assert "parcels 61" in caught.value.message
    assert times(copy) == before


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CbmError) as caught:
        run(tmp_path / "file")
    assert caught.value.code == "not_a_folder"
    with pytest.raises(CbmError) as caught:
        run(tmp_path / "file" / "below")
    assert caught.value.code == "cannot_write"


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(CbmError) as caught:
        run(tmp_path / "new")
    assert caught.value.code == "disk_full"
    assert "1 MB free" in caught.value.message
    assert not (tmp_path / "new").exists()


def test_disk_that_fills_up_is_one_clear_message(made, tmp_path, monkeypatch):
    write, calls = Path.write_bytes, []

    def full(path, content):
        calls.append(path)
        if len(calls) > 30:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CbmError) as caught:
        run(tmp_path / "new")
    assert caught.value.code == "cannot_write"
    assert "No space left on device" in caught.value.message
    monkeypatch.undo()
    run(tmp_path / "new")
    assert state(tmp_path / "new") == state(made)
