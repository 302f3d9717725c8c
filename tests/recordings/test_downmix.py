from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, tone
from whole_songs import sum_stems

from riffusion import audio
from riffusion.pairs import stems
from riffusion.recordings.downmix import Downmix, Survey, without_rumble
from riffusion.util.errors import UserError

TIME = np.arange(3 * RATE) / RATE


def looked_through(samples: np.ndarray, rate: int = RATE) -> Downmix:
    survey = Survey()
    for block in np.array_split(samples.astype(np.float32), 4, axis=1):
        survey.add(block, rate)
    return survey.finish(Path("song.wav"))


def test_another_transform_says_the_same_of_real_music(excerpt):
    stereo = np.concatenate([excerpt["drums"], excerpt["vocals"]])
    surveys = [Survey(rfft) for rfft in (np.fft.rfft, stems.quick_rfft)]
    for survey in surveys:
        survey.add(np.vstack([stereo[:3], -stereo[0]]), RATE)
    ours, others = (survey.finish(Path("song.wav")) for survey in surveys)
    assert ours.cancels and others.cancels
    assert (ours.weights == others.weights).all() and ours.signs == others.signs
    assert others.loudness == pytest.approx(ours.loudness, rel=1e-4)


def mixed(samples: np.ndarray, tmp_path: Path, rate: int = RATE) -> np.ndarray:
    soundfile.write(tmp_path / "song.wav", samples.T, rate, subtype="FLOAT")
    return np.concatenate(list(audio.mixed_blocks(tmp_path / "song.wav", RATE, looked_through(samples, rate))))


def level_db(signal: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.asarray(signal, float) ** 2)))


def music(channels: int = 2, seed: int = 0) -> np.ndarray:
    """A tone in the middle and one of its own in each channel, over soft noise."""
    noise = 0.02 * np.random.default_rng(seed).standard_normal((channels, 3 * RATE))
    own = np.concatenate([tone(247.0 * 1.3**channel, 3.0, 0.1) for channel in range(channels)])
    return tone(196.0, 3.0) + own + noise


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_of_ordinary_songs_the_mean_is_taken_sample_for_sample(tmp_path, channels):
    song = music(channels)
    wide = np.random.default_rng(1).standard_normal((channels, 3 * RATE)) * 0.2  # nothing is alike in its channels
    alone = np.eye(channels)[:, :1] * music(1)  # silent but for one
    for samples in (song, wide, alone, 1e-4 * song, song + 1e-3, np.zeros_like(song)):
        downmix = looked_through(samples)
        assert not downmix.cancels
        assert not downmix.lifted
        assert downmix.signs == ()
        block = samples.astype(np.float32)
        assert (downmix.mixer()(block, RATE) == block.mean(axis=0)).all()


def test_the_excerpt_is_ordinary(excerpt):
    for signal in (*excerpt.values(), sum_stems(excerpt, without="vocals")):
        downmix = looked_through(signal)
        assert (downmix.cancels, downmix.lifted) == (False, False)
        assert downmix.loudness.max() < 1.3


@pytest.mark.parametrize(
    ("gains", "mono"),
    [
        ([1, -1], 1),
        ([1, -0.98], 0.99),
        ([0.5, -1], 0.75),
        ([1, -1, 0], 2 / 3),
        ([1, -1, 1, -1], 1),
        ([0, -1, 0, 1, 0.1, 0], 2.1 / 6),
        ([1, -1, 1, -1, 1, -1, 1, -0.9], 7.9 / 8),
    ],
)
def test_channels_that_cancel_are_turned(tmp_path, gains, mono):
    song = np.array(gains)[:, None] * tone(220, 3.0)
    assert looked_through(song).cancels
    heard = mixed(song, tmp_path)
    assert level_db(heard) == pytest.approx(level_db(mono * tone(220, 3.0)), abs=0.1)
    downmix = looked_through(song)
    turned = np.array(gains) * downmix.signs
    assert (turned >= 0).all() or (turned <= 0).all()
    beside = level_db(song) - level_db(heard)
    assert 20 * np.log10(downmix.loudness_at(np.array([0.0, 1.7, 9.0]))) == pytest.approx(beside, abs=0.1)


def test_what_cancels_for_a_while_is_heard_there(tmp_path):
    signal, half = tone(220, 6.0), 3 * RATE
    song = np.concatenate([signal, np.where(np.arange(2 * half) < half, 1, -1) * signal])
    heard = mixed(song, tmp_path)
    seconds = level_db(signal) - np.array([level_db(heard[start : start + RATE]) for start in range(0, 6 * RATE, RATE)])
    assert np.abs(seconds).max() < 1.5
    assert np.abs(heard[: 2 * RATE] - signal[0, : 2 * RATE]).max() < 1e-6  # before, it is the mean


