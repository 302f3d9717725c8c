from pathlib import Path

import librosa
import numpy as np
import pytest
import rekey_songs
import soundfile

from riffusion import stems
from riffusion.features import median_f0, pitch_detector

MELODY = (60, 64, 67, 69, 65, 62, 67, 64, 65, 69, 71, 72)  # notes of C major
CHORDS = ((48, 52, 55), (41, 45, 48), (43, 47, 50), (48, 52, 55))


def tones(notes: list[tuple[float, ...]], seconds: float) -> np.ndarray:
    """Chords of harmonic tones one after another, float32 (samples,)."""
    time = np.arange(round(seconds * rekey_songs.RATE)) / rekey_songs.RATE
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.02)
    sounds = []
    for chord in notes:
        pitches = 440 * 2 ** ((np.array(chord)[:, None, None] - 69) / 12)
        partials = np.arange(1, 6)[None, :, None]
        sounds.append(fade * (np.sin(2 * np.pi * pitches * partials * time) / partials**2).sum(axis=(0, 1)))
    return np.float32(0.1 * np.concatenate(sounds))


def song_parts(moved: float) -> dict[str, np.ndarray]:
    """Stems (samples,) of a song in C major whose vocals are sung `moved` semitones too high."""
    return {
        "vocals": tones([(note + moved,) for note in MELODY], 0.5),
        "other": tones(list(CHORDS), 1.5),
        "bass": tones([(chord[0] - 12,) for chord in CHORDS], 1.5),
        "drums": np.zeros(6 * rekey_songs.RATE, dtype=np.float32),
    }


@pytest.mark.parametrize("moved", [0.0, -4.2])
def test_the_interval_is_heard(moved: float):
    assert rekey_songs.semitones_to_band(song_parts(moved)) == pytest.approx(-moved, abs=0.3)


def rekeyed(folder: Path, moved: float, *flags: str) -> dict[str, np.ndarray]:
    """The stems of `song_parts` as the script writes them."""
    song = folder / "songs" / "song"
    song.mkdir(parents=True)
    for name, part in song_parts(moved).items():
        soundfile.write(song / f"{name}.flac", part, rekey_songs.RATE)
    folders = ["--root_data_dir", str(song.parent), "--output_dir", str(folder / "rekeyed"), "--num_proc", "1"]
    assert rekey_songs.main(rekey_songs.parse_args([*folders, *flags])) == 0
    written = stems.load_stems(stems.find_songs(folder / "rekeyed")[0], rekey_songs.RATE)
    return {name: part[0] for name, part in written.items()}


def test_vocals_are_moved_into_the_key_of_the_band(tmp_path: Path):
    parts = rekeyed(tmp_path, 2.7)
    assert rekey_songs.semitones_to_band(parts) == pytest.approx(0, abs=0.2)
    assert set(parts) == set(song_parts(0.0))


@pytest.mark.parametrize(("register", "lowest", "highest"), [("low", 90, 220), ("high", 420, 900)])
def test_vocals_are_moved_to_a_register_in_the_same_key(tmp_path: Path, register, lowest, highest):
    parts = rekeyed(tmp_path, 2.7, "--register", register)
    assert rekey_songs.semitones_to_band(parts) == pytest.approx(0, abs=0.2)
    assert lowest < median_f0(pitch_detector().detect(parts["vocals"], rekey_songs.RATE)) < highest


def test_a_moved_voice_keeps_its_formants():
    time = np.arange(2 * rekey_songs.RATE) / rekey_songs.RATE
    overtones = 200 * np.arange(1, 40)[:, None]
    strength = 1 / (1 + ((overtones - 2400) / 800) ** 2)  # one formant
    voice = np.float32(0.02 * (strength * np.sin(2 * np.pi * overtones * time)).sum(axis=0))
    moved = rekey_songs.move_voice(voice, -12)
    assert median_f0(pitch_detector().detect(moved, rekey_songs.RATE)) == pytest.approx(100, rel=0.02)
    assert brightness(moved) == pytest.approx(brightness(voice), rel=0.25)  # moved along, it would be half


def brightness(voice: np.ndarray) -> float:
    """Centroid of the spectrum in Hz."""
    return float(librosa.feature.spectral_centroid(y=voice, sr=rekey_songs.RATE).mean())
