"""Values: small classes of plain data that are made by the ten thousand each second.

Rule of this file: a value is never changed once it is made. Type checkers refuse it, as they do for a frozen dataclass;
at run time nothing guards it, because that guard makes every construction four times as dear (measured: 0.89 against
0.21 us for six fields, some ninety objects an order).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

C = TypeVar("C")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[C]) -> type[C]:
    """A dataclass with slots, equality and a hash over its fields, frozen for type checkers."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
