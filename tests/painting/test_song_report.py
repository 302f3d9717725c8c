import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, tone

from riffusion import audio
from riffusion.painting import metrics, song_report
from riffusion.painting.song_report import Overview, StemLayout
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP, REMOVE, TASKS
from riffusion.spectrogram import SpectrogramConverter
from riffusion.spectrogram_params import ExifTags


def look_at(song, task=ADD, rate=RATE, channels=1, block=10_000, **where) -> Overview:
    """An overview that has seen the whole song, block by block."""
    with soundfile.SoundFile(song["song"][0]) as backing:
        layout = StemLayout(rate, np.ones((channels, 1)), **where)
        look = Overview(SpectrogramConverter(), backing, task, layout)
        stem = np.repeat(song["stem"][1], channels, axis=0)
        stem = stem if rate == RATE else audio.resample(stem, RATE, rate)
        for first in range(0, stem.shape[1], block):
            look.update(stem[:, first : first + block])
        look.finish()
    return look


@pytest.fixture
def song(tmp_path):
    """A backing of 3 s and a stem over its second half: their files and signals."""
    signals = {"song": tone(220.0, 3.0), "stem": tone(523.25, 3.0)}
    signals["stem"][:, : 3 * RATE // 2] = 0
    for name, signal in signals.items():
        audio.save_wav(tmp_path / f"{name}.wav", signal, RATE, 24)
    return {name: (tmp_path / f"{name}.wav", signal) for name, signal in signals.items()}


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_blocks_show_what_the_whole_song_shows(song, task, monkeypatch):
    monkeypatch.setattr(song_report, "BLOCK_FRAMES", 64)  # many blocks of a short song
    look = look_at(song, task)
    backing, stem = song["song"][1], song["stem"][1]
    painted = {ADD: backing + stem, REMOVE: backing - stem, EXTRACT: stem, KEEP: backing + stem}[task]
    signals = {"input": backing, "stem": stem, "painted": painted}
    mel = {
        name: SpectrogramConverter().mel_amplitudes_from_waveform(torch.from_numpy(signal))[0].numpy()
        for name, signal in signals.items()
    }
    for name, columns in look.columns.items():
        blocks = np.concatenate(columns, axis=1).astype(np.float32) ** 4
        assert blocks.shape == (512, 301)
        assert np.abs(blocks - mel[name])[:, :-3].max() < 0.01 * mel[name].max()
    whole = metrics.measure_level(mel["stem"], mel["input"])
    assert look.analysis().level.active_share == pytest.approx(whole.active_share, abs=0.01)
    assert look.analysis().level.level_db == pytest.approx(whole.level_db, abs=0.1)
    assert look.analysis().voicing.median_f0_hz == pytest.approx(523.25, rel=0.02)
    assert look.analysis().voicing.voiced_share == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("rate", "channels", "block"), [(RATE, 1, 777), (48000, 2, 4800), (48000, 2, 10**6)])
def test_blocks_of_any_size_rate_and_channels_make_the_same_pictures(song, monkeypatch, rate, channels, block):
    monkeypatch.setattr(song_report, "BLOCK_FRAMES", 64)
    expected, pictures = look_at(song).pictures(), look_at(song, ADD, rate, channels, block).pictures()
    for name, picture in pictures.items():
        assert picture.size == expected[name].size
        levels = [np.asarray(each, dtype=int)[:, :-3] for each in (picture, expected[name])]
        assert np.abs(levels[0] - levels[1]).max() <= (0 if rate == RATE else 12)  # soxr's low-pass at the top


@pytest.mark.parametrize("left", [1, 4, 5, 6])
def test_what_is_left_at_the_end_is_seen(tmp_path, monkeypatch, left):
    monkeypatch.setattr(song_report, "BLOCK_FRAMES", 64)
    hop = SpectrogramConverter().params.hop_length
    signal = tone(220.0, 3.0)[:, : (2 * 64 + left) * hop]
    audio.save_wav(tmp_path / "song.wav", signal, RATE, 24)
    signals = {name: (tmp_path / "song.wav", signal) for name in ("song", "stem")}
    look = look_at(signals)
    assert np.concatenate(look.columns["input"], axis=1).shape == (512, 2 * 64 + left + 1)
    assert look.looked_at == 2 * 64 + left + 1


def test_only_a_region_is_measured(song, monkeypatch):
    monkeypatch.setattr(song_report, "BLOCK_FRAMES", 64)
    look = look_at(song, start=int(1.6 * RATE), end=int(2.6 * RATE))  # the stem begins at 1.5 s
    assert look.analysis().level.active_share == 1
    assert look.analysis().voicing.voiced_share > 0.9
    assert sum(frames.shape[1] for frames in look.level_meter.frames) == 100
    assert look.pictures()["stem"].width == 301


def test_a_picture_of_a_long_song_is_shrunk_and_has_no_tags(song, monkeypatch):
    whole = look_at(song)
    assert ExifTags.MAX_VALUE in whole.pictures()["painted"].getexif()
    monkeypatch.setattr(song_report, "MOST_COLUMNS", 100)
    shrunk = look_at(song)
    picture = shrunk.pictures()["painted"]
    assert shrunk.frames_per_column == 4
    assert picture.size == (76, 512)
    assert not picture.getexif()
    levels = [np.concatenate(look.columns["stem"], axis=1).astype(np.float64) for look in (shrunk, whole)]
    assert 4 * (levels[0] ** 4).sum() == pytest.approx((levels[1] ** 4).sum(), rel=0.05)
