"""Folders of pairs in several layouts, and what becomes of them: damaged, mixed, renamed; and what is left in them."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from random import Random

import odd_files
import pyarrow.parquet as pq
from PIL import Image

import preprocess_musdb
import upload_musdb
from riffusion.pairs.pair import METADATA, read_records
from riffusion.spectrogram_params import ExifTags, SpectrogramParams

ONE_SONG, SONGS, ORIGINAL, PARQUET = "one song", "songs", "the original's", "Parquet"
KINDS = (ONE_SONG, SONGS, ORIGINAL, PARQUET)
PICTURES = ("original_image", "edited_image")
PICTURE_KEYS = {name + "_file_name": name for name in PICTURES}
ORIGINAL_KEYS = dict(zip(("input_file_path", "edited_file_path"), PICTURES, strict=True))
PROMPT = "edit_prompt"
PICTURE_ENDINGS = (".png", ".jpg")
ROOT_NAMES = (
    "set [v2]",
    "a*b",
    "what?",
    "a::b",
    "{x}",
    "100% #1",
    os.fsdecode(b"caf\xe9"),
    "test",
    "-x",
    "...",
    "two\nlines",
)

USUAL_TAGS = SpectrogramParams().to_exif(0)  # of EXIF, which are assumed where they are missing
DRAWING_TAGS = {tag: value for tag, value in USUAL_TAGS.items() if tag != ExifTags.MAX_VALUE}  # each pair has its own

Row = list[str]  # digests of both pictures, and the instruction


@dataclass(frozen=True)
class Record:
    """What a record says, and whether it is of the validation split."""

    pictures: list
    prompt: object
    target: object
    held_out: bool


@dataclass(frozen=True)
class OddPairs:
    """A folder of pairs to be read; `harmless` if all pairs are in it, as they were."""

    what: str
    root: Path
    harmless: bool = False


def make_folders(recordings: Path, folder: Path) -> None:
    """Make pairs of the parts of `odd_files.make_recordings` with our scripts, in every layout, named by kind."""
    for take, subset in enumerate(("train", "valid")):
        for song in range(2 - take):
            shutil.copytree(recordings / "parts" / str(take), folder / "music" / subset / f"Band - Song {song}")
    flags = ["--root_data_dir", str(folder / "music"), "--output_dir", str(folder / SONGS), "--num_proc", "1"]
    short = ["--silence", "--frame_len_seconds", "0.63", "--pairs_per_clip", "1"]
    if preprocess_musdb.main(preprocess_musdb.parse_args([*flags, *short])) != 0:
        raise RuntimeError("no pairs were made")
    first = sorted((folder / SONGS / "train").iterdir())[0]
    shutil.copytree(first, folder / ONE_SONG)
    make_original(folder / ONE_SONG, folder / ORIGINAL)
    flags = ["--data_root", str(folder / SONGS), "--output_dir", str(folder / PARQUET)]
    upload_musdb.main(upload_musdb.parse_args(flags))


def make_original(pairs: Path, folder: Path) -> None:
    """Write a folder of pairs as the original project's preprocessing did: JPEGs in two folders, and one file."""
    lines = []
    for number, pair in enumerate(read_records(pairs / METADATA)):
        written = {PROMPT: pair.text.edit_prompt}
        for key, name in zip(ORIGINAL_KEYS, astuple(pair.images), strict=True):
            picture = Image.open(pairs / name)
            written[key] = f"{'input_image' if key.startswith('in') else 'edited_image'}/s0_f{number}_e0.jpg"
            (folder / written[key]).parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").save(folder / written[key], exif=picture.getexif())
        lines.append(json.dumps(written) + "\n")
    (folder / METADATA).write_text("".join(lines), encoding="utf-8")


def odd_pairs(folders: Path, kind: str, mutation: str, root: Path, rng: Random) -> OddPairs:
    """A copy of a folder of pairs at `root`, or beside it, after a mutation. The same `rng` brings the same folder."""
    shutil.copytree(folders / kind, root)
    return MUTATIONS[mutation](root, rng)


