"""What pairs are made with. Nothing here imports what takes long."""

from dataclasses import dataclass

from riffusion.pairs.instructions import SAY
from riffusion.pairs.tasks import TASKS, Task

WORKER_MODULES = ("riffusion.pairs.song_pairs",)  # what a process that makes pairs imports, which takes seconds
PITCH_STEPS = (-3, -2, -1, 1, 2, 3)  # semitones of augmentation

# Flags that go together. The original's pairs show the whole result, ask for vocals over all the rest, and have one
# sentence per song.
RECIPES: dict[str, dict[str, object]] = {
    "original": {
        "target": "mix",
        "stems": ["vocals"],
        "tasks": ["add"],
        "pairs_per_clip": 1,
        "subset_prob": 0.0,
        "sentence_per_song": True,
    }
}


@dataclass(frozen=True)
class PairOptions:
    """Everything that decides which pairs are made of a song; the same options and seed make the same pairs."""

    # What is asked for
    stems: tuple[str, ...] = ()  # in lower case, as `riffusion.util.names.key` has them; none stands for all of a song
    tasks: tuple[Task, ...] = TASKS
    pairs_per_clip: int = 6  # at most
    backings_per_clip: int = 2  # which share the pairs of a clip
    subset_prob: float = 0.5  # of a backing of any audible stems instead of all but one
    target: str = "stem"  # what the edited image shows: "stem", the painted stem alone, or "mix", the whole result
    say_prob: float = SAY  # of mentioning each known attribute of a stem
    sentence_per_song: bool = False  # an edit is worded alike in all clips, from the song's labels alone
    seed: int = 0

    # Clips
    sample_rate: int = 44100  # Hz
    clip_seconds: float = 5.11
    overlap: float = 0.0  # of neighbouring clips, as a share of a clip, 0 <= overlap < 1
    pitch_steps: tuple[int, ...] = ()  # semitones by which all clips are shifted, too

    # Which pairs are kept
    min_power_prop: float = 0.4  # mean power of a stem in a clip, as a share of that in its song
    min_level_db: float = -20.0  # of a stem over the rest of the mix
    max_level_db: float = 15.0
    min_changed: float = 0.03  # share of the pixels that the stem changes

    # How
    device: str = "cpu"  # of the transforms, as torch names it
    save_wav: bool = False  # whether each image's sound is written, too

    @property
    def asks_for_stems(self) -> bool:
        """Whether a task is about a stem at all."""
        return any(task.has_stem for task in self.tasks)
