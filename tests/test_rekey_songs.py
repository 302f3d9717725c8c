from pathlib import Path

import numpy as np
import pytest
import rekey_songs
import soundfile

from riffusion import stems

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


def test_vocals_are_moved_into_the_key_of_the_band(tmp_path: Path):
    song = tmp_path / "songs" / "song"
    song.mkdir(parents=True)
    for name, part in song_parts(2.7).items():
        soundfile.write(song / f"{name}.flac", part, rekey_songs.RATE)
    flags = ["--root_data_dir", str(song.parent), "--output_dir", str(tmp_path / "rekeyed"), "--num_proc", "1"]
    assert rekey_songs.main(rekey_songs.parse_args(flags)) == 0
    written = stems.load_stems(stems.find_songs(tmp_path / "rekeyed")[0], rekey_songs.RATE)
    parts = {name: part[0] for name, part in written.items()}
    assert rekey_songs.semitones_to_band(parts) == pytest.approx(0, abs=0.2)
    assert set(parts) == set(song_parts(0.0))