def is_possible(kind: str, mutation: str) -> bool:
    """Whether a folder of this kind has what the mutation changes."""
    return kind != PARQUET or mutation in ("file cut", "file damaged", "names", "strays")


def choose(root: Path, rng: Random, *endings: str) -> Path:
    """A file that ends so."""
    return rng.choice([path for path in sorted(root.rglob("*")) if path.name.endswith(endings) and path.is_file()])


def change_line(root: Path, rng: Random, change: Callable[[dict], object]) -> None:
    """Change one of a folder's records."""
    file = choose(root, rng, METADATA)
    lines = file.read_text(encoding="utf-8").splitlines()
    place = rng.randrange(len(lines))
    record = json.loads(lines[place])
    change(record)
    lines[place] = json.dumps(record)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def lines_cut(root: Path, rng: Random) -> OddPairs:
    """A record is cut short, or the file with it."""
    file = choose(root, rng, METADATA)
    data = file.read_bytes()
    place = rng.randrange(1, len(data) - 2)
    rest = data[data.index(b"\n", place) :] if rng.random() < 0.5 else b""
    file.write_bytes(data[:place] + rest)
    return OddPairs(f"{METADATA} cut at {place}{' in a line' * bool(rest)}", root)


def lines_doubled(root: Path, rng: Random) -> OddPairs:
    """A record is there twice, or all are."""
    file = choose(root, rng, METADATA)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    added = lines if rng.random() < 0.5 else [rng.choice(lines)]
    file.write_text("".join([*lines, *added]), encoding="utf-8")
    return OddPairs(f"{len(added)} records twice", root, harmless=True)


def keys(root: Path, rng: Random) -> OddPairs:
    """A record has other keys or values than it should."""
    value = rng.choice([None, 5, "", [1], {"a": 1}, "../x.png", "/etc/passwd", "no such.png", float("nan"), "x\0y.png"])
    way = rng.choice(["drop", "rename", "set", "set", "set", "add"])
    said = []

    def change(record: dict) -> None:
        needed = [key for key in record if key in (*PICTURE_KEYS, *ORIGINAL_KEYS, PROMPT)]
        key = rng.choice(needed if rng.random() < 0.7 else list(record))
        old = record.pop(key) if way in ("drop", "rename") else record[key]
        if way in ("set", "rename"):
            record[key if way == "set" else key.upper()] = value if way == "set" else old
        elif way == "add":
            record["extra"] = value
        said.append(f"{way} {key if way != 'add' else 'extra'} {value!r}")

    change_line(root, rng, change)
    return OddPairs(said[0], root)


def encoding(root: Path, rng: Random) -> OddPairs:
    """The records are written as other editors and systems write them."""
    file = choose(root, rng, METADATA)
    text = file.read_text(encoding="utf-8")
    ways = {
        "a byte order mark": b"\xef\xbb\xbf" + text.encode(),
        "CRLF": text.replace("\n", "\r\n").encode(),
        "blank lines": text.replace("\n", "\n\n \n").encode(),
        "no final newline": text.rstrip("\n").encode(),
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.replace("add", "\N{LATIN SMALL LETTER E WITH ACUTE}", 1).encode("latin-1"),
        "a zero byte": text.replace(": ", ": \0", 1).encode(),
        "escaped half of a pair": text.replace("add", "\\ud800", 1).encode(),
    }
    way = rng.choice(list(ways))
    file.write_bytes(ways[way])
    return OddPairs(way, root, harmless=list(ways).index(way) < 4)


def file_cut(root: Path, rng: Random) -> OddPairs:
    """A picture, or a Parquet file, is cut short."""
    file = choose(root, rng, *PICTURE_ENDINGS, ".parquet")
    data = file.read_bytes()
    kept = rng.choice([0, rng.randrange(len(data)), rng.randrange(len(data)), len(data) - rng.randrange(1, 20)])
    file.write_bytes(data[:kept])
    return OddPairs(f"{file.name} cut to {kept} of {len(data)} bytes", root)


