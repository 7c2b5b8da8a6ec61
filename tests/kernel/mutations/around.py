"""Planted bugs around the kernel: participants that forget, and a compiler that lets pass what no kernel can carry out.

They show that the checker believes effects, not records, and what the compiler's refusals are good for.
"""

from tests.kernel.mutations.mutation import Mutation, mutation

PARTICIPANTS = "testing/exploring/participants"
TURNING = "definition/checks/turning"
CHILDREN = "definition/checks/children"

BUGS: tuple[Mutation, ...] = (
    mutation(
        "participant does not dedupe",
        PARTICIPANTS,
        "        if key in self.stored:\n            found = self.stored[key]",
        '        if key in self.stored and purpose != "do":\n            found = self.stored[key]',
    ),
    mutation(
        "fence not stored",
        PARTICIPANTS,
        '        if purpose == "fence":\n            self.stored[key] = Stored("not_done")\n',
        '        if purpose == "fence":\n            return Stored("not_done")\n',
    ),
    mutation(
        "refusal not stored",
        PARTICIPANTS,
        '            self.stored[key] = Stored("refused", reason="simulated refusal")\n',
        '            return Stored("refused", reason="simulated refusal")\n',
    ),
    mutation(
        "pivot inside a scope is legal",
        TURNING,
        '        if why:\n            do = f"put the pivot after',
        '        if False:\n            do = f"put the pivot after',
        theme="illegal",
    ),
    mutation(
        "failure after the pivot is legal",
        TURNING,
        "        if not passed or failure.caught or",
        "        if passed or failure.caught or",
        theme="illegal",
    ),
    mutation(
        "child with a pivot is called like any other",
        CHILDREN,
        '        draft.report("ORC307", word.place, text,',
        '        (lambda *_, **__: None)("ORC307", word.place, text,',
        theme="illegal",
    ),
)
