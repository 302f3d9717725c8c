import librosa
import numpy as np
import pytest
import torch
from conftest import RATE, tone

from riffusion.pairs.features import SILENCE_DB, Features, agrees, measure_onsets, measure_pitch, words
from riffusion.spectrogram import SpectrogramConverter


def test_pitch_and_notes_of_a_melody():
    melody = np.concatenate([tone(frequency, 0.8)[0] for frequency in (220, 330, 220, 330, 220)])
    heard = measure_pitch(melody, RATE)
    assert heard.median_f0_hz == pytest.approx(220, rel=0.01)
    assert heard.note_seconds == pytest.approx(0.8, abs=0.1)
    assert heard.events_per_second == pytest.approx(5 / 4, abs=0.05)


def test_silence_has_no_pitch():
    assert measure_pitch(np.zeros(RATE, dtype=np.float32), RATE) == Features(level_db=SILENCE_DB)


def test_onsets_of_a_beat_are_counted():
    rng = np.random.default_rng(0)
    beat = np.zeros(4 * RATE, dtype=np.float32)
    for start in range(RATE // 4, 4 * RATE, RATE // 3):  # three a second
        beat[start : start + 2000] = rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
    mel = SpectrogramConverter().mel_amplitudes_from_waveform(torch.from_numpy(beat[None])).numpy()[0]
    assert measure_onsets(mel, 0.01).events_per_second == pytest.approx(3, abs=0.3)


def test_onsets_of_real_music_are_about_those_that_librosa_finds(excerpt):
    for stem in ("drums", "bass", "other"):
        signal = excerpt[stem].mean(axis=0, keepdims=True)[:, :225351]
        mel = SpectrogramConverter().mel_amplitudes_from_waveform(torch.from_numpy(signal)).numpy()[0]
        level = np.log1p(1000 * mel / mel.max())
        flux = np.maximum(np.diff(level, axis=1, prepend=level[:, :1]), 0).mean(axis=0)
        onsets = librosa.onset.onset_detect(onset_envelope=flux, sr=100, hop_length=1)
        assert measure_onsets(mel, 0.01).events_per_second * 5.11 == pytest.approx(len(onsets), rel=0.25, abs=2)


def test_words_are_said_where_a_part_stands_out():
    high = Features(level_db=5, median_f0_hz=600, note_seconds=1.0, events_per_second=0.5)
    assert words("vocals", high) == {"loudness": "loud", "density": "sparse", "register": "high", "notes": "long"}
    middle = Features(level_db=-1, median_f0_hz=300, note_seconds=0.4, events_per_second=1.5)
    assert words("vocals", middle) == {}
    assert words("drums", Features(level_db=-20, events_per_second=6)) == {"loudness": "soft", "density": "dense"}
    assert words("guitar", Features(level_db=-20)) == {"loudness": "soft"}


def test_a_label_is_said_only_where_it_can_be_true():
    low, high = Features(0, median_f0_hz=180), Features(0, median_f0_hz=600)
    assert agrees("deep", low)
    assert not agrees("deep", high)
    assert agrees("high", high)
    assert not agrees("high", low)
    assert agrees("reverb", low)
