"""Forms of tasks: from the JSON Schema of a task's form to fields, and from what was typed to the form's JSON.

Rules of this file
- A field is drawn for every property; nothing is preselected that the schema did not give as its default.
- What was typed is never lost: errors name the field, and every text comes back.
- Amounts and other decimals stay texts. "1.234,56" and the like are refused, not guessed.
- This checks what a browser checks, too. Whether the form fits is decided by the kernel, with the definition's model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from orchestrator.api.body import strict_json
from orchestrator.api.problems import ProblemError
from orchestrator.pages.formats import decimal_of
from orchestrator.pages.subject import title

Kind = Literal["text", "long", "integer", "decimal", "flag", "choice", "date", "instant", "lines", "json"]

PREFIX = "form."
LONG_FROM = 120  # characters; a longer text gets several lines
TEXT_MAX = 20_000
DEPTH_MAX = 4
FIELDS_MAX = 200
_PROSE = re.compile(r"reason|rationale|comment|note|explan|descri|feedback|remark|justif|summary|text")
OUTCOME, REASON = "outcome", "reason"


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `path`: where its value stands in the form, `address/street`. `more`: attributes for the browser."""

    path: str
    label: str
    kind: Kind
    required: bool
    hint: str = ""
    default: str = ""
    options: tuple[tuple[str, str], ...] = ()
    least: float | None = None
    most: float | None = None
    shortest: int = 0
    longest: int = TEXT_MAX
    pattern: str = ""
    group: str = ""

    @property
    def name(self) -> str:
        """Its name in HTML."""
        return PREFIX + self.path

    @property
    def id(self) -> str:
        """Its id in HTML."""
        return "form-" + re.sub(r"[^A-Za-z0-9_-]", "-", self.path)


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with one field, for the person who typed it."""

    id: str
    text: str


def fields_of(schema: object) -> tuple[Field, ...]:
    """The fields beside outcome and reason, which every task's page asks for itself; what is needed comes first."""
    if not isinstance(schema, Mapping):
        return ()
    found = [field for field in _fields(schema, schema, "", "", 0) if field.path not in (OUTCOME, REASON)]
    return tuple(sorted(found, key=lambda field: not field.required)[:FIELDS_MAX])


def has_reason(schema: object) -> bool:
    """True where the form itself has a `reason`; a vote has one in any case."""
    return isinstance(schema, Mapping) and REASON in (schema.get("properties") or {})


def reason_is_required(schema: object) -> bool:
    """True where the form cannot do without a reason."""
    if not isinstance(schema, Mapping) or not has_reason(schema):
        return False
    least = _resolved(schema, schema["properties"][REASON]).get("minLength", 0)
    return REASON in schema.get("required", ()) or bool(least)


def read_form(fields: Sequence[Field], typed: Mapping[str, str]) -> tuple[dict[str, Any], list[Wrong]]:
    """The form's JSON, without outcome and reason, and what is wrong. `typed`: texts by the fields' names."""
    values: dict[str, Any] = {}
    wrong: list[Wrong] = []
    for field in fields:
        text = typed.get(field.name, "")
        text = text if field.kind in ("text", "long", "lines", "json") else text.strip()
        if field.kind == "flag":
            _put(values, field.path, text == "true")
        elif not text.strip():
            if field.required:
                wrong.append(Wrong(field.id, f"{field.label}: this is needed."))
        else:
            value, problem = _read(field, text.replace("\r\n", "\n"))
            if problem:
                wrong.append(Wrong(field.id, f"{field.label}: {problem}"))
            else:
                _put(values, field.path, value)
    return values, wrong


def _read(field: Field, text: str) -> tuple[Any, str]:
    match field.kind:
        case "integer":
            return _number(field, int(text)) if re.fullmatch(r"[+-]?\d{1,18}", text) else (None, "a whole number.")
        case "decimal":
            plain = text.replace(" ", "")
            if decimal_of(plain) is None:
                return None, "a number with a point before its decimals, without other signs: 1250.00."
            return _number(field, plain)
        case "choice":
            known = [value for value, _ in field.options]
            return (text, "") if text in known else (None, f"one of {', '.join(known)}.")
        case "date" | "instant":
            return _instant(field, text)
        case "lines":
            return [line for line in text.split("\n") if line.strip()], ""
        case "json":
            try:
                return strict_json(text.encode()), ""
            except (ProblemError, UnicodeEncodeError):
                return None, "this must be JSON."
    if not field.shortest <= len(text) <= field.longest:
        return None, f"{field.shortest} to {field.longest} characters; these are {len(text)}."
    if field.pattern and not _matches(field.pattern, text):
        return None, f"it must look like {field.pattern}."
    return text, ""