def file_damaged(root: Path, rng: Random) -> OddPairs:
    """A picture, or a Parquet file, has other bytes."""
    file = choose(root, rng, *PICTURE_ENDINGS, ".parquet")
    source = odd_files.Source("", "", file.read_bytes(), b"", b"")
    what, data = rng.choice([odd_files.flipped, odd_files.zeroed, odd_files.header, odd_files.overwritten])(source, rng)
    file.write_bytes(data)
    return OddPairs(f"{file.name}: {what}", root)


def picture_missing(root: Path, rng: Random) -> OddPairs:
    """A picture isn't there, or it is something else."""
    file = choose(root, rng, *PICTURE_ENDINGS)
    way = rng.choice(["missing", "a folder", "a web page", "a link to nothing", "in capitals"])
    if way == "in capitals":
        file.rename(file.with_name(file.name.upper()))
    elif way == "a web page":
        file.write_text("<!DOCTYPE html><html><body>404</body></html>")
    else:
        file.unlink()
    if way == "a folder":
        file.mkdir()
    if way == "a link to nothing":
        file.symlink_to("nowhere.png")
    return OddPairs(f"{file.name} is {way}", root)


def names(root: Path, rng: Random) -> OddPairs:
    """The folder, or one in it, has letters in its name that mean something to a shell or to `datasets`."""
    name = rng.choice(ROOT_NAMES)
    below = [path for path in sorted(root.rglob("*")) if (path / METADATA).is_file()]
    if below and rng.random() < 0.5:
        folder = rng.choice(below)
        folder.rename(folder.with_name(name))
        return OddPairs(f"a song's folder {name!r}", root, harmless=True)
    shutil.copytree(root, root.with_name("a1b"))  # which a pattern "a*b" means, too
    return OddPairs(f"its folder {name!r}", root.rename(root.with_name(name)), harmless=True)


def two_kinds(root: Path, rng: Random) -> OddPairs:
    """A picture is of another size or mode, or has other tags."""
    file = choose(root, rng, *PICTURE_ENDINGS)
    picture: Image.Image = Image.open(file)
    exif = picture.getexif()
    way = rng.choice(["narrower", "lower", "RGBA", "P", "CMYK", "I;16", "no tags", "other tags"])
    if way in ("narrower", "lower"):
        picture = picture.crop((0, 0, picture.width - (way == "narrower"), picture.height - (way == "lower")))
    elif way == "no tags":
        exif = Image.Exif()
    elif way == "other tags":
        exif[11000] = 22050
    else:
        picture = picture.convert(way)
    png = way in ("RGBA", "P", "I;16") or (file.suffix == ".png" and way != "CMYK")
    picture.save(file, "PNG" if png else "JPEG", exif=exif)
    return OddPairs(f"{file.name}: {way}", root)


def two_targets(root: Path, rng: Random) -> OddPairs:
    """A record's edited picture shows something else than the others', or nothing that is known."""
    target = rng.choice(["mix", "mix", "nothing", None, 7])
    change_line(root, rng, lambda record: record.update(target=target))
    return OddPairs(f"target {target!r}", root)


def links(root: Path, rng: Random) -> OddPairs:
    """Files or folders are links, or lead nowhere or in a circle."""
    file = choose(root, rng, METADATA)
    way = rng.choice(["a song", "records", "a picture", "a circle", "to nowhere"])
    if way == "a circle":
        (root / "again").symlink_to(root, target_is_directory=True)
    elif way == "to nowhere":
        (root / "gone").symlink_to(root / "no such folder")
    else:
        place = {"a song": file.parent, "records": file, "a picture": choose(file.parent, rng, *PICTURE_ENDINGS)}[way]
        elsewhere = root.with_name("elsewhere")
        place.rename(elsewhere)
        place.symlink_to(elsewhere)
    return OddPairs(f"a link: {way}", root, harmless=way != "to nowhere")


