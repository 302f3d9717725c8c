from riffusion.training.examples import Draws
from riffusion.training.options import TrainOptions
from riffusion.training.setup import make_draws


def test_options_say_how_examples_are_drawn():
    assert make_draws(64, 8, TrainOptions(conditioning_dropout_prob=0.1)) == Draws(0.1, 0.1, 0.1)
    options = TrainOptions(
        image_dropout_prob=0,
        stratified_timesteps=True,
        train_batch_size=6,
        crop_frames=256,
        timestep_shift=3,
        timestep_shift_share=0.5,
    )
    assert make_draws(64, 8, options) == Draws(0.05, 0.0, 0.05, 3.0, 0.5, strata=6, crop=32)