def _number(field: Field, value: Any) -> tuple[Any, str]:
    size = float(value)
    if field.least is not None and size < field.least:
        return None, f"not less than {field.least:g}."
    if field.most is not None and size > field.most:
        return None, f"not more than {field.most:g}."
    return value, ""


def _instant(field: Field, text: str) -> tuple[Any, str]:
    try:
        if field.kind == "date":
            return date.fromisoformat(text).isoformat(), ""
        found = datetime.fromisoformat(text)
    except ValueError:
        return None, "a date like 2026-01-31" + (" with a time." if field.kind == "instant" else ".")
    return (found.isoformat() if found.tzinfo else f"{found.isoformat()}Z"), ""


def _matches(pattern: str, text: str) -> bool:
    """A pattern is the definition's own, so no trap is feared; one that Python cannot read decides nothing."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


def _put(values: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split("/")
    for name in above:
        values = values.setdefault(name, {})
    values[last] = value


def _fields(root: Mapping[str, Any], schema: Mapping[str, Any], path: str, group: str, depth: int) -> Iterator[Field]:
    needed = schema.get("required", ())
    for name, raw in (schema.get("properties") or {}).items():
        found = _resolved(root, raw)
        where = f"{path}{name}"
        label = str(found.get("title") or raw.get("title") or "") or title(name).capitalize()
        if found.get("properties") and depth < DEPTH_MAX:
            yield from _fields(root, found, f"{where}/", label, depth + 1)
        else:
            yield _field(found, raw, where, label, name in needed, group)


def _field(
    found: Mapping[str, Any], raw: Mapping[str, Any], path: str, label: str, required: bool, group: str
) -> Field:
    kind = _kind(found)
    if kind == "text" and "maxLength" not in found and _PROSE.search(path):
        kind = "long"
    default = raw.get("default", found.get("default"))
    longest = min(int(found.get("maxLength", TEXT_MAX)), TEXT_MAX)
    shortest = int(found.get("minLength", 0))
    return Field(
        path=path,
        label=label,
        kind=kind,
        required=(required and kind != "flag") or (required and shortest > 0),
        hint=str(raw.get("description") or ""),
        default="" if default in (None, [], {}) else str(default).lower() if kind == "flag" else str(default),
        options=tuple((str(value), title(str(value)).capitalize()) for value in found.get("enum", ())),
        least=found.get("minimum", found.get("exclusiveMinimum")),
        most=found.get("maximum", found.get("exclusiveMaximum")),
        shortest=shortest,
        longest=longest,
        pattern=str(found.get("pattern", "")),
        group=group,
    )


def _kind(found: Mapping[str, Any]) -> Kind:
    if found.get("enum"):
        return "choice"
    kinds = found.get("type")
    simple: Mapping[str, Kind] = {"integer": "integer", "number": "decimal", "boolean": "flag"}
    if isinstance(kinds, str) and kinds in simple:
        return simple[kinds]
    if kinds == "string":
        by_format: Mapping[str, Kind] = {"date": "date", "date-time": "instant"}
        kind = by_format.get(str(found.get("format", "")))
        return kind or ("long" if int(found.get("maxLength", 0)) >= LONG_FROM else "text")
    if kinds == "array" and (found.get("items") or {}).get("type") == "string":
        return "lines"
    return "json"


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without references, and without the `null` that pydantic adds to what may be missing."""
    for _ in range(DEPTH_MAX * 4):
        if "$ref" in schema:
            name = str(schema["$ref"]).rpartition("/")[2]
            schema = {**(root.get("$defs") or {}).get(name, {}), **{k: v for k, v in schema.items() if k != "$ref"}}
            continue
        choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
        if not choices:
            return schema
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        numbers = [each for each in choices if each.get("type") in ("number", "integer")]
        schema = {**rest, **(numbers[0] if numbers else choices[0])}
    return schema
