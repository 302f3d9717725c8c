"""Do the instructions of a dataset vary, are they true, and does the text decide what is painted?

    python benchmarks/instructions.py --dataset_dir build/pairs/train/leadsheets \\
      --root_data_dir ../shared/data/leadsheets/train --labels ../shared/data/leadsheets/tracks.tsv

Claims are found by words listed here, not by the templates that wrote them, and checked against the labels and against
the songs, which are read and measured again. Two guesses are made from an instruction's words alone: a linear
classifier names the painted stem (five-fold cross-validation), and the most similar of all other instructions (TF-IDF
of words and pairs of words, cosine) names stem and song.
"""

import argparse
import csv
import random
import re
import sys
from collections import defaultdict
from dataclasses import astuple
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from whole_songs import load_stems

from riffusion.audio import decibels
from riffusion.image import changed_share, mel_from_pixels, pixels_from_mel
from riffusion.pairs import stems
from riffusion.pairs.features import CHECKED_LABELS, LEVEL_DB, NOTE_SECONDS, PER_SECOND, REGISTER_HZ, measure_pitch
from riffusion.pairs.pair import METADATA, Pair, read_records
from riffusion.pairs.task_words import read_task
from riffusion.pairs.tasks import ADD
from riffusion.spectrogram_params import SpectrogramParams
from riffusion.util import files, tables
from riffusion.util.flags import Help
from riffusion.util.runtime import run_script

CLIP_SAMPLES = SpectrogramParams().clip_samples
TOLERANCE = 0.05  # of a value (of a density one note), for a clip that was read and cut in another way

