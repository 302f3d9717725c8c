from pathlib import Path

import mix_songs
import numpy as np
import pytest
import soundfile
from conftest import tone, write_song
from whole_songs import load_stems

from riffusion.pairs import stems
from riffusion.util.errors import UserError

RATE = mix_songs.RATE


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Three songs, each with parts of its own pitch, and two phrases."""
    for number in range(3):
        pitches = {"drums": 500, "bass": 50, "other": 200}
        parts = {name: tone(pitch * (1 + number / 10), 3.0) for name, pitch in pitches.items()}
        write_song(tmp_path / "songs" / f"song {number}", **parts)
    (tmp_path / "voices").mkdir()
    for number, pitch in enumerate((700.0, 900.0)):
        soundfile.write(tmp_path / "voices" / f"{number}.wav", tone(pitch, 1.0, level=0.01)[0], RATE)
    return tmp_path


def mix(sources: Path, *flags: str) -> dict[str, dict[str, np.ndarray]]:
    folders = ["--root_data_dir", str(sources / "songs"), "--voices_dir", str(sources / "voices")]
    args = [*folders, "--output_dir", str(sources / "mixed"), "--songs", "4", "--seconds", "2", *flags]
    assert mix_songs.main(mix_songs.parse_args(args)) == 0
    return {song.name: load_stems(song, RATE) for song in stems.find_songs(sources / "mixed")}


def pitch(part: np.ndarray) -> float:
    """Frequency in Hz of the strongest line of (1, samples)."""
    return float(np.argmax(np.abs(np.fft.rfft(part[0])))) * RATE / part.shape[1]


def test_parts_of_different_songs_go_together(sources):
    mixed = mix(sources)
    assert len(mixed) == 4
    for parts in mixed.values():
        assert {part.shape for part in parts.values()} == {(1, 2 * RATE)}
        origins = {
            round(10 * pitch(parts[name]) / base - 10) for name, base in (("drums", 500), ("bass", 50), ("other", 200))
        }
        assert origins == {0, 1, 2}
        assert round(pitch(parts["vocals"])) in (700, 900)
        assert np.sqrt(np.mean(parts["vocals"] ** 2)) == pytest.approx(mix_songs.VOICE_LEVEL, rel=0.02)
    drums = [round(pitch(parts["drums"])) for parts in mixed.values()]
    assert len(set(drums)) > 1


def test_what_is_there_stays(sources):
    mix(sources)
    marker = sources / "mixed" / "mixed 000" / "vocals.flac"
    soundfile.write(marker, np.zeros(2 * RATE), RATE)
    assert not mix(sources)["mixed 000"]["vocals"].any()


def test_a_folder_without_phrases_is_named(sources):
    for phrase in (sources / "voices").iterdir():
        phrase.unlink()
    with pytest.raises(UserError, match="voices: contains no audio"):
        mix(sources)
