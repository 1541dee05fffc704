"""What people name and say, as it is stored."""

import unicodedata

from registry.errors import InvalidInput, InvalidName


def checked_name(name: object) -> str:
    """A project's name as it is stored: NFC, 1 to 200 characters, none of them NUL or half a surrogate pair.

    Raises:
        InvalidName: it cannot be stored, or could not be told from another.
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidName("a project needs a name that is not blank")
    if "\x00" in name or any(unicodedata.category(character) == "Cs" for character in name):
        raise InvalidName(f"project name {name!r} has a character that no database can store")
    name = unicodedata.normalize("NFC", name.strip())
    if len(name) > 200:
        raise InvalidName(f"a project name has at most 200 characters; this one has {len(name)}")
    return name


def checked_text(what: str, text: object) -> str:
    """A text as it is stored, on one line.

    Raises:
        InvalidInput: it is none, or no database can store it.
    """
    if not isinstance(text, str) or "\x00" in text or any(unicodedata.category(each) == "Cs" for each in text):
        raise InvalidInput(f"{what} is a text that a database can store, not {text!r}")
    return " ".join(text.split())
