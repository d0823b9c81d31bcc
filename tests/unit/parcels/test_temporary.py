import signal
import subprocess
import sys
import tempfile

import pytest

from cbm_extract.parcels import temporary

OWNER = """
import sys, time
from cbm_extract.parcels import temporary
with temporary.folder() as folder:
    (folder / "big").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_removed_at_the_end_also_after_an_error(parent):
    with pytest.raises(KeyboardInterrupt), temporary.folder() as folder:
        assert list(folder.iterdir()) == []
        raise KeyboardInterrupt
    assert list(parent.iterdir()) == []


def test_a_killed_owners_folder_goes_with_the_next_and_a_living_ones_stays(parent):
    (parent / "cbm-parcels-without-a-lock").mkdir()
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    theirs = temporary.Path(owner.stdout.readline().strip())
    with temporary.folder() as ours:
        assert (theirs / "big").exists()
        with temporary.folder():
            assert ours.exists()
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
        assert theirs.exists()
        with temporary.folder():
            assert not theirs.parent.exists()
            assert ours.exists()
    assert [path.name for path in parent.iterdir()] == ["cbm-parcels-without-a-lock"]
