"""Names of files, which may be anything, as text, as names of folders, and compared with each other."""

import itertools
import re
import sys
import unicodedata
from collections.abc import Sequence

MOST_BYTES = 200  # of a folder's name: file systems take 255, and what is unfinished has a longer one
UNTITLED = "untitled"
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows, whatever the ending
SEPARATORS = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029/\\<>:"|?*]')  # control characters, and what Windows refuses
JOINERS = "\u200c\u200d"  # unseen, but without them some letters and emoji are others
BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that show nothing


def readable(name: str) -> str:
    """A file's name as text, composed (Unicode's NFC). A byte that isn't UTF-8 becomes its percent code: b"\\xe9" %E9.

    What comes out can be encoded, written into JSON and compared with a name that another system has stored.
    """
    known = re.sub("[\ud800-\udc7f\udd00-\udfff]", "?", name)  # no byte of a file's name
    text = known.encode(errors="surrogateescape").decode(errors="surrogateescape")  # bytes that are UTF-8 together
    text = re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)
    return unicodedata.normalize("NFC", text)


def utf8(text: str) -> str | None:
    """A command line's text, whatever the locale, None if its bytes aren't UTF-8."""
    try:
        return text.encode(errors="surrogateescape").decode()
    except UnicodeError:
        return None


def key(name: str) -> str:
    """What names have in common that differ only in case, in Unicode's form or in spaces around them."""
    return unicodedata.normalize("NFC", readable(name).casefold()).strip()


def safe_name(text: str) -> str:
    """A text as the name of a folder: seen in listings, never empty, and taken by every file system.

    A name that begins with a dot would be hidden, and "." and ".." are places.
    """
    name = SEPARATORS.sub("-", readable(text))
    name = "".join(letter for letter in name if unicodedata.category(letter) != "Cf" or letter in JOINERS)
    name = "".join(letter if _is_encodable(letter) else _percent(letter) for letter in name).strip()
    if name.startswith(".") or RESERVED.fullmatch(name):
        name = f"_{name}"
    name = name.encode()[:MOST_BYTES].decode(errors="ignore").rstrip(" .")
    return name if any(map(_is_seen, name.removeprefix("_"))) else UNTITLED


def distinct(names: Sequence[str]) -> list[str]:
    """The same names, numbered where one comes again or one that a file system may take for it."""
    taken: dict[str, str] = {}
    for name in names:
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        new = next(each for each in itertools.chain([name], numbered) if key(each) not in taken)
        taken[key(new)] = new
    return list(taken.values())


def _is_encodable(letter: str) -> bool:
    try:
        letter.encode(sys.getfilesystemencoding())
    except UnicodeEncodeError:
        return False
    return True


def _percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode())


def _is_seen(letter: str) -> bool:
    return unicodedata.category(letter)[0] not in "ZC" and letter not in BLANKS
