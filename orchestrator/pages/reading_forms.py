"""Forms as they come from browsers: a few fields of text, bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request
from starlette.exceptions import HTTPException

from orchestrator.api.problems import ProblemError

FIELDS_MAX = 400


@dataclass(frozen=True, slots=True)
class SentForm:
    """What was sent: each field with its values, in order."""

    values: Mapping[str, Sequence[str]]

    def one(self, name: str) -> str:
        """The first value of a field, "" where it was not sent."""
        return next(iter(self.values.get(name, ())), "")

    @property
    def firsts(self) -> Mapping[str, str]:
        """The first value of each field."""
        return {name: self.one(name) for name in self.values}

    def many(self, name: str) -> list[str]:
        """All values of a field."""
        return list(self.values.get(name, ()))


async def form_of(request: Request) -> SentForm:
    """The form of a request. Raises ProblemError for what is none, or too much, or holds a file."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise ProblemError("media_type", "Send this as a form.")
    try:
        sent = await request.form(max_files=0, max_fields=FIELDS_MAX)
    except HTTPException as error:
        raise ProblemError("bad_request", f"The form cannot be read: {error.detail}") from error
    values: dict[str, list[str]] = {}
    for name, value in sent.multi_items():
        if not isinstance(value, str):
            raise ProblemError("bad_request", "Files are not taken: attach a link.")
        if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ProblemError("bad_request", f"{name[:80]} holds a character that no text has.")
        values.setdefault(name, []).append(value)
    return SentForm(values)
