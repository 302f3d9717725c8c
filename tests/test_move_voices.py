from pathlib import Path

import librosa
import move_voices
import numpy as np
import pytest
import soundfile
from conftest import tone, write_song
from whole_songs import load_stems

from riffusion.pairs import stems
from riffusion.pairs.features import median_f0, pitch_detector


@pytest.mark.slow
@pytest.mark.parametrize(("register", "expected"), [("low", 165), ("high", 660)])
def test_vocals_are_moved_by_octaves_and_the_band_is_not(tmp_path: Path, register: str, expected: int):
    write_song(tmp_path / "songs" / "song", vocals=tone(330, 2.0))
    folders = ["--root_data_dir", str(tmp_path / "songs"), "--output_dir", str(tmp_path / "moved")]
    args = move_voices.parse_args([*folders, "--register", register, "--num_proc", "1"])
    assert move_voices.main(args) == 0
    before, after = (load_stems(stems.find_songs(tmp_path / name)[0]) for name in ("songs", "moved"))
    vocals = after.pop("vocals")
    assert median_f0(pitch_detector().detect(vocals[0], move_voices.RATE)) == pytest.approx(expected, rel=0.02)
    assert all(np.array_equal(part, before[name]) for name, part in after.items())
    soundfile.write(tmp_path / "moved" / "song" / "vocals.flac", np.zeros(100), move_voices.RATE)
    assert move_voices.main(args) == 0
    assert soundfile.info(tmp_path / "moved" / "song" / "vocals.flac").frames == 100  # finished songs stay


def test_silence_stays_where_it_is():
    assert move_voices.octaves_to_register(np.zeros(move_voices.RATE, dtype=np.float32), "low") == 0


def test_a_moved_voice_keeps_its_formants():
    time = np.arange(2 * move_voices.RATE) / move_voices.RATE
    overtones = 200 * np.arange(1, 40)[:, None]
    strength = 1 / (1 + ((overtones - 2400) / 800) ** 2)  # one formant
    voice = np.float32(0.02 * (strength * np.sin(2 * np.pi * overtones * time)).sum(axis=0))
    moved = move_voices.move_voice(voice, -12)
    assert median_f0(pitch_detector().detect(moved, move_voices.RATE)) == pytest.approx(100, rel=0.02)
    assert brightness(moved) == pytest.approx(brightness(voice), rel=0.25)  # moved along, it would be half


def brightness(voice: np.ndarray) -> float:
    """Centroid of the spectrum in Hz."""
    return float(librosa.feature.spectral_centroid(y=voice, sr=move_voices.RATE).mean())
