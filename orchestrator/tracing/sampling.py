"""Which traces are kept: a decision from trace id and upstream's flags alone, so every process decides the same.

Source: W3C Trace Context (flags), OpenTelemetry's built-in samplers; the ratio is tested on the last 64 bits of the
trace id, as OpenTelemetry's own SDKs do, so services with the same ratio keep the same traces.
"""

from __future__ import annotations

from dataclasses import dataclass

SAMPLED = 0x01
RANDOM = 0x02
_BITS = 64
_MASK = (1 << _BITS) - 1


@dataclass(frozen=True, slots=True)
class Sampler:
    """`ratio`: the share of traces that is kept. `parent_based`: where there is an upstream, its word counts."""

    ratio: float
    parent_based: bool = True

    def keeps(self, trace_id: str, parent_flags: int | None) -> bool:
        """Is this trace kept? `parent_flags` None: there is no upstream."""
        if self.parent_based and parent_flags is not None:
            return bool(parent_flags & SAMPLED)
        if self.ratio >= 1 or self.ratio <= 0:
            return self.ratio >= 1
        return int(trace_id[16:], 16) & _MASK < round(self.ratio * (1 << _BITS))


PARENT_ALONE = Sampler(
    0.0
)  # where nothing is sent from here: upstream's word is passed on, and nobody is promised spans
_NAMES = {
    "always_on": (False, 1.0),
    "always_off": (False, 0.0),
    "traceidratio": (False, None),
    "parentbased_always_on": (True, 1.0),
    "parentbased_always_off": (True, 0.0),
    "parentbased_traceidratio": (True, None),
}


def sampler_of(name: str, argument: str) -> Sampler:
    """The sampler of `OTEL_TRACES_SAMPLER` and its `_ARG`. Raises ValueError naming what is wrong."""
    if name and name not in _NAMES:
        raise ValueError(f"the sampler is {name!r}; it may be {', '.join(_NAMES)}")
    parent_based, ratio = _NAMES[name or "parentbased_always_on"]
    if ratio is None:
        ratio = float(argument or 1.0)
        if not 0 <= ratio <= 1:
            raise ValueError(f"the sampler's argument is {argument!r}; it may be a number from 0 to 1")
    return Sampler(ratio, parent_based)
