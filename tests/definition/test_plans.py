"""Injection: a function asks by type, or by name where a type is not unique, and gets what is there."""

# mypy: disable-error-code=empty-body
# The functions of these sagas are compiled and never called, so they have no bodies.

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Context,
    Decision,
    Failure,
    choose,
    compute,
    end,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    publish,
    repeat,
    scope,
    step,
    wait_for,
    when,
)
from orchestrator.kernel.graph import Source
from tests.definition.claims import claims
from tests.definition.world import (
    DAY,
    Cancelled,
    Closed,
    Free,
    Held,
    Mood,
    MoodForm,
    Note,
    Paid,
    Part,
    Phoned,
    Placed,
    Policy,
    Send,
    Sent,
    ask,
    closed_badly,
    codes,
    feel,
    hold,
    is_large,
    mood,
    note,
    param,
    parts,
    policy,
    saga,
    send,
    sources,
)


class Special(Policy):
    extra: int = 0


def test_a_parameter_is_filled_by_its_type() -> None:
    def tell(placed: Placed, held: Held, policy: Policy, context: Context) -> Closed: ...

    compiled = saga(compute(policy), hold, publish(tell))
    assert sources(compiled, "tell#event", "placed") == ["world.Placed"]
    assert sources(compiled, "tell#event", "held") == ["hold"]
    assert sources(compiled, "tell#event", "policy") == ["policy"]
    assert param(compiled, "tell#event", "held").want == "one"
    assert param(compiled, "tell#event", "context").want == "context"


def test_a_start_message_is_told_by_its_wire_name() -> None:
    found = param(saga(hold, note), "hold#build", "placed")
    assert found.sources == (Source("start", "", "start:world.Placed", "world.Placed"),)


def test_a_union_of_start_messages_takes_whichever_came() -> None:
    def who(start: Placed | Phoned) -> Policy: ...

    compiled = saga(compute(who), end(), starts_on=[Placed, Phoned])
    assert sources(compiled, "who#value", "start") == ["world.Placed", "world.Phoned"]
    assert param(compiled, "who#value", "start").want == "one"


def test_one_of_several_start_messages_is_not_there_on_every_path() -> None:
    def who(start: Placed) -> Policy: ...

    assert codes(compute(who), end(), starts_on=[Placed, Phoned]) == ["ORC104"]


def test_a_parameter_with_the_name_of_a_step_means_that_step() -> None:
    def tell(first: Held, hold: Held) -> Closed: ...

    compiled = saga(hold.named("first"), hold, publish(tell))
    assert sources(compiled, "tell#event", "first") == ["first"]
    assert sources(compiled, "tell#event", "hold") == ["hold"]


def test_a_wait_can_be_meant_by_its_name() -> None:
    def tell(second: Paid) -> Closed: ...

    paid = wait_for(Paid, within=DAY)
    compiled = saga(paid, paid.named("second"), publish(tell))
    assert sources(compiled, "tell#event", "second") == ["second"]


def test_what_may_be_missing_is_optional() -> None:
    def tell(held: Held | None, paid: Paid | None) -> Closed: ...

    compiled = saga(when(is_large, hold), publish(tell))
    assert param(compiled, "tell#event", "held").want == "optional"
    assert sources(compiled, "tell#event", "held") == ["is_large/hold"]
    assert param(compiled, "tell#event", "paid").sources == (), "made nowhere in this saga, so never there"


def test_results_of_exclusive_branches_are_one() -> None:
    def tell(held: Held) -> Closed: ...

    compiled = saga(when(is_large, hold).otherwise(hold.named("hold_little")), publish(tell))
    assert sources(compiled, "tell#event", "held") == ["is_large/hold", "is_large/otherwise/hold_little"]


def test_one_step_on_two_branches_is_meant_by_its_name() -> None:
    def tell(hold: Held) -> Closed: ...

    compiled = saga(choose(mood).on(Mood.GLAD, hold).otherwise(hold), publish(tell))
    assert sources(compiled, "tell#event", "hold") == ["mood/glad/hold", "mood/otherwise/hold"]


def test_a_bare_decision_is_that_of_an_approval() -> None:
    def tell(decision: Decision, feeling: Decision[MoodForm]) -> Closed: ...

    compiled = saga(ask, feel.otherwise(), publish(tell))
    assert sources(compiled, "tell#event", "decision") == ["ask"]
    assert sources(compiled, "tell#event", "feeling") == ["feel"]


def test_a_list_gathers_all_in_the_order_of_the_flow() -> None:
    def tell(helds: list[Held]) -> Closed: ...

    compiled = saga(hold, when(is_large, hold.named("more")), for_each(parts, hold.named("each")), publish(tell))
    assert param(compiled, "tell#event", "helds").want == "many"
    assert sources(compiled, "tell#event", "helds") == ["hold", "is_large/more", "parts/each"]


