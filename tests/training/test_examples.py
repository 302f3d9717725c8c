import numpy as np
import pytest
import torch

from riffusion.training.examples import Draws, TrainingExamples


def examples(seed: int = 0, source: list | None = None, **draws) -> TrainingExamples:
    source = source or [{"original": torch.full((4, 8, 8), float(pair))} for pair in range(10)]
    return TrainingExamples([source], (4, 8, 8), 1000, seed, Draws(**draws))


def timesteps(count: int, **draws) -> np.ndarray:
    drawn = examples(**draws)
    return np.array([int(drawn[position]["timestep"]) for position in range(count)])


@pytest.mark.parametrize(("shift", "noisy"), [(1.0, 0.1), (4.0, 0.31), (0.5, 0.05)])
def test_timesteps_are_shifted_towards_noise(shift, noisy):
    drawn = timesteps(2000, shift=shift)
    assert np.mean(drawn >= 900) == pytest.approx(noisy, abs=0.03)
    assert 0 <= min(drawn) <= max(drawn) < 1000


def test_a_share_of_the_timesteps_is_shifted_and_the_others_are_as_without_a_shift():
    plain, shifted, mixed = timesteps(1000), timesteps(1000, shift=4), timesteps(1000, shift=4, shift_share=0.25)
    moved = mixed != plain
    assert moved.mean() == pytest.approx(0.25, abs=0.04)
    assert np.array_equal(mixed[moved], shifted[moved])


def test_a_batch_of_strata_has_a_timestep_of_each():
    batches = timesteps(200, strata=8).reshape(25, 8)
    assert np.array_equal(np.sort(batches // 125), np.tile(np.arange(8), (25, 1)))
    assert len({tuple(batch // 125) for batch in batches}) > 20  # in another order each time
    assert np.std(batches % 125) == pytest.approx(125 / 12**0.5, rel=0.1)


def test_timesteps_without_strata_are_as_they_always_were():
    random = np.random.default_rng([0, 1, 3])
    for _ in range(2):
        random.standard_normal((4, 8, 8), dtype=np.float32)
    random.random()
    assert timesteps(4)[3] == random.integers(1000)


def test_a_crop_cuts_latents_and_pixels_at_the_same_place():
    columns = torch.arange(8.0).expand(4, 8, 8)
    pixels = torch.arange(64).expand(3, 64, 64)
    source = [
        {"original": columns, "edited_mean": columns + 10, "original_pixels": pixels, "token_ids": torch.arange(8)}
    ]
    drawn = [examples(source=source, crop=3)[position] for position in range(60)]
    for example in drawn:
        start = int(example["original"][0, 0, 0])
        assert example["original"].shape == example["noise"].shape == example["sample_noise"].shape == (4, 8, 3)
        assert torch.equal(example["edited_mean"], example["original"] + 10)
        assert example["original_pixels"][0, 0].tolist() == list(range(8 * start, 8 * start + 24))
        assert len(example["token_ids"]) == 8
    assert {int(example["original"][0, 0, 0]) for example in drawn} == set(range(6))


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
    drawn = [examples(text_dropout=0.1, both_dropout=0.05, image_dropout=0.2)[position] for position in range(4000)]
    kept = [(bool(example["keep_text"]), bool(example["keep_image"])) for example in drawn]
    for case, share in (((False, True), 0.1), ((False, False), 0.05), ((True, False), 0.2)):
        assert kept.count(case) / len(kept) == pytest.approx(share, abs=0.02)
    assert all(bool(examples()[position]["keep_text"]) for position in range(50))
