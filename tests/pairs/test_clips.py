import numpy as np
import pytest
from conftest import RATE, tone

from riffusion.pairs.clips import Clip, ReadStems, clip_starts
from riffusion.pairs.features import SILENCE_DB
from riffusion.pairs.tasks import ADD, KEEP, REMOVE, Edit


def clip(**stems: np.ndarray) -> Clip:
    signals = {name: stem[0] for name, stem in stems.items()}
    return Clip(0, 0.0, 0, RATE, signals, {name: float(np.mean(stem**2)) for name, stem in stems.items()})


def test_clips_cover_a_song_without_its_tail():
    assert list(clip_starts(1050, 100)) == list(range(0, 1000, 100))
    assert list(clip_starts(200, 100, overlap=0.5)) == [0, 50, 100]
    assert list(clip_starts(99, 100)) == []


def test_powers_of_sums_are_those_of_the_summed_samples():
    three = clip(a=tone(220, 1.0), b=tone(220, 1.0, level=0.1), c=tone(331, 1.0))
    for names in ("a", "ab", "abc", "bc"):
        assert three.power(names) == pytest.approx(float(np.mean(three.mix(names) ** 2)), rel=1e-4)
    assert three.power("") == 0


def test_powers_of_sums_of_many_stems():
    many = clip(**{f"part {number}": tone(80 * 1.1**number, 1.0) for number in range(24)})
    for names in ([*many.stems][:1], [*many.stems][3:20], [*many.stems]):
        assert many.power(names) == pytest.approx(float(np.mean(many.mix(names) ** 2)), rel=1e-4)


def test_levels_are_those_of_the_stem_over_the_rest():
    two = clip(vocals=tone(220, 1.0, level=0.1), bass=tone(110, 1.0, level=0.2))
    both = frozenset({"vocals", "bass"})
    for edit, backing in ((Edit(ADD, "vocals"), both - {"vocals"}), (Edit(REMOVE, "vocals"), both)):
        assert two.level_db(edit, backing) == pytest.approx(-6, abs=0.1)
    assert two.level_db(Edit(KEEP), both) == SILENCE_DB


def test_silence_and_bleed_do_not_sound():
    quiet = clip(vocals=tone(220, 1.0), bass=1e-3 * tone(110, 1.0), drums=np.zeros((1, RATE)))
    assert quiet.audible() == {"vocals"}
    assert clip(vocals=1e-5 * tone(220, 1.0)).audible() == frozenset()


def test_the_power_filter_keeps_loud_clips_and_drops_quiet_ones():
    stem = tone(200, 1.0, level=0.2)[0]
    song_power = float(np.mean(stem**2)) / 2  # the other half of the song is quiet
    for level, loud in ((0.2, True), (0.002, False)):  # -14 and -54 dBFS: in int16 the power wraps there
        part = Clip(0, 0.0, 0, RATE, {"vocals": stem * level / 0.2}, {"vocals": song_power})
        assert ("vocals" in part.loud(0.4)) == loud
        assert "vocals" in part.loud(0.0)


def test_a_clip_whose_stem_is_quiet_is_given_up_before_the_others_are_read():
    read: list[str] = []
    stems = ReadStems(("vocals", "bass"), lambda name: read.append(name) or tone(220, 0.1, level=0.1)[0])
    power = float(np.mean(stems["vocals"] ** 2))
    for share, loud in ((2.0, False), (0.999, True)):
        part = Clip(0, 0.0, 0, RATE, stems, {"vocals": power / 0.4 * share, "bass": power})
        assert part.may_be_loud(frozenset({"vocals"}), 0.4) == loud
    assert read == ["vocals"]
    assert part.loud(0.4) == {"vocals", "bass"}
    assert read == ["vocals", "bass"]
