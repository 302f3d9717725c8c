import numpy as np
import pytest
import torch

from riffusion.examples import TrainingExamples


def examples(**changed) -> TrainingExamples:
    source = [{"original": torch.full((4, 8, 8), float(pair))} for pair in range(10)]
    settings = {"shape": (4, 8, 8), "timesteps": 1000, "dropout": 0.1, "seed": 0} | changed
    return TrainingExamples([source], **settings)


@pytest.mark.parametrize(("shift", "noisy"), [(1.0, 0.1), (4.0, 0.31), (0.5, 0.05)])
def test_timesteps_are_shifted_towards_noise(shift, noisy):
    shifted = examples(shift=shift)
    drawn = [int(shifted[position]["timestep"]) for position in range(2000)]
    assert np.mean(np.array(drawn) >= 900) == pytest.approx(noisy, abs=0.03)
    assert 0 <= min(drawn) <= max(drawn) < 1000


def test_without_a_shift_timesteps_stay_where_they_were_drawn():
    assert [examples().shifted(timestep) for timestep in range(1000)] == list(range(1000))


def test_an_example_follows_from_seed_and_position_alone():
    first, second = examples(), examples()
    for position in (0, 7, 23):
        for name, value in first[position].items():
            assert torch.equal(value, second[position][name])
    second[999]
    assert torch.equal(first[5]["noise"], second[5]["noise"])
    assert not torch.equal(first[5]["noise"], examples(seed=1)[5]["noise"])
    assert not torch.equal(first[5]["noise"], first[5]["sample_noise"])


def test_every_epoch_holds_every_pair_once_in_its_own_order():
    orders = [[examples().pair_at(10 * epoch + place) for place in range(10)] for epoch in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert examples()[13]["original"][0, 0, 0] == orders[1][3]


def test_dropout_is_three_way():
    drawn = [examples(dropout=0.1)[position] for position in range(4000)]
    kept = [(bool(example["keep_text"]), bool(example["keep_image"])) for example in drawn]
    for case in ((False, True), (False, False), (True, False)):
        assert kept.count(case) / len(kept) == pytest.approx(0.1, abs=0.02)
    assert all(bool(examples(dropout=0.0)[position]["keep_text"]) for position in range(50))
