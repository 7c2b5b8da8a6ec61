"""The third of the planted bugs that every test run tries: what would cost somebody money, and is found soon.

Rules of this file
- One list, the same in every run, so that a red run is red again. What is found late is left to the whole bank.
- Every rule of the kernel that has planted bugs has one here where it has one that is found within 100 schedules.
"""

_NAMES = """
key has the attempt · key without the tenant · key without the digest of its bytes · command rebuilt on retry
undo key has the attempt · undo does not name what it undoes · refused round retried as is · random jitter
decide changes the cached state · no resume after the limit · tokens survive the turn · stale timer acts
stale error counts · error is a no · stuck saga drops replies · one attempt too many · gives up after the pivot
exhausted without a fence · late answers leave no record · contradictions are not told · answer of another round counts
unsent message keeps its clock · function that raises is skipped · second start with another body starts anew
completed with an open pivot · reads are fenced · refusal without a path is passed over
clock starts before the message is published · every clock waits for a message · withdrawn timer is not told
closed wait is not told · taken event is not told · message above the limit is sent · refused message is forgotten
deadline is never set · deadline turns back after the pivot · stale deadline acts · cancel accepted after the pivot
late child answer counts · retried child keeps its round · slow child is not undone · failed child is taken for done
running child forgotten · completed child is final · child not answered again · parent answered too early
join on the first branch · at_once off by one · loop off by one · node after a handler skipped · item is run twice
unknown step left out · backoff not settled · abandoned step not settled · only undoable steps fenced
turning back settles nothing · fence gives up silently · fence that gave up means not done · in doubt means not done
plan before settled · forward undo order · sets instead of order · undos in parallel · undone twice
step without undo holds the plan · undo gives up silently · undo that gave up counts as done
refused undo counts as done · stuck undo holds nothing · end not held by a stuck undo · kept work is undone
undo by hand without a fence · take-over fences only the undo's key · evidence needs no proposal
second compensation · compensation after the pivot · pivot in flight ignored · passed pivot is forgotten
on_failed path skipped · on_failed before the last undo · tokens survive the close · close forgets nested scopes
nested withdrawals forgotten · failing scope settles nothing · interruption while closing
interruption drops a done result · scope plans before settled · scope undone in forward order · outer drops inner undo
undone results still count · event taken by a left scope · early=False ignored · event after the limit counts
excluded person votes · anybody votes · one vote is enough · vote on an old subject · vote after the due time
votes survive the amendment · operator without a reason · not done by word alone
substitute brings their own roles · absence never ends · one may say for whom one votes · excluded person stands in
excluded person is stood in for · substitute is not told in the evidence · voided voter is forgotten
limit is ignored · limit ends below itself · currencies are one · limit is anybody's · amended amount is not measured
reset of the clock is ignored · every level sets the clock anew · clock is not set anew in the state
"""
QUICK = frozenset(name.strip() for line in _NAMES.strip().splitlines() for name in line.split(" · "))
