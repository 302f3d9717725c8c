"""Ways through the noise: which solver takes the denoising steps."""

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

SCHEDULERS = {
    "ddim": DDIMScheduler,  # arXiv 2010.02502
    "dpm++": DPMSolverMultistepScheduler,  # arXiv 2211.01095, second order
    "unipc": UniPCMultistepScheduler,  # arXiv 2302.04867
    "euler_a": EulerAncestralDiscreteScheduler,  # draws new noise at every step
}
DRAWING = ("euler_a",)


def make_scheduler(model_scheduler: SchedulerMixin, name: str) -> SchedulerMixin:
    """A solver of `SCHEDULERS` over the noise that a model was trained with, which its own scheduler knows.

    The model's own is taken as it is. Others begin at pure noise, where a model's "leading" steps would leave it out
    (arXiv 2305.08891).
    """
    kind = SCHEDULERS[name]
    if isinstance(model_scheduler, kind):
        return model_scheduler
    return kind.from_config(model_scheduler.config, timestep_spacing="trailing")
