import numpy as np
import pytest
from conftest import RATE
from hearing import kernel_distance, modulation, on_time, onset_seconds, sound_features, standardise
from judges import Harmony, confidence, likeness, melody, sung_the_same, thumbnail
from PIL import Image
from sounds import hits, noise, voice, whistles

SECONDS = 4.0


def clicks(moments: np.ndarray) -> np.ndarray:
    sound = np.zeros(round(SECONDS * RATE), dtype=np.float32)
    burst = np.random.default_rng(0).standard_normal(2000) * np.exp(-np.arange(2000) / 400)
    for moment in moments:
        start = round(moment * RATE)
        sound[start : start + 2000] += burst[: len(sound) - start]
    return sound


def on_beat(moments: np.ndarray, beats: np.ndarray) -> tuple[float, float]:
    return on_time(onset_seconds(clicks(moments), RATE), onset_seconds(clicks(beats), RATE), SECONDS)


def test_onsets_are_found_where_they_are():
    beats = np.arange(0.3, 3.8, 0.25)
    found = onset_seconds(clicks(beats), RATE)
    assert len(found) == len(beats)
    assert np.abs(found - beats).max() < 0.03


def test_clicks_on_the_grid_are_on_time_and_clicks_off_it_are_not():
    beats = np.arange(0.3, 3.8, 0.25)
    share, chance = on_beat(beats[::2], beats)
    assert share == 1
    assert chance == pytest.approx(len(beats) * 0.06 / SECONDS, abs=0.01)
    assert on_beat(beats[:-1] + 0.125, beats)[0] == 0
    strewn = np.random.default_rng(0).uniform(0.2, 3.8, (20, 8))
    assert np.mean([on_beat(np.sort(one), beats)[0] for one in strewn]) == pytest.approx(chance, abs=0.12)


def test_without_onsets_nothing_is_on_time():
    nothing = np.zeros(0)
    assert np.isnan(on_time(nothing, np.ones(3), SECONDS)).all()
    assert np.isnan(on_time(np.ones(3), nothing, SECONDS)).all()


