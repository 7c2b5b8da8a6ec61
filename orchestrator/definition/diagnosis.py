"""Why a parameter cannot be filled, in words (codes 104–108 and 110–113).

Rules of this file
- It is asked only when something is wrong, and it never decides whether something is: `plans` does.
- A message names what the author wrote, the path on which it goes wrong, who makes the result, and what to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Parallel
from orchestrator.definition.functions import Parameter, is_a, show
from orchestrator.definition.known import lies_inside
from orchestrator.definition.layout import Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.results import Result, reply_of
from orchestrator.definition.roles import Use
from orchestrator.definition.walk import Trail
from orchestrator.messages import Command


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One parameter of one function, about to be reported."""

    draft: Draft
    use: Use
    parameter: Parameter

    @property
    def _what(self) -> str:
        return f"{self.parameter.name}: {show(self.parameter.hint)}"

    def _report(self, code: str, text: str, **rows: str) -> None:
        self.draft.report(code, self.use.signature.place, f"{self.use.label}: {text}", **rows)

    def no_failure(self) -> None:
        """`Failure` where nothing has failed."""
        do = "ask for it in an undo function, in a scope's on_failed, or in the saga's on_failed"
        self._report("ORC110", f"{self._what}, but nothing has failed here", do=do)

    def other_type(self, found: Result) -> None:
        """The parameter has the name of a node that gives something else."""
        do = f"write {self.parameter.name}: {show(found.type)}, or give the parameter another name"
        text = f"{self._what} has the name of {_owner(found)}, which gives {show(found.type)}"
        self._report("ORC111", text, made_by=found.made_by, do=do)

    def not_made(self, wanted: Any) -> None:
        """Nothing in the flow gives this type."""
        if is_a(wanted, Command):
            reply = reply_of(wanted)
            text = f"{show(wanted)} is a command; its result is {show(reply)}"
            self._report("ORC105", f"{self._what} is not made anywhere", why=text, do=f"ask for {show(reply)}")
            return
        known = {show(found.type): found for found in self.draft.results}
        close = get_close_matches(show(wanted), known, n=1, cutoff=0.6)
        if close:
            made = known[close[0]]
            do = f"did you mean {close[0]}?"
            self._report("ORC105", f"{self._what} is not made anywhere", made_by=f"{close[0]}: {made.made_by}", do=do)
        else:
            do = f"put a step, wait or compute(…) that gives {show(wanted)} before it"
            self._report("ORC105", f"{self._what} is not made anywhere", do=do)

    def not_on_every_path(self, candidates: Sequence[Result], trail: Trail) -> None:
        """There on some paths, missing on the one given."""
        names = " or ".join(dict.fromkeys(found.name for found in candidates))
        do = f"write {self._what} | None, or put {names} before the fork"
        rows = {"path": ", ".join(trail) or "the straight way", "made_by": _makers(candidates), "do": do}
        self._report("ORC104", f"{self._what} is not there on every path", **rows)

    def never_there(self, candidates: Sequence[Result], optional: bool) -> None:
        """There on no path to here, though the flow makes it: once per item, in a sibling branch, or later."""
        made_by = _makers(candidates)
        loop = next((loop for found in candidates if (loop := _item_loop(found.owner, self.use.node))), None)
        branch = next((fork for found in candidates if (fork := _sibling(found.owner, self.use.node))), None)
        if loop is not None:
            do = f"ask for a list: {self.parameter.name}: list[{show(candidates[0].type)}]"
            text = f"{self._what} exists once per item of {loop.label}"
            if candidates[0].source.origin == "item":
                do = f"use it inside {loop.label}, or compute(…) what you need of all items"
            self._report("ORC107", text, made_by=made_by, do=do)
        elif branch is not None:
            text = f"{self._what} is made in another branch of {branch.label}"
            self._report(
                "ORC106", text, made_by=made_by, do=f"put this after {branch.label}, where the branches have joined"
            )
        elif not optional and any(_before(self.use.node, found.owner) for found in candidates):
            names = " or ".join(dict.fromkeys(found.name for found in candidates))
            self._report(
                "ORC108", f"{self._what} comes later", made_by=made_by, do=f"put {names} before {self.use.label}"
            )
        elif not optional:
            seen = self.draft.reach.seen.get(self.use.node.path, {})
            self.not_on_every_path(candidates, next(iter(seen.values()), ()))

    def ambiguous(self, candidates: Sequence[Result]) -> None:
        """Several results fit on one path."""
        names = list(dict.fromkeys(found.name for found in candidates))
        owned = [found for found in candidates if found.owner is not None and found.source.origin == "result"]
        if len(names) > 1 and owned:
            do = f"name the one you mean, for example {owned[0].name}: {show(owned[0].type)}; or list[…] for all"
        else:
            do = 'give one of them another name with .named("…") and use it as the parameter\'s name'
        self._report("ORC112", f"{self._what} could be {' or '.join(names)}", made_by=_makers(candidates), do=do)

    def always_empty(self, candidates: Sequence[Result]) -> None:
        """A list into which nothing can have come yet, or a list of items, which nobody keeps."""
        loops = [found for found in candidates if found.source.origin == "item"]
        if loops and len(loops) == len(candidates):
            text = f"{self._what}: the items of a loop are not kept as results"
            do = "compute(…) the list first, loop over what it gives, and ask for it by its type"
            self._report("ORC107", text, made_by=_makers(candidates), do=do)
            return
        names = " or ".join(dict.fromkeys(found.name for found in candidates))
        text = f"{self._what} is always empty here"
        self._report("ORC113", text, made_by=_makers(candidates), do=f"put this after {names}, or drop the parameter")


def _makers(candidates: Sequence[Result]) -> str:
    return ", ".join(dict.fromkeys(found.made_by for found in candidates))


def _owner(found: Result) -> str:
    return found.owner.label if found.owner is not None else found.name


def _item_loop(maker: Placed | None, user: Placed) -> Placed | None:
    """The for_each around the maker that is not around the user."""
    for parent, _ in maker.ancestors() if maker is not None else ():
        if isinstance(parent.word, ForEach) and not lies_inside(user, parent):
            return parent
    if maker is not None and isinstance(maker.word, ForEach) and not lies_inside(user, maker):
        return maker
    return None


def _sibling(maker: Placed | None, user: Placed) -> Placed | None:
    """The parallel in which maker and user stand on different branches."""
    around = {parent.path: block for parent, block in user.ancestors()}
    for parent, block in maker.ancestors() if maker is not None else ():
        if isinstance(parent.word, Parallel) and around.get(parent.path, block) != block:
            return parent
    return None


def _before(user: Placed, maker: Placed | None) -> bool:
    return maker is not None and maker.order > user.order
