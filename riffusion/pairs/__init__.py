"""Songs in stems, what can be asked of them, and pairs of spectrogram images made from both.

from riffusion import pairs

for pair in pairs.make("songs/Band - Song.stem.mp4", pairs.PairOptions(pairs_per_clip=2)):
    print(pair.text.edit_prompt, pair.original.size, pair.edited.size)
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from riffusion.pairs.instructions import SongLabels
from riffusion.pairs.options import PairOptions

if TYPE_CHECKING:
    from riffusion.pairs.song_pairs import DrawnPair

__all__ = ["PairOptions", "SongLabels", "make"]


def make(
    song: Path | str, options: PairOptions | None = None, labels: SongLabels | None = None
) -> "Iterator[DrawnPair]":
    """Pairs of one song, one after another: those that preprocess_musdb.py writes with the same options.

    `song` is a folder with an audio file per stem or a .stem.mp4 file; its name is part of the seed. Each pair has
    `original` and `edited`, two PIL images of mode L on one scale, a column per frame of 10 ms and 512 rows of mel
    bands with low notes at the bottom; `text.edit_prompt`, which leads from one to the other; and the facts behind
    them. `pair.save(folder)` writes its images, and `riffusion.pairs.pair.write_records` what it returns. Without
    `labels` the instructions say only what was measured. Raises UserError if the song can't be read, is shorter than a
    clip, or has nothing to ask for.
    """
    from riffusion.pairs import song_pairs, stems

    return song_pairs.pairs_of(stems.song_at(Path(song)), options or PairOptions(), labels or SongLabels())