def test_a_computed_list_is_one_value() -> None:
    def numbers() -> list[Part]: ...
    def tell(numbers: list[Part]) -> Closed: ...

    compiled = saga(compute(numbers), publish(tell))
    assert param(compiled, "tell#event", "numbers").want == "one"


def test_an_item_is_injected_inside_its_loop() -> None:
    @step(undo=None)
    def pack(part: Part) -> Note: ...

    found = param(saga(for_each(parts, pack)), "parts/pack#build", "part")
    assert found.sources == (Source("item", "parts", "item:parts"),)
    assert codes(for_each(parts, note), pack) == ["ORC107"]


def test_the_items_themselves_are_no_results_afterwards() -> None:
    def tell(items: list[Part]) -> Closed: ...

    assert codes(for_each(parts, note), publish(tell)) == ["ORC107"]
    compiled = saga(compute(parts), for_each(same, note).named("each"), publish(tell))
    assert sources(compiled, "tell#event", "items") == ["parts"]


def same(parts: list[Part]) -> list[Part]:
    return parts


def test_what_an_item_made_is_there_for_the_same_item() -> None:
    @step(undo=None)
    def pack(held: Held) -> Note: ...

    assert sources(saga(for_each(parts, hold, pack)), "parts/pack#build", "held") == ["parts/hold"]


def test_after_a_repeat_there_is_the_last_rounds_result() -> None:
    def tell(sent: Sent, all_sent: list[Sent]) -> Closed: ...

    compiled = saga(repeat(send, leave(), at_most=3), publish(tell))
    assert sources(compiled, "tell#event", "sent") == ["send.repeat/send"]
    assert param(compiled, "tell#event", "all_sent").want == "many"


def test_in_a_round_the_results_of_earlier_rounds_are_a_list() -> None:
    @step(undo=None)
    def again(sent: list[Sent]) -> Send: ...
    @step(undo=None)
    def wrong(sent: Sent) -> Send: ...

    round_ = repeat(again, send, at_most=3).otherwise()
    assert sources(saga(round_), "again.repeat/again#build", "sent") == ["again.repeat/again", "again.repeat/send"]
    assert codes(repeat(wrong, send, at_most=3).otherwise()) == ["ORC108"]


def test_after_a_parallel_the_results_of_all_branches_are_there() -> None:
    def tell(held: Held, sent: Sent) -> Closed: ...

    compiled = saga(parallel(hold, send), publish(tell))
    assert sources(compiled, "tell#event", "held") == ["hold.parallel/hold/hold"]
    assert codes(parallel(when(is_large, hold), send), publish(tell)) == ["ORC104"]


def test_the_event_of_a_scope_is_there_on_its_path() -> None:
    def tell(event: Cancelled) -> Closed: ...

    one = saga(scope(hold).on_event(Cancelled, publish(tell)), send)
    found = param(one, "hold.scope/on/world.Cancelled/tell#event", "event")
    assert found.sources == (Source("result", "hold.scope", "hold.scope"),)
    two = saga(scope(hold).on_event(Cancelled, publish(tell)).on_event(Paid, note), send)
    found = param(two, "hold.scope/on/world.Cancelled/tell#event", "event")
    assert found.sources == (Source("result", "hold.scope", "hold.scope:world.Cancelled", "world.Cancelled"),)
    assert {"hold.scope:world.Cancelled", "hold.scope:world.Paid"} <= two.program.codecs.keys()


def test_an_interruption_may_come_before_anything_inside_is_done() -> None:
    def tell(held: Held) -> Closed: ...

    assert codes(scope(hold, send).on_event(Cancelled, publish(tell))) == ["ORC104"]


def test_the_reply_is_there_on_then_and_missing_on_refused() -> None:
    def tell(held: Held) -> Closed: ...

    assert sources(saga(hold.then(publish(tell)).on_refused()), "hold/then/tell#event", "held") == ["hold"]
    assert codes(hold.on_refused(publish(tell))) == ["ORC104"]


def test_an_undo_has_its_steps_reply_without_none() -> None:
    compiled = saga(hold, hold.named("more"), send)
    assert sources(compiled, "hold#undo", "held") == ["hold"]
    assert sources(compiled, "more#undo", "held") == ["more"], "its own, though the other is there, too"


def test_an_undo_may_ask_for_what_came_later_only_as_optional() -> None:
    @step
    def take(placed: Placed) -> Send: ...
    @take.undo
    def give_back(sent: Sent, paid: Paid | None) -> Free: ...
    @step
    def grab(placed: Placed) -> Send: ...
    @grab.undo
    def let_go(sent: Sent, paid: Paid) -> Free: ...

    compiled = saga(take, wait_for(Paid, within=DAY))
    assert sources(compiled, "take#undo", "paid") == ["paid"]
    assert codes(grab, wait_for(Paid, within=DAY)) == ["ORC108"]


