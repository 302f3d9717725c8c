import math

from riffusion.monitor import Progress


def test_a_loss_that_no_longer_falls_is_said_so():
    progress = Progress()
    for step, loss in ((10, 0.5), (20, 0.4), (30, 0.41), (40, 0.42)):
        assert len(progress.look(step, loss, loss)) == 1
    lines = progress.look(50, 0.43, 0.39)
    assert "has not improved for 30 steps: the best was 0.4000 at step 20" in lines[1]
    assert (progress.best_step, progress.looks_since_best) == (20, 3)
    assert len(progress.look(60, 0.3, 0.3)) == 1


def test_learning_by_heart_is_said_so():
    progress = Progress()
    assert len(progress.look(10, 0.4, 0.3)) == 1
    lines = progress.look(20, 0.39, 0.1)
    assert "overfitting: held-out loss is 3.9 times the training loss" in lines[1]


def test_progress_survives_a_checkpoint():
    progress, resumed = Progress(), Progress()
    progress.look(10, 0.4, 0.3)
    resumed.load_state_dict(progress.state_dict())
    assert resumed == progress
    assert math.isnan(Progress().held_out_loss)
