import numpy as np
import pytest
from conftest import RATE
from judges import BANDS, Harmony, darkness, likeness, stem_features, sung_the_same, thumbnail, train_stem_judge
from PIL import Image

KINDS = ("bass", "drums", "vocals")


def picture(grey: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def stem(kind: str, seed: int, loudness: float = 0.8) -> Image.Image:
    """What a kind of stem looks like: steady lines far down, columns over all bands, or wavy lines in the middle."""
    rng = np.random.default_rng(seed)
    dark = 0.02 * rng.random((512, 512))
    time = np.arange(512)
    if kind == "bass":
        for first in range(0, 512, 64):
            dark[512 - rng.integers(20, 60) - 4 :, first : first + 60] += 0.2
            dark[512 - rng.integers(20, 60) :, first : first + 60][:6] += 0.6
    if kind == "drums":
        for start in range(rng.integers(0, 20), 500, rng.integers(30, 60)):
            dark[:, start : start + 12] += np.linspace(0.8, 0.1, 12)
    if kind == "vocals":
        for overtone in range(1, 7):
            rows = 512 - (overtone * (40 + rng.integers(0, 12)) + 4 * overtone * np.sin(time / 9)).astype(int)
            for width in range(4):
                dark[np.clip(rows + width, 0, 511), time] += 0.7 / np.sqrt(overtone)
    return picture(255 * (1 - loudness * np.clip(dark, 0, 1)))


def test_darkness_is_the_share_of_black_with_low_bands_last():
    grey = np.full((512, 300), 255.0)
    grey[256:, 100:200] = 0
    grey[:256, 200:] = 51
    dark = darkness(picture(grey))
    assert dark.shape == (BANDS, 300)
    assert (dark[:, :100] == 0).all()
    assert (dark[BANDS // 2 :, 100:200] == 1).all()
    assert (dark[: BANDS // 2, 100:200] == 0).all()
    assert dark[: BANDS // 2, 200:] == pytest.approx(0.8)


def test_features_of_a_stem_say_nothing_of_its_level():
    for kind in KINDS:
        loud, soft = (stem_features(stem(kind, 0, loudness)) for loudness in (0.9, 0.45))
        assert loud.shape == (3 * BANDS,)
        assert np.linalg.norm(loud - soft) < 0.05 * np.linalg.norm(loud)
    assert np.isfinite(stem_features(picture(np.full((512, 512), 255.0)))).all()


def test_a_judge_names_stems_that_it_never_saw_at_levels_that_it_never_saw():
    named = [kind for kind in KINDS for _ in range(8)]
    judge = train_stem_judge([stem(kind, seed) for seed, kind in enumerate(named)], named)
    asked = [kind for kind in KINDS for _ in range(6)]
    assert judge([stem(kind, 100 + seed, 0.4) for seed, kind in enumerate(asked)]) == asked


def test_a_judge_that_is_taught_wrong_names_answers_wrong():
    wrong = {"bass": "vocals", "vocals": "drums", "drums": "bass"}
    named = [kind for kind in KINDS for _ in range(8)]
    judge = train_stem_judge([stem(kind, seed) for seed, kind in enumerate(named)], [wrong[kind] for kind in named])
    assert judge([stem(kind, 200) for kind in KINDS]) == [wrong[kind] for kind in KINDS]


def tones(notes: list[float], seconds: float = 0.5) -> np.ndarray:
    """MIDI numbers one after another, each with overtones, float32 (samples,)."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitches = [440 * 2 ** ((note - 69) / 12) for note in notes]
    parts = [sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, 6)) for pitch in pitches]
    return (0.1 * np.concatenate(parts)).astype(np.float32)


@pytest.mark.parametrize("tuning", [0.0, 0.3])
def test_a_minor_key_has_the_notes_of_its_relative_major_in_whatever_tuning(tuning):
    chords = [(57, 60, 64), (50, 65, 69), (52, 67, 71), (57, 60, 64)]  # A, D and E minor
    backing = sum(tones([chord[voice] + tuning for chord in chords * 2]) for voice in range(3))
    harmony = Harmony(backing, RATE)
    assert np.flatnonzero(harmony.scale).tolist() == [0, 2, 4, 5, 7, 9, 11]
    assert harmony.tuning == pytest.approx(tuning, abs=0.06)
    frames = np.repeat(np.array([69, 62, 64, 69] * 2) + tuning, 50)
    assert harmony.fit(frames) == (1.0, pytest.approx(1.0, abs=0.05))
    assert harmony.fit(frames + 1)[1] == pytest.approx(0.0, abs=0.05)


def test_a_chord_counts_at_its_own_time():
    harmony = Harmony(tones([60] * 4 + [66] * 4), RATE)
    first, later = np.full(100, np.nan), np.full(100, np.nan)
    first[5:45], later[55:95] = 60, 60
    assert harmony.fit(first)[1] == 1
    assert harmony.fit(later)[1] == 0


def test_melodies_are_compared_where_both_are_voiced():
    one, other = np.array([60.0, 61, np.nan, 63]), np.array([60.4, np.nan, 62, 65, 66])
    assert sung_the_same(one, other) == 0.5
    assert np.isnan(sung_the_same(one, np.full(4, np.nan)))


def test_unrelated_pictures_are_not_alike_and_copies_with_noise_are():
    rng = np.random.default_rng(0)
    drawn = [np.kron(rng.uniform(0, 255, (32, 32)), np.ones((16, 16))) for _ in range(6)]
    noisy = [grey + rng.normal(0, 30, grey.shape) for grey in drawn]
    ones, others = (np.stack([thumbnail(picture(grey)) for grey in some]) for some in (drawn, noisy))
    alike = likeness(ones, others)
    assert np.diag(alike).min() > 0.95
    assert (alike - np.diag(np.diag(alike))).max() < 0.3
