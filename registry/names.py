"""Check and normalise the names and texts that people give."""

import unicodedata

from registry.errors import InvalidInput, InvalidName


def checked_name(name: object) -> str:
    """Return a project's name as it is stored: in NFC, with 1 to 200 characters. Raises: InvalidName."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidName("a project needs a name that is not blank")
    if not _is_storable(name):
        raise InvalidName(f"project name {name!r} has a character that no database can store")
    name = unicodedata.normalize("NFC", name.strip())
    if len(name) > 200:
        raise InvalidName(f"a project name has at most 200 characters; this one has {len(name)}")
    return name


def checked_text(what: str, text: object) -> str:
    """Return a text as it is stored, on one line. Raises: InvalidInput."""
    if not isinstance(text, str) or not _is_storable(text):
        raise InvalidInput(f"{what} is a text that a database can store, not {text!r}")
    return " ".join(text.split())


def _is_storable(text: str) -> bool:
    """No database stores NUL or half a surrogate pair."""
    return "\x00" not in text and all(unicodedata.category(character) != "Cs" for character in text)