def strays(root: Path, rng: Random) -> OddPairs:
    """Files of other programs lie among them."""
    way = rng.choice([".DS_Store", "notes.txt", "stray.png", "._files", "hidden copy", "empty folder", "unfinished"])
    if way == "._files":
        for path in list(root.rglob("*")):
            if path.is_file():
                path.with_name(f"._{path.name}").write_bytes(
                    bytes.fromhex("00051607000200004d6163204f532058") + bytes(80)
                )
    elif way == "hidden copy":
        shutil.copytree(root, root.with_name("copy"))
        root.with_name("copy").rename(root / ".trash")
    elif way == "empty folder":
        (root / "empty").mkdir()
    else:
        (root / (f"{METADATA}.part" if way == "unfinished" else way)).write_bytes(rng.randbytes(200))
    return OddPairs(way, root, harmless=True)


MUTATIONS: dict[str, Callable[[Path, Random], OddPairs]] = {
    "lines cut": lines_cut,
    "lines doubled": lines_doubled,
    "keys": keys,
    "encoding": encoding,
    "file cut": file_cut,
    "file damaged": file_damaged,
    "missing": picture_missing,
    "names": names,
    "two kinds": two_kinds,
    "two targets": two_targets,
    "links": links,
    "strays": strays,
}


def digest(picture: Image.Image) -> str:
    """What tells a picture from another: its mode, size and pixels."""
    return hashlib.sha256(repr((picture.mode, picture.size)).encode() + picture.tobytes()).hexdigest()[:16]


def read_rows(root: Path, held_out: bool = False) -> tuple[list[Row], str]:
    """All pairs of a folder as Python's own modules and PIL read them, sorted; and the first thing wrong with one.

    With `held_out` only those of the validation split, if there is one.
    """
    rows: list[Row] = []
    drawn: set[object] = set()
    targets: set[object] = set()
    try:
        records = list((parquet_pairs if any(root.rglob("*.parquet")) else folder_pairs)(root))
        if held_out and any(record.held_out for record in records):
            records = [record for record in records if record.held_out]
        for record in records:
            if not isinstance(record.prompt, str):
                raise ValueError(f"{PROMPT} is {record.prompt!r}")
            record.prompt.encode()
            opened = [Image.open(source) for source in record.pictures]
            for picture in opened:
                picture.load()
                tags = picture.getexif()
                known = [float(tags.get(tag, usual)) for tag, usual in DRAWING_TAGS.items()]
                drawn.add((picture.size, *known))
            targets.add(record.target)
            rows.append([*map(digest, opened), record.prompt])
    except Exception as error:  # whatever is wrong with one, it is to be refused
        return sorted(rows), f"{type(error).__name__}: {error}"
    if len(drawn) > 1 or len(targets) > 1:
        return sorted(rows), "pictures or targets of two kinds"
    return sorted(rows), "" if rows else "no pairs"


def folder_pairs(root: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Record]:
    """The records in a folder and those below it."""
    if root.resolve() in seen:
        return
    for path in sorted(root.iterdir()):
        if path.name.startswith((".", "__")):
            continue
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(path)
        if path.is_dir():
            yield from folder_pairs(path, seen | {root.resolve()})
        elif path.name == METADATA:
            for line in path.read_text(encoding="utf-8-sig").split("\n"):
                if line.strip():
                    record = json.loads(line)
                    wanted = ORIGINAL_KEYS if ORIGINAL_KEYS.keys() & record.keys() else PICTURE_KEYS
                    if any(".." in record[key] or record[key].startswith("/") for key in wanted):
                        raise ValueError("outside of its folder")
                    files = [path.parent / record[key] for key in wanted]
                    yield Record(files, record[PROMPT], record.get("target") or "mix", "valid" in path.parts)


def parquet_pairs(root: Path) -> Iterator[Record]:
    """The records of Parquet files."""
    for path in sorted(root.rglob("[!.]*.parquet")):
        for record in pq.read_table(path).to_pylist():
            files = [io.BytesIO(record[name]["bytes"]) for name in PICTURES]
            yield Record(files, record[PROMPT], record.get("target") or "mix", path.name.startswith("validation"))
