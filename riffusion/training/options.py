"""The settings of a training run. Importing this loads nothing that takes long."""

from dataclasses import dataclass
from pathlib import Path

# diffusers' names of the learning rate schedules that need no rules of their own
LR_SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup")


@dataclass(frozen=True)
class TrainOptions:
    """What train_instruct_pix2pix.py can be told, named as its flags, with their defaults."""

    # model
    pretrained_model_name_or_path: str = "riffusion/riffusion-model-v1"
    model_config: str | None = None  # folder with the settings of a model in one file; None: Stable Diffusion's
    revision: str | None = None  # None: the repository's main branch
    variant: str | None = None  # of the weight files, such as "fp16"
    cache_dir: Path | None = None  # of downloads; None: the Hub's own
    train_text_encoder: bool = False
    lora_rank: int | None = None  # None: train all weights
    prediction_type: str | None = None  # "epsilon" or "v_prediction"; None: the model's
    rescale_betas_zero_snr: bool = False
    use_ema: bool = False
    ema_decay: float = 0.9999

    # data
    dataset_name: str = "zachary-shah/musdb18-spec-pix2pix"
    train_data_dir: Path | None = None  # overrides dataset_name
    original_image_column: str = "original_image"
    edited_image_column: str = "edited_image"
    edit_prompt_column: str = "edit_prompt"
    max_train_samples: int | None = None  # pairs; None: all
    resolution: int = 512  # pixels of a picture's height
    dataloader_num_workers: int = 0
    no_cache: bool = False
    latents_dir: Path | None = None  # None: output_dir

    # training
    output_dir: Path = Path("pix2pix-riff-ckpt")
    seed: int = 0
    train_batch_size: int = 4  # examples per process
    num_train_epochs: int = 100  # unless max_train_steps is given
    max_train_steps: int | None = None
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 1e-4
    scale_lr: bool = False
    lr_scheduler: str = "constant"  # one of LR_SCHEDULES
    lr_warmup_steps: int = 500
    conditioning_dropout_prob: float = 0.05  # of text, of the picture and of both, each
    image_dropout_prob: float | None = None  # of the picture alone; None: as above
    snr_gamma: float | None = None  # arXiv 2303.09556, which has 5; None: no weights
    timestep_shift: float = 1.0  # arXiv 2403.03206; above 1 there is more noise
    timestep_shift_share: float = 1.0  # of the examples
    stratified_timesteps: bool = False
    crop_frames: int | None = None  # None: whole pictures
    offset_noise: float = 0.0
    changed_region_weight: float = 1.0
    use_8bit_adam: bool = False
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    mixed_precision: str | None = None  # "no", "fp16" or "bf16"; None: accelerate's config
    allow_tf32: bool = False
    compile: bool = False
    enable_xformers_memory_efficient_attention: bool = False

    # checkpoints and reports
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = None  # None: all stay
    resume_from_checkpoint: str | None = None  # a checkpoint's name or "latest"; None: start from scratch
    save_precision: str = "fp32"  # or "fp16"
    report_to: str = "tensorboard"  # or "wandb" or "none"
    logging_dir: Path = Path("logs")  # inside output_dir
    validation_steps: int | None = None  # None: checkpointing_steps
    early_stopping_patience: int | None = None  # validation runs; None: never stop early
    validation_prompt: str | None = None  # None: each pair's own instruction
    num_validation_images: int = 4
    push_to_hub: bool = False
    hub_token: str | None = None  # None: huggingface_hub's own
    hub_model_id: str | None = None  # None: output_dir's name

    @property
    def model_name(self) -> str:
        """The repository's name, or what the model is called where it isn't uploaded."""
        return self.hub_model_id or self.output_dir.resolve().name

    @property
    def dataset(self) -> str:
        """The folder or Hub dataset that is trained on."""
        return str(self.train_data_dir or self.dataset_name)

    @property
    def steps_between_validations(self) -> int:
        """Optimizer steps between validation runs."""
        return self.validation_steps or self.checkpointing_steps

    def chosen(self) -> dict[str, object]:
        """Those of the public settings that aren't the defaults."""
        defaults = vars(TrainOptions())
        return {name: value for name, value in self.public().items() if vars(self)[name] != defaults[name]}

    def public(self) -> dict[str, object]:
        """The settings to show and to publish: no token, and none that another one overrides."""
        hidden = {"hub_token": True, "dataset_name": self.train_data_dir, "num_train_epochs": self.max_train_steps}
        settings = vars(self) | {"hub_model_id": self.model_name}
        return {name: value for name, value in settings.items() if not hidden.get(name)}
