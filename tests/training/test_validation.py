import math

import pytest

from riffusion.training.validation import Progress


def test_a_loss_that_no_longer_falls_is_said_so():
    progress = Progress()
    for step, loss in ((10, 0.5), (20, 0.4), (30, 0.41), (40, 0.42)):
        assert len(progress.update(step, {1: loss}, {1: loss})) == 1
    lines = progress.update(50, {1: 0.43}, {1: 0.39})
    assert "has not improved for 30 steps: the best was 0.4000 at step 20" in lines[1]
    assert (progress.best_step, progress.looks_since_best) == (20, 3)
    assert len(progress.update(60, {1: 0.3}, {1: 0.3})) == 1


def test_overfitting_is_said_so():
    progress = Progress()
    assert len(progress.update(10, {1: 0.4}, {1: 0.3})) == 1
    lines = progress.update(20, {1: 0.39}, {1: 0.1})
    assert "overfitting: held-out loss is 3.9 times the training loss" in lines[1]


def test_progress_survives_a_checkpoint():
    progress, resumed = Progress(), Progress()
    progress.update(10, {1: 0.4}, {1: 0.3})
    resumed.load_state_dict(progress.state_dict())
    assert resumed == progress
    assert math.isnan(Progress().held_out_loss)


def test_losses_are_told_apart_by_noise():
    progress = Progress()
    lines = progress.update(10, {1: 0.9, 2: 0.5, 3: 0.3, 4: 0.1}, {1: 0.8, 2: 0.4, 3: 0.2, 4: 0.2})
    assert "held-out loss 0.4500 (from least to most noise 0.900 0.500 0.300 0.100)" in lines[0]
    assert "training loss at the same noise 0.4000" in lines[0]
    scalars = progress.scalars()
    assert scalars["gap"] == pytest.approx(0.05)
    assert [scalars[f"held_out_loss_noise_{share}"] for share in (1, 2, 3, 4)] == [0.9, 0.5, 0.3, 0.1]
