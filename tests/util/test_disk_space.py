import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from riffusion.util import disk_space, files
from riffusion.util.errors import UserError

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")


def test_room_is_asked_for_where_a_folder_would_be(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    disk_space.require_room(tmp_path / "not" / "yet", free // 2, "song")
    with pytest.raises(UserError, match=rf"{tmp_path}/not/yet: not enough space; song needs about .* GB"):
        disk_space.require_room(tmp_path / "not" / "yet", 10**18, "song")
    assert disk_space.size(51_300_000) == "51.3 MB"


@needs_full_disk
def test_what_writes_to_a_full_disk_names_the_place_and_the_amount(tmp_path):
    refused = pytest.raises(UserError, match=r"disk: can't be written .No space left on device; .* 12.0 MB are needed")
    with refused, disk_space.writing(tmp_path / "disk", 12_000_000), Path("/dev/full").open("w") as file:
        file.write("x")
    with pytest.raises(UserError, match="disk: can't be written .System error"), disk_space.writing(tmp_path / "disk"):
        soundfile.write("/dev/full", np.zeros(9), 44100, format="WAV")


def test_a_file_that_cannot_be_read_is_not_said_to_be_written(tmp_path):
    with (
        pytest.raises(UserError, match=rf"^{tmp_path}/input.txt: No such file"),
        disk_space.writing(tmp_path / "output"),
    ):
        (tmp_path / "input.txt").read_text()
    with pytest.raises(BrokenPipeError), disk_space.writing(tmp_path):
        raise BrokenPipeError


def test_text_is_there_whole_or_not_and_no_part_is_left(tmp_path):
    files.write_atomically(tmp_path / "page.html", "\udce9")  # a name that isn't UTF-8
    assert (tmp_path / "page.html").read_text() == "\\udce9"
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder"):
        files.write_atomically(tmp_path / "folder", "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.html"]
