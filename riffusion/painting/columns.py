"""What the columns of result tables mean, in words, for the console and the page."""

from riffusion.painting.metrics import ACTIVE_DB, LEVEL_RANGE_DB, MIN_ACTIVE_SHARE
from riffusion.painting.mixing import LIMITER_DB
from riffusion.util.tables import filled

PERFORMED = (
    f"for add: the stem is active in at least {100 * MIN_ACTIVE_SHARE:g} % of the frames, {LEVEL_RANGE_DB[0]:g} to "
    f"{LEVEL_RANGE_DB[1]:g} dB against the input, and sounds like what was asked for: vocals are voiced, with "
    "overtones, drums have sharp onsets, bass is low and pitched (other stems aren't judged by sound); for keep: it "
    "is active in fewer. Whether it sounds good is not measured, and remove and extract have no verdict (-)"
)
LEVEL = "level of the painted stem against the input, in its active frames"
ACTIVE = (
    f"share of frames where the stem is within {-ACTIVE_DB:g} dB of the input's mean power, and no copy of the input"
)
VOICED = "share of frames where a pitch tracker hears a voice or another clear pitch in the stem"
PITCH = "median pitch of the stem in its voiced frames"

NEVER_HEARD = "instruments asked for that the model wasn't trained on: no verdict listens for them"

MEANINGS = {
    "result": "folder of the result in --base_save_path",
    "task": "what was done with the painted stem: added, removed, extracted, or nothing (keep)",
    "answer": 'what was measured: a model that answers with its input ("copy the input"), or with the true picture '
    '("oracle"), takes the same way',
    "samples": "how many results were measured",
    "text guidance": "--guidance_scale of these results",
    "image guidance": "--image_guidance_scale of these results",
    "kept attempt": "number of the attempt that was kept, the first is 0",
    "attempts": "how many were painted: --num_candidates, and --retries where the edit was not performed",
    "attempt": "number of the attempt, the first is 0",
    "kept": "which attempt the result is",
    "edit performed": PERFORMED,
    "never heard": NEVER_HEARD,
    "performed %": f"share of the results that can be judged whose edit was performed: {PERFORMED}",
    "stem level dB": LEVEL,
    "level dB": f"{LEVEL}; median",
    "active %": ACTIVE,
    "voiced %": VOICED,
    "median pitch Hz": PITCH,
    "pitch Hz": f"{PITCH}; median",
    "overtones %": "share of the first eight overtones that stand 6 dB above the gaps between them, in voiced frames",
    "onsets dB": "how much more the stem rises within 30 ms at its median onset than at the median moment",
    "below 300 Hz %": "share of the stem's power below 300 Hz",
    "on the backing's onsets %": "share of the part's onsets within 30 ms of an onset of the backing",
    "by chance %": "share of the clip's time that is so near to an onset of the backing",
    "distance x 1000": "kernel distance to true parts, pairs of one song left out; compare the control rows",
    "limited dB": f"how far the stem was turned down where the sum would clip, at most {LIMITER_DB:g} dB",
    "limited s": "for how many seconds it was turned down",
    "samples cut": "samples where the stem was cut because turning it down was not enough",
    "input samples clipped": "samples of the input file beyond full scale",
    "backing samples changed": "samples of the input that differ after the edit; 0 means that it is untouched",
    "outside, grey levels": "how far the picture is from the input where nothing was to change, root mean square",
}

# what the console says instead of what takes more than a line there
BRIEFLY = {
    "result": "folder of the result",
    "task": "what was done with the painted stem",
    "edit performed": "heard, as loud as parts are, and sounds as asked (-: can't tell)",
    "performed %": "share of the results with a verdict whose edit was performed",
    "answer": "what was measured: paintings, the input itself, or true parts (oracle)",
    "attempts": "how many were painted (--num_candidates, --retries)",
    "never heard": "what the model wasn't trained on: no verdict listens for it",
    "stem level dB": "level of the painted stem against the input",
    "level dB": "median level of the painted stems against the input",
    "active %": "share of the time in which the stem is heard",
    "limited dB": f"stem turned down where the sum would clip, at most {LIMITER_DB:g} dB",
    "samples cut": "samples where that wasn't enough: pass a lower --stem_gain_db",
    "backing samples changed": "samples of the input that differ after the edit",
    "outside, grey levels": "change of the picture where nothing was to change, rms",
}

# what the settings in result.json mean
SETTINGS = {
    "guidance_scale": "how much more the instruction counts than it would by itself (--guidance_scale)",
    "image_guidance_scale": "how much more the input counts than it would by itself (--image_guidance_scale)",
    "num_inference_steps": "denoising steps",
    "seed": "seed of the noise: the same one paints the same",
    "scheduler": "how the noise is taken away from step to step",
    "guidance_rescale": "how far the guided prediction is brought back to the spread of the unguided one, 0 to 1",
    "guidance_interval": "share of the steps that are guided, from and to",
    "negative_prompt": "what was not to be painted",
    "prompt": "the instruction",
    "task": MEANINGS["task"],
    "model_id": "folder or Hub name of the model",
    "model_sha256": "what the model's files hold, as a digest",
    "target": 'what the model paints: the part alone ("stem") or the whole sound with it ("mix")',
    "num_candidates": "how many were painted at first, to keep the best one",
    "retries": "how many more would be painted while the edit isn't performed",
    "dtype": "precision that the model computes in",
    "start": "seconds from which on it was painted",
    "end": "seconds up to which it was painted; - is the song's end",
    "without_stem": "stem that was left out of the input",
    "stem_gain_db": "how much louder the stem was made",
    "pan": "stereo position of the stem, from -1 (left) to 1 (right)",
    "format": "format of the sounds",
    "bits": "bit depth of wav and flac files",
    "input_sha256": "what the input holds, as a digest",
    "target_sha256": "what the true picture holds, as a digest",
    "onto": "the result that it was painted into",
}


def meanings(tables: list[list[dict[str, object]]]) -> dict[str, str]:
    """The columns of some tables that have an explanation, each once, in order."""
    names = dict.fromkeys(name for rows in tables for row in rows for name in row)
    known = {name: MEANINGS[name] for name in names if name in MEANINGS}
    if "edit performed" in known and "performed %" in known:
        known["performed %"] = "share of the results with a verdict whose edit was performed"
    return known


def legend(tables: list[list[dict[str, object]]], width: int | None = None) -> str:
    """Those explanations, briefly, as lines no wider than `width` characters (default: the terminal's)."""
    lines = (f"{name}: {BRIEFLY.get(name, text)}" for name, text in meanings(tables).items())
    return "\n".join(filled(line, width) for line in lines)