def clips(centre: float, seed: int, number: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(centre, 1, (number, 20))


SONGS = [f"song {number % 12}" for number in range(60)]
OTHERS = [f"another {number % 12}" for number in range(60)]


def test_clips_of_one_kind_are_at_no_distance_and_the_further_apart_the_more():
    none = [kernel_distance(clips(0, seed), clips(0, 100 + seed), SONGS, OTHERS) for seed in range(8)]
    assert np.mean(none) == pytest.approx(0, abs=40)
    assert min(none) < 0 < max(none)
    distances = [kernel_distance(clips(shift, 1), clips(0, 2), SONGS, OTHERS) for shift in (0.3, 0.6, 1.2)]
    assert 150 < distances[0] < distances[1] < distances[2]


def test_clips_of_a_song_dont_count_as_alike():
    """Each song lies elsewhere; of the same songs the distance would be below nothing if they met themselves."""
    centres = np.random.default_rng(3).normal(0, 1, (12, 20)).repeat(5, axis=0)
    songs = [f"song {number}" for number in range(12) for _ in range(5)]
    one, other = (centres + 0.1 * np.random.default_rng(seed).standard_normal(centres.shape) for seed in (4, 5))
    assert kernel_distance(one, other, songs, songs) == pytest.approx(0, abs=20)
    assert kernel_distance(one, other, songs, [f"other {song}" for song in songs]) < -200


def test_one_song_has_no_distance():
    assert np.isnan(kernel_distance(clips(0, 1, 1), clips(0, 2, 1), ["song"], ["song"]))
    assert np.isnan(kernel_distance(clips(0, 1), clips(0, 2), ["song"] * 60, ["song"] * 60))


def test_features_say_what_a_clip_sounds_like_and_not_how_loud():
    loud, soft = (sound_features(gain * hits(0.3, 0.0), RATE) for gain in (1.0, 0.01))
    assert loud == pytest.approx(soft, abs=0.05)
    kinds = np.stack([sound_features(one, RATE) for one in (voice(220), voice(233), whistles(220), noise())])
    scaled = standardise(kinds, kinds)
    apart = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    assert np.isfinite(kinds).all()
    assert apart[0, 1] < min(apart[0, 2], apart[0, 3])
    assert np.isfinite(sound_features(np.zeros(RATE, dtype=np.float32), RATE)).all()


def sung(notes: list[float], seconds: float = 0.5) -> np.ndarray:
    """Notes (MIDI numbers) one after another, each with overtones."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitches = [440 * 2 ** ((note - 69) / 12) for note in notes]
    parts = [sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6)) for pitch in pitches]
    return (0.1 * np.concatenate(parts)).astype(np.float32)


@pytest.fixture(scope="module")
def harmony() -> Harmony:
    """C, F, G and C major, half a second each, twice."""
    chords = [(48, 60, 64, 67), (53, 60, 65, 69), (55, 59, 62, 67), (48, 60, 64, 67)]
    return Harmony(sum(sung([chord[voice] for chord in chords * 2]) for voice in range(4)), RATE)


def test_a_melody_of_the_chords_fits_and_one_of_another_key_doesnt(harmony):
    in_scale, in_chord = harmony.fit(melody(sung([60, 65, 67, 60] * 2), RATE))
    assert in_scale > 0.9
    assert in_chord > 0.85
    passing = harmony.fit(melody(sung([69, 62, 64, 65] * 2), RATE))  # notes of the scale, none of the chord
    assert passing[0] > 0.9
    assert passing[1] < 0.3
    assert harmony.fit(melody(sung([66, 61, 68, 70] * 2), RATE))[0] < 0.1  # the black keys
    assert np.isnan(harmony.fit(np.full(100, np.nan))).all()


def test_the_same_song_is_the_same_and_a_semitone_up_isnt():
    notes = melody(sung([64, 69, 62, 60]), RATE)
    assert sung_the_same(notes, notes) == 1
    assert sung_the_same(notes, notes + 0.3) == 1
    assert sung_the_same(notes, notes + 1) == 0
    half = np.concatenate([notes[: len(notes) // 2], notes[len(notes) // 2 :] + 1])
    assert sung_the_same(notes, half) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(sung_the_same(notes, np.full_like(notes, np.nan)))


def test_confidence_is_high_in_a_tone_and_low_in_noise():
    assert confidence(voice(220), RATE) > 0.9
    assert confidence(noise(), RATE) < 0.1


def test_a_picture_is_like_itself_whenever_it_begins():
    pixels = np.full((512, 512), 255, dtype=np.uint8)
    for place in range(6):
        pixels[60 * place : 60 * place + 20, 80 * place : 80 * place + 60] = 0
    pictures = [pixels, np.roll(pixels, 128, axis=1), pixels[::-1], np.roll(pixels, 60, axis=0)]
    ones = np.stack([thumbnail(Image.fromarray(picture)) for picture in pictures])
    alike = likeness(ones, ones)
    assert np.diag(alike) == pytest.approx(1)
    assert alike[0, 1] == pytest.approx(1)
    assert alike[0, 2] < 0.8
    assert alike == pytest.approx(alike.T)


@pytest.mark.parametrize(("hertz", "found"), [(0.8, 0), (3.0, 1), (6.0, 2), (12.0, 3), (20.0, 4)])
def test_a_swell_is_found_in_the_range_of_its_own_rate(hertz, found):
    frames, rate = 600, 86.0
    level = np.tile(10 * np.sin(2 * np.pi * hertz * np.arange(frames) / rate), (64, 1))
    level[:16] = 0  # the lowest group of bands stands still
    strengths = modulation(level, rate).reshape(5, 4)
    assert (strengths[:, 1:].argmax(axis=0) == found).all()
    assert strengths[:, 0] == pytest.approx(-2)
    assert strengths[found, 1:] == pytest.approx(np.log10(10 / 2), abs=0.15)
