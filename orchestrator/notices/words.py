"""What may stand in a notice: text without tricks, and addresses that are addresses.

Rules of this file
- Whatever a person or another system wrote is cleaned before it comes near a header, a subject or a body: no line ends,
  no control characters, none that hide or turn text around (U+202E and its like).
- An address is refused, never repaired.
"""

from __future__ import annotations

import re
import unicodedata

SUBJECT_CHARACTERS_MAX = 150
LINE_CHARACTERS_MAX = 300
ADDRESS_CHARACTERS_MAX = 254

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


class AddressError(ValueError):
    """This is no address to which a notice could be sent; the text says why."""


def line(text: object, characters_max: int = LINE_CHARACTERS_MAX) -> str:
    """One line without control, format or unassigned characters; longer ones are cut visibly."""
    kept = []
    for sign in str(text):
        category = unicodedata.category(sign)
        if category in ("Zs", "Zl", "Zp") or sign in "\t\r\n\v\f\x85":
            kept.append(" ")
        elif category[0] == "C":  # control, format, surrogate, private, unassigned
            kept.append("\N{REPLACEMENT CHARACTER}")
        else:
            kept.append(sign)
    found = " ".join("".join(kept).split())
    return found if len(found) <= characters_max else found[: characters_max - 1] + "…"


def mail_address(text: str) -> str:
    """The address with its domain in ASCII. Raises AddressError."""
    local, at, domain = text.rpartition("@")
    if not at or len(text) > ADDRESS_CHARACTERS_MAX or not _LOCAL.fullmatch(local) or len(local) > 64:
        raise AddressError(f"{line(text, 80)!r} is no mail address: name@domain, in ASCII before the @")
    try:
        plain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    except UnicodeError:
        plain = ""
    labels = plain.split(".")
    if not plain or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{line(text, 80)!r} is no mail address: {line(domain, 60)!r} is no domain")
    return f"{local}@{plain}"


def title_of(activity: str, title: str = "") -> str:
    """What a task is called in a notice: its own title, else its name in words: `manager_approval[2]`."""
    if title:
        return line(title, 120)
    name = re.sub(r"\[\d+\]$", "", activity.rpartition("/")[2]).replace("_", " ").strip()
    return line(name[:1].upper() + name[1:], 120) or "Task"
