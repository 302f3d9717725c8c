import json

from PIL import Image

from riffusion.pairs.dataset import load_splits, musdb18_splits

TRAIN, VALID, TEST = "A Classic Education - NightOwl", "Actions - One Minute Smile", "AM Contra - Heart Peripheral"


def write_pairs(folder, songs: list[str]) -> None:
    folder.mkdir(parents=True)
    Image.new("L", (8, 8)).save(folder / "a.png")
    rows = [{"original_image_file_name": "a.png", "edited_image_file_name": "a.png", "song": song} for song in songs]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def songs_by_split(folder) -> dict[str, list[str]]:
    return {name: split["song"] for name, split in load_splits(str(folder)).items()}


def test_musdb18s_own_lists():
    splits = list(musdb18_splits().values())
    assert {name: splits.count(name) for name in set(splits)} == {"train": 86, "validation": 14, "test": 50}


def test_a_song_is_found_in_the_lists_whatever_the_case_of_its_name(tmp_path):
    write_pairs(tmp_path / "One", [VALID.upper(), f" {TEST.lower()}"])
    assert {name: list(songs) for name, songs in songs_by_split(tmp_path).items()} == {
        "validation": [VALID.upper()],
        "test": [f" {TEST.lower()}"],
    }


def test_a_folder_is_split_by_song(tmp_path):
    write_pairs(tmp_path / "One", [TRAIN, VALID, TRAIN, "my own"])
    write_pairs(tmp_path / "Two", [TEST, VALID])
    splits = songs_by_split(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    assert {name: list(songs) for name, songs in splits.items()} == {
        "train": [TRAIN, TRAIN, "my own"],
        "validation": [VALID, VALID],
        "test": [TEST],
    }


def test_songs_of_no_list_stay_where_they_are(tmp_path):
    write_pairs(tmp_path / "test" / "One", ["my own"])
    write_pairs(tmp_path / "train" / "Two", [VALID, "other"])
    assert {name: list(songs) for name, songs in songs_by_split(tmp_path).items()} == {
        "train": ["other"],
        "validation": [VALID],
        "test": ["my own"],
    }
