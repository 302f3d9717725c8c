import io

import numpy as np
import pytest
from conftest import cut, write_picture
from PIL import Image

from riffusion.pairs.picture_file import read_header, read_picture, verify_checksums
from riffusion.spectrogram_params import ExifTags, SpectrogramParams
from riffusion.util.errors import UserError

TAGS = SpectrogramParams().to_exif(123.25)


def as_file(path) -> dict:
    return {"path": str(path), "bytes": None}


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P", "LA", "RGBA", "I;16"])
def test_a_header_says_what_pillow_says(tmp_path, ending, mode):
    path = write_picture(tmp_path / f"a.{ending}", width=48, tags=TAGS)
    try:
        Image.open(path).convert(mode).save(path, exif=Image.open(path).getexif())
    except (OSError, ValueError):
        pytest.skip("no such picture")
    for picture in (as_file(path), {"path": path.name, "bytes": memoryview(path.read_bytes())}):
        header, image = read_header(picture), Image.open(path)
        exif = image.getexif()
        assert (header.mode, header.size) == (image.mode, (48, 512))
        assert header.tags == {tag: exif[tag] for tag in ExifTags if tag in exif}
        if ending in ("png", "jpg", "webp"):
            assert header.tags[ExifTags.MAX_VALUE] == 123.25


@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_cut_picture_is_named(tmp_path, ending, share):
    path = cut(write_picture(tmp_path / f"a.{ending}"), share)
    for read in (read_header, read_picture):
        with pytest.raises(UserError, match=f"^{path}: can't read this picture"):
            read(as_file(path))
        with pytest.raises(UserError, match="^row 7: can't read this picture"):
            read({"path": "a.png", "bytes": path.read_bytes()}, "row 7")


@pytest.mark.parametrize("ending", ["png", "jpg", "gif"])
def test_bytes_after_a_pictures_end_do_no_harm(tmp_path, ending):
    path = write_picture(tmp_path / f"a.{ending}", tags=TAGS)
    before = read_header(as_file(path))
    path.write_bytes(path.read_bytes() + b"more")
    assert read_header(as_file(path)) == before and before.size == (64, 512)


def test_a_full_file_whose_end_was_never_written(tmp_path):
    path = write_picture(tmp_path / "a.png")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(UserError, match="cut short or damaged"):
        read_header(as_file(path))


def test_damage_in_the_middle_is_seen_by_checksums_and_by_decoding(tmp_path):
    path = write_picture(tmp_path / "a.png")
    content = bytearray(path.read_bytes())
    verify_checksums(bytes(content), "a.png")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert read_header(as_file(path)).size == (64, 512)
    with pytest.raises(UserError, match="^a.png: .*damaged"):
        verify_checksums(bytes(content), "a.png")
    with pytest.raises(UserError, match=f"^{path}: .*damaged"):
        read_picture(as_file(path))


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"GIF89a;"])
def test_what_is_no_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match="a.png: can't read this picture"):
        read_header(as_file(tmp_path / "a.png"))
    with pytest.raises(UserError, match="No such file"):
        read_header(as_file(tmp_path / "b.png"))
    with pytest.raises(UserError, match="directory"):
        read_header(as_file(tmp_path))


def test_tags_of_either_byte_order_and_kind():
    exif = Image.Exif()
    exif.update(TAGS)
    for endian in ("<", ">"):
        exif.endian = endian
        file = io.BytesIO()
        Image.fromarray(np.zeros((512, 8), np.uint8)).save(file, "PNG", exif=exif.tobytes())
        header = read_header({"path": None, "bytes": file.getvalue()})
        assert SpectrogramParams.from_exif(header.tags) == SpectrogramParams()
        assert header.tags[ExifTags.MAX_VALUE] == 123.25