def test_nothing_is_lost_that_only_some_channels_or_some_pitches_cancel(tmp_path):
    front, rest = tone(220, 3.0), tone(523.25, 3.0, 0.1)
    surround = np.concatenate([front, -front, rest, rest])
    heard = np.abs(np.fft.rfft(mixed(surround, tmp_path)))
    assert heard[660] > 0.1 * heard.max()
    assert heard[round(3 * 523.25)] > 0.1 * heard.max()
    bass, treble = tone(55, 3.0), 0.1 * np.sin(2 * np.pi * 4000 * TIME)[None]
    stereo = np.concatenate([bass + treble, -bass + treble])
    heard = np.abs(np.fft.rfft(mixed(stereo, tmp_path)))
    alone = np.abs(np.fft.rfft(stereo[0]))
    assert heard[165] > 0.4 * alone[165]
    assert heard[12000] > 0.4 * alone[12000]


@pytest.mark.parametrize("rate", [RATE, 96000])
def test_what_is_not_heard_is_taken_out(tmp_path, rate):
    time = np.arange(3 * rate) / rate
    song = np.stack([0.1 * np.sin(2 * np.pi * (220 + 110 * channel) * time) for channel in range(2)])
    plain = mixed(song, tmp_path, rate)
    offsets = [np.full(2, 0.45), np.array([0.4, -0.3]), np.array([0.0, 0.6])]
    rumbles = [0.5 * np.sin(2 * np.pi * 5 * time), 0.3 * time - 0.2, 0.4 * (time > 1.5)]
    for unheard in [offset[:, None] + 0 * time for offset in offsets] + rumbles:
        assert looked_through(song + unheard, rate).lifted
        heard = mixed(song + unheard, tmp_path, rate)
        assert len(heard) == len(plain)
        quiet = np.abs(heard - plain)[RATE // 5 : -RATE // 5]
        assert np.quantile(quiet, 0.9) < 0.02  # a step rings for a moment, as it is heard to do
    both = np.stack([song[0] + 0.45, 0.45 - song[0]])
    assert level_db(mixed(both, tmp_path, rate)) == pytest.approx(level_db(song[0]), abs=0.1)


def test_low_notes_stay_where_the_rumble_goes():
    note = 0.1 * np.sin(2 * np.pi * 30 * TIME).astype(np.float32)
    rumble = 0.3 * np.sin(2 * np.pi * 8 * TIME).astype(np.float32)
    blocks = list(without_rumble(iter(np.array_split(note + rumble, 7)), RATE))
    left = np.concatenate(blocks)
    assert left.shape == note.shape
    assert np.abs(left - note)[RATE // 2 : -RATE // 2].max() < 1e-3  # in phase, too


@pytest.mark.parametrize("scale", [128, 255, 32768, 2.0**23, 2.0**31])
def test_the_scale_of_integers_is_named(scale):
    with pytest.raises(UserError, match=r"song.wav: samples are up to .* where full scale is 1: divide them by \d+"):
        looked_through(scale * music())
    with pytest.raises(UserError, match=r"divide them by 32768 first, if they are integers of 16 bits"):
        looked_through(np.where(np.sin(2 * np.pi * 50 * TIME) > 0, 3.0, -3.0)[None])  # a soft one


@pytest.mark.parametrize("value", [1e30, -3e38, 100.0])
def test_a_huge_sample_is_named(value):
    song = music()
    song[1, RATE] = value
    with pytest.raises(UserError, match=r"song.wav: 1 of 132300 samples .* up to [\d.e+]+ at 1.000 s"):
        looked_through(song)
    looked_through(4 * music())  # a mix of floats may be too loud


def test_shorter_than_a_cell_and_slower_than_sound():
    short = np.array([[1.0], [-1.0]]) * tone(220, 0.3)
    assert looked_through(short).cancels
    assert not looked_through(np.zeros((2, 0))).cancels
    assert not looked_through(np.random.default_rng(0).uniform(-1, 1, (2, 900)), 2).lifted


def test_stems_are_mixed_down_by_themselves(tmp_path):
    for name, samples in {
        "inverted": np.array([[1.0], [-1.0]]) * tone(330, 3.0),
        "lifted": tone(220, 3.0) + 0.4,
        "plain": tone(110, 3.0),
    }.items():
        audio.save_wav(tmp_path / f"{name}.wav", samples, RATE, 24)
    (tmp_path / "mono").mkdir()
    song = stems.mix_down(stems.Song("song", tmp_path), RATE, tmp_path / "mono")
    assert song.samples == 3 * RATE
    assert [name for name, downmix in song.downmixes.items() if downmix.cancels] == ["inverted"]
    assert [name for name, downmix in song.downmixes.items() if downmix.lifted] == ["lifted"]
    for name, frequency in {"inverted": 330, "lifted": 220, "plain": 110}.items():
        expected = tone(frequency, 3.0)[0]
        assert song.powers[name] == pytest.approx(np.mean(expected**2), rel=0.01)
        off = np.abs(song.read(name, 0, song.samples) - expected)[RATE // 5 : -RATE // 5]
        assert off.max() < 1e-3
    audio.save_wav(tmp_path / "mono.wav", tone(110, 1.0), RATE)
    soundfile.write(tmp_path / "plain.wav", 32768 * tone(110, 3.0).T, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match="plain.wav: samples are up to"):
        stems.mix_down(stems.Song("song", tmp_path), RATE, tmp_path / "mono")
