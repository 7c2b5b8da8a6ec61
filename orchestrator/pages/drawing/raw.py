"""Bytes that came from outside, shown safely: as text only where they are text, else in hex; never without end."""

from __future__ import annotations

from dataclasses import dataclass

HEX_BYTES_MAX = 4_096
TEXT_CHARACTERS_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Raw:
    """Some bytes. `text`: None where they are no text. `is_cut`: less is shown than there is."""

    text: str | None
    hex: str
    size: int
    is_cut: bool

    @classmethod
    def of(cls, raw: bytes) -> Raw:
        """How these bytes are shown."""
        try:
            text: str | None = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = None
        is_cut = len(raw) > HEX_BYTES_MAX
        if text is not None:
            text = None if "\0" in text else text[:TEXT_CHARACTERS_MAX]
        return cls(text, hex_lines(raw[:HEX_BYTES_MAX]), len(raw), is_cut)


def header_text(value: bytes) -> str:
    """A header's value as text; bytes that are none as escapes."""
    return value.decode("utf-8", "backslashreplace")


def hex_lines(raw: bytes) -> str:
    """Bytes as a hex dump of 16 a line, with what is printable ASCII beside."""
    lines = []
    for start in range(0, len(raw), 16):
        part = raw[start : start + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "·" for byte in part)
        lines.append(f"{start:06x}  {part.hex(' '):<47}  {shown}")
    return "\n".join(lines)