def test_results_of_undone_steps_are_gone_on_the_failure_path() -> None:
    def tell(held: Held | None, sent: Sent | None, decision: Decision | None, failure: Failure) -> Closed: ...

    compiled = saga(hold, send, ask, on_failed=publish(tell))
    assert sources(compiled, "on_failed/tell#event", "held") == []
    assert sources(compiled, "on_failed/tell#event", "sent") == ["send"], "it has no undo, so it was done"
    assert sources(compiled, "on_failed/tell#event", "decision") == ["ask"]


def test_after_a_scope_failed_only_kept_and_computed_results_of_it_are_left() -> None:
    def tell(held: Held | None, more: Held | None, sent: Sent | None, policy: Policy | None) -> Closed: ...

    more = hold.named("more")
    compiled = saga(scope(compute(policy), more, keep(), hold, send).on_failed(publish(tell)))
    key = "policy.scope/on_failed/tell#event"
    assert sources(compiled, key, "more") == ["policy.scope/more"]
    assert sources(compiled, key, "held") == ["policy.scope/more"]
    assert sources(compiled, key, "sent") == []
    assert sources(compiled, key, "policy") == ["policy.scope/policy"]


def test_a_condition_over_a_type_makes_sure_that_it_is_there() -> None:
    def tell(held: Held) -> Closed: ...

    compiled = saga(when(is_large, hold), when(Held, publish(tell)))
    assert sources(compiled, "Held/tell#event", "held") == ["is_large/hold"]
    assert codes(when(is_large, hold), when(Held, note).otherwise(publish(tell))) == ["ORC104"]

    assert codes(when(Held, hold)) == ["ORC203"]
    assert codes(parallel(when(is_large, hold), when(Held, note))) == ["ORC203"], "made in another branch"

    def count(helds: list[Held]) -> Closed: ...

    compiled = saga(when(is_large, hold), when(Held, note).otherwise(publish(count)))
    assert sources(compiled, "Held/otherwise/count#event", "helds") == ["is_large/hold"]


def test_the_event_that_amends_a_task_is_there_for_what_it_shows() -> None:
    found = param(claims, "assessment#shown", "changed")
    assert found.want == "optional"
    assert found.sources == (Source("result", "assessment", "amend:assessment", "claims.ClaimChanged"),)


def test_failure_is_there_for_undos_and_failure_paths() -> None:
    assert param(claims, "open_file.scope/open_file#undo", "failure").want == "failure"
    assert (
        param(saga(hold, on_failed=publish(closed_badly)), "on_failed/closed_badly#event", "failure").want == "failure"
    )
    assert codes(hold, when(is_large, publish(closed_badly))) == ["ORC110"]


def test_a_function_for_both_paths_asks_for_failure_or_none() -> None:
    def tell(placed: Placed, failure: Failure | None) -> Closed: ...

    compiled = saga(hold, publish(tell), on_failed=publish(tell).named("tell_failed"))
    assert param(compiled, "tell#event", "failure").want == "optional"
    assert param(compiled, "on_failed/tell_failed#event", "failure").want == "failure"


def test_a_flow_with_many_results_of_one_type_is_checked_quickly() -> None:
    """Twenty optional branches have a million combinations."""

    def tell(notes: list[Sent]) -> Closed: ...
    def one(sent: Sent) -> Closed: ...

    branches = [send.named(f"send_{number}").on_refused() for number in range(20)]
    compiled = saga(parallel(*branches), publish(tell))
    assert len(sources(compiled, "tell#event", "notes")) == 20
    assert codes(parallel(*branches), publish(one)) == ["ORC112"]
    assert codes(*[when(is_large, branch).named(f"when_{branch.name}") for branch in branches], publish(one)) == [
        "ORC112"
    ]


def test_a_parameter_with_a_default_may_stay_unfilled() -> None:
    def tell(placed: Placed, note: str = "none") -> Closed: ...

    assert [found.name for found in saga(publish(tell)).program.functions["tell#event"].params] == ["placed"]


def test_a_subclass_fills_a_parameter_of_its_base_and_a_number_only_a_number() -> None:
    def special() -> Special: ...
    def flag() -> bool: ...
    def tell(policy: Policy) -> Closed: ...
    def count(number: int) -> Closed: ...

    assert sources(saga(compute(special), publish(tell)), "tell#event", "policy") == ["special"]
    assert codes(compute(flag), publish(count)) == ["ORC105"]


def test_two_that_run_side_by_side_are_ambiguous_afterwards() -> None:
    def tell(sent: Sent) -> Closed: ...

    assert codes(parallel(send, send.named("send_more")), publish(tell)) == ["ORC112"]


def test_a_limit_or_a_reason_asks_like_any_other_function() -> None:
    def patience(policy: Policy) -> timedelta: ...
    def why(held: Held) -> str: ...

    compiled = saga(compute(policy), hold, wait_for(Paid, within=patience).on_timeout(fail(why)))
    assert sources(compiled, "paid#within", "policy") == ["policy"]
    assert sources(compiled, "paid/on_timeout/fail#reason", "held") == ["hold"]
