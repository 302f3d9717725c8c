import zipfile

import numpy as np
import pytest
from conftest import RATE, tone
from test_results import record, result

from riffusion import audio
from riffusion.painting import results
from riffusion.painting.result import write_result
from riffusion.painting.sounds import loudness_of, sound_files, write_archive


@pytest.fixture
def folder(tmp_path):
    """A folder with one result, whose input is twice as loud as its stem."""
    (tmp_path / "song").mkdir()
    for name, level in (("input", 0.2), ("stem", 0.1)):
        audio.save_wav(tmp_path / "song" / f"{name}.wav", tone(220, 1.0, level), RATE)
    write_result(tmp_path / "song", result(record()))
    return tmp_path


def test_all_sounds_are_in_one_file_as_they_are(folder):
    sounds = sound_files(folder, [result(record())])
    archives = []
    for name in ("one.zip", "other.zip"):
        write_archive(folder / name, sounds)
        archives.append((folder / name).read_bytes())
    assert archives[0] == archives[1]
    with zipfile.ZipFile(folder / "one.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["song/input.wav", "song/stem.wav"]
        assert archive.read("song/stem.wav") == sounds[1].read_bytes()


def test_the_file_of_all_sounds_is_there_as_long_as_it_is_small_enough(folder):
    taken = sum(path.stat().st_size for path in (folder / "song").glob("*.wav"))
    results.write_overview(folder, taken)
    assert (folder / "sounds.zip").is_file()
    assert 'href="sounds.zip"' in (folder / "index.html").read_text()
    results.write_overview(folder, taken - 1)
    assert not (folder / "sounds.zip").exists()
    assert "--zip_mb 1<" in (folder / "index.html").read_text()


def test_levels_are_those_of_the_sounds_that_can_be_read(folder):
    one = result(record())
    levels = loudness_of(folder, [one])
    assert levels["song/input.wav"] - levels["song/stem.wav"] == pytest.approx(20 * np.log10(2), abs=0.01)
    (folder / "song" / "stem.wav").write_text("no sound")
    (folder / "song" / "input.wav").unlink()
    assert loudness_of(folder, [one]) == {}
    assert sound_files(folder, [one]) == [folder / "song" / "stem.wav"]