LABEL_WORDS = {
    "voice": {
        "male": r"male|man|man's",
        "female": r"female|woman|woman's",
        "child": r"child|child's",
    },
    "delivery": {
        "dry": r"dry|unprocessed|effects",
        "reverb": r"reverb|reverberant|echoing|hall|roomy-sounding",
        "overdrive": r"overdrive|overdriven|distorted|gritty",
    },
}
HEARD_WORDS = {
    "median_f0_hz": {
        REGISTER_HZ["low"]: r"low|low-pitched",
        REGISTER_HZ["high"]: r"high|high-pitched",
        CHECKED_LABELS["deep"][1:]: r"deep",
        CHECKED_LABELS["tenor"][1:]: r"tenor",
        CHECKED_LABELS["alto"][1:]: r"alto",
    },
    "note_seconds": {
        NOTE_SECONDS["short"]: r"short|choppy|clipped|staccato|brief",
        NOTE_SECONDS["long"]: r"long|sustained|drawn-out|long-breathed|lingers|holding",
    },
}
LOUDNESS_WORDS = {
    "soft": r"soft|softly|quiet|quietly|hushed|subtle|restrained|understated|discreet|faint|background|modest",
    "loud": r"loud|strong|powerful|bold|prominent|forceful|commanding|mighty|front|volume(?<!modest volume)|dominates",
}
DENSITY_WORDS = {
    "sparse": r"sparse|spacious|minimal|economical|roomy|uncluttered|few|space|spaces|gaps|breathe",
    "dense": r"busy|dense|active|packed|flowing|many|full of|lots|hardly pauses|succession|keeps moving",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--dataset_dir", type=Path, nargs="+", required=True, help="folders that preprocess_musdb.py wrote")
    add("--root_data_dir", type=Path, nargs="+", required=True, help="the songs of each, to measure them again")
    add("--labels", type=Path, nargs="+", required=True, help="the label tables (TSV) of each")
    add("--max_measured", type=int, default=300, help="vocal claims to measure again (default: 300)")
    add("--json", type=Path, help="also write the figures here (default: print them only)")
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> int:
    """Measure; returns the exit code."""
    by_folder = {path.parent: read_records(path) for root in args.dataset_dir for path in sorted(root.rglob(METADATA))}
    pairs = [pair for held in by_folder.values() for pair in held]
    labels = {row["track"]: row for path in args.labels for row in csv.DictReader(path.open(), delimiter="\t")}
    songs = {song.name: song for root in args.root_data_dir for song in stems.find_songs(root)}
    figures = {
        **variety(pairs),
        **guesses(pairs),
        **{f"false {name}": number for name, number in false_labels(pairs, labels).items()},
        **false_measurements(pairs, songs, args.max_measured),
        **picture_changes([(folder, pair) for folder, held in by_folder.items() for pair in held]),
    }
    print(tables.table([{"figure": name, "value": value} for name, value in figures.items()]))
    if args.json is not None:
        files.save_json(args.json, {"settings": vars(args), **figures})
    return 0


def variety(pairs: list[Pair]) -> dict[str, object]:
    """How many different instructions and words there are, and on how many clips several share a backing."""
    texts = [pair.text.edit_prompt for pair in pairs]
    words = {word for text in texts for word in re.findall(r"[a-z'-]+", text.lower())}
    lengths = [len(text.split()) for text in texts]
    clips, shared = set(), set()
    asked = defaultdict(set)
    for pair in pairs:
        clip = pair.source.song, pair.source.clip, pair.source.semitones
        clips.add(clip)
        asked[clip, pair.source.backing_stems].add((pair.text.edit_prompt, pair.edit.stem))
    shared = {clip for (clip, _), asks in asked.items() if len({stem for _, stem in asks}) > 1}
    return {
        "pairs": len(pairs),
        "different instructions": len(set(texts)),
        "different words": len(words),
        "shortest, in words": min(lengths),
        "longest, in words": max(lengths),
        "clips": len(clips),
        "clips where one backing is asked for different stems %": 100 * len(shared) / len(clips),
        "tasks read from the text %": 100
        * float(np.mean([read_task(pair.text.edit_prompt) == pair.edit.task for pair in pairs])),
    }


def guesses(pairs: list[Pair]) -> dict[str, object]:
    """How well the text names the painted stem, and the song."""
    told = [pair for pair in pairs if pair.edit.stem]
    vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[a-z'-]+").fit_transform(
        [pair.text.edit_prompt for pair in told]
    )
    nearest = []
    for first in range(0, len(told), 500):
        likeness = (vectors[first : first + 500] @ vectors.T).toarray()
        rows = np.arange(len(likeness))
        likeness[rows, first + rows] = -1  # itself
        nearest += likeness.argmax(axis=1).tolist()
    near = list(zip(told, (told[place] for place in nearest), strict=True))
    same = {
        "painted_stem": [one.edit.stem == other.edit.stem for one, other in near],
        "song": [one.source.song == other.source.song for one, other in near],
    }
    classifier = LogisticRegression(C=10, max_iter=2000)
    named = cross_val_score(classifier, vectors, [pair.edit.stem for pair in told], cv=5)
    return {
        "a classifier names the painted stem %": 100 * float(named.mean()),
        **{f"nearest neighbour names the {key} %": 100 * float(np.mean(values)) for key, values in same.items()},
    }


def says(pattern: str, text: str) -> bool:
    """Whether a text has words that match the pattern."""
    return re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", text) is not None


def false_labels(pairs: list[Pair], labels: dict[str, dict[str, str]]) -> dict[str, int]:
    """Claims about voice, delivery and style that the song's labels don't make."""
    styles = {style for row in labels.values() for style in re.split("[;,] *", row.get("style", "")) if style}
    false: dict[str, int] = defaultdict(int)
    for pair in pairs:
        row, text = labels[pair.source.song], pair.text.edit_prompt
        for label, words in LABEL_WORDS.items():
            for value, pattern in words.items():
                false[label] += says(pattern, text) and row.get(label) != value
        said = [style for style in styles if says(f"{re.escape(style)}(?:-style)?", text)]
        false["style"] += any(style not in row["style"] for style in said)
    return dict(false)


def false_measurements(pairs: list[Pair], songs: dict[str, stems.Song], most: int) -> dict[str, object]:
    """Claims about pitch, notes and level of vocals that a new measurement denies."""
    vocal = [pair for pair in pairs if pair.edit.stem == "vocals"]
    chosen = sorted(random.Random(0).sample(vocal, min(most, len(vocal))), key=lambda pair: pair.source.song)
    false: dict[str, int] = {"false pitch": 0, "false notes": 0, "false loudness": 0, "false density": 0}
    claims, loaded_song, loaded = 0, "", {}
    for pair in tqdm(chosen, desc="measuring again"):
        source = pair.source
        if source.song != loaded_song:
            loaded_song = source.song
            loaded = {name: stem.mean(axis=0) for name, stem in load_stems(songs[loaded_song]).items()}
        start = round(source.start_seconds * 44100)
        speed = 2 ** (source.semitones / 12)
        cut = {name: stem[start : start + round(CLIP_SAMPLES * speed)] for name, stem in loaded.items()}
        rest = [name for name in source.backing_stems.split(", ") if name != "vocals"]
        level = decibels(np.mean(cut["vocals"] ** 2), np.mean(sum(cut[name] for name in rest) ** 2))
        heard = measure_pitch(cut["vocals"], 44100)
        values = {
            "false pitch": (heard.median_f0_hz * speed, HEARD_WORDS["median_f0_hz"]),
            "false notes": (heard.note_seconds / speed, HEARD_WORDS["note_seconds"]),
            "false loudness": (level, edges(LOUDNESS_WORDS, LEVEL_DB["vocals"])),
            "false density": (heard.events_per_second * speed, edges(DENSITY_WORDS, PER_SECOND["vocals"])),
        }
        text = re.sub(r"soft rock|modest volume", "", pair.text.edit_prompt)
        for name, (value, words) in values.items():
            for (low, high), pattern in words.items():
                if says(pattern, text):
                    claims += 1
                    margin = 44100 / CLIP_SAMPLES if name == "false density" else TOLERANCE * max(1.0, abs(value))
                    false[name] += not low - margin <= value <= high + margin
    return {"vocal pairs measured again": len(chosen), "their claims": claims, **false}


def edges(words: dict[str, str], limits: tuple[float, float]) -> dict[tuple[float, float], str]:
    """Ranges for a pair of words: up to the lower limit, and from the upper one."""
    low, high = words.values()
    return {(-np.inf, limits[0]): low, (limits[1], np.inf): high}


def picture_changes(pairs: list[tuple[Path, Pair]]) -> dict[str, object]:
    """Least share of pixels that 200 random parts to add change, from the pictures as they were saved."""
    added = [(folder, pair) for folder, pair in pairs if pair.edit.task == ADD]
    shares = []
    for folder, pair in random.Random(1).sample(added, min(200, len(added))):
        before, after = (np.asarray(Image.open(folder / name).convert("L")) for name in astuple(pair.images))
        if pair.scale.target == "stem":
            after = pixels_from_mel(mel_from_pixels(before, 1.0) + mel_from_pixels(after, 1.0), 1.0)
        shares.append(changed_share(before, after))
    return {"add pairs looked at": len(shares), "least share of pixels changed %": 100 * min(shares)}


if __name__ == "__main__":
    run_script(main, parse_args())
