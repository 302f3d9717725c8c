from pathlib import Path

from diffusers.optimization import SchedulerType

import train_instruct_pix2pix
from riffusion.training.options import LR_SCHEDULES, TrainOptions


def test_every_flag_is_an_option_with_its_default():
    args = vars(train_instruct_pix2pix.parse_args([]))
    assert args == vars(TrainOptions())
    assert list(args) == list(vars(TrainOptions()))


def test_learning_rate_schedules_are_those_of_diffusers_that_need_no_rules():
    assert set(LR_SCHEDULES) == {kind.value for kind in SchedulerType} - {"piecewise_constant"}


def test_what_was_chosen_is_what_is_not_by_default():
    assert TrainOptions().chosen() == {}
    chosen = TrainOptions(
        hub_token="secret", train_data_dir=Path("pairs"), seed=0, use_ema=True, crop_frames=64
    ).chosen()
    assert chosen == {"use_ema": True, "train_data_dir": Path("pairs"), "crop_frames": 64}


def test_what_is_published_has_no_token_and_nothing_that_is_overridden():
    published = TrainOptions(hub_token="secret", output_dir=Path("models/mine")).public()
    assert "secret" not in published.values()
    assert published["hub_model_id"] == "mine"
    assert "num_train_epochs" in published and "dataset_name" in published
    published = TrainOptions(max_train_steps=3, train_data_dir=Path("pairs"), hub_model_id="me/model").public()
    assert published["hub_model_id"] == "me/model"
    assert not {"num_train_epochs", "dataset_name"} & set(published)
