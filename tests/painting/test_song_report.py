import numpy as np
import pytest
import torch
from conftest import RATE, tone

from riffusion import audio
from riffusion.painting import metrics, song_report
from riffusion.painting.song_report import Overview
from riffusion.pairs.tasks import ADD, EXTRACT, KEEP, REMOVE, TASKS
from riffusion.spectrogram import ExifTags, SpectrogramConverter


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
    look = Overview(SpectrogramConverter(), 3 * RATE)
    look.look(song["song"][0], song["stem"][0], task)
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


def test_only_a_region_is_measured(song, monkeypatch):
    monkeypatch.setattr(song_report, "BLOCK_FRAMES", 64)
    look = Overview(SpectrogramConverter(), 3 * RATE)
    look.look(song["song"][0], song["stem"][0], ADD, int(1.6 * RATE), int(2.6 * RATE))  # the stem begins at 1.5 s
    assert look.analysis().level.active_share == 1
    assert look.analysis().voicing.voiced_share > 0.9
    assert sum(frames.shape[1] for frames in look.level_meter.frames) == 100
    assert look.pictures()["stem"].width == 301


def test_a_picture_of_a_long_song_is_shrunk_and_has_no_tags(song, monkeypatch):
    converter = SpectrogramConverter()
    whole = Overview(converter, 3 * RATE)
    whole.look(song["song"][0], song["stem"][0], ADD)
    assert ExifTags.MAX_VALUE in whole.pictures()["painted"].getexif()
    monkeypatch.setattr(song_report, "MOST_COLUMNS", 100)
    shrunk = Overview(converter, 3 * RATE)
    shrunk.look(song["song"][0], song["stem"][0], ADD)
    picture = shrunk.pictures()["painted"]
    assert shrunk.frames_per_column == 4
    assert picture.size == (76, 512)
    assert not picture.getexif()
    levels = [np.concatenate(look.columns["stem"], axis=1).astype(np.float64) for look in (shrunk, whole)]
    assert 4 * (levels[0] ** 4).sum() == pytest.approx((levels[1] ** 4).sum(), rel=0.05)
