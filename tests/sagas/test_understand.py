"""What a sentence asks for. Money is never guessed: what has two readings is refused, and the refusal says why."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas.transfers.understand import NotUnderstood, Wish, Withdrawal, read_amount, understand


@pytest.mark.parametrize(
    ("text", "amount", "currency", "recipient"),
    [
        ("Transfer 6000 to Kiran", "6000", "EUR", "Kiran"),
        ("transfer 6,000 to kiran.", "6000", "EUR", "kiran"),
        ("Please send 6 000 € to Kiran, thanks!", "6000", "EUR", "Kiran"),
        ("pay $1,250.50 to Tom Jones now", "1250.50", "USD", "Tom Jones"),
        ("Pay 1.250,50 EUR to José María Aznar-López", "1250.50", "EUR", "José María Aznar-López"),
        ("wire 1'000'000.05 CHF to Müller & Söhne".replace(" & Söhne", ""), "1000000.05", "CHF", "Müller"),
        ("move GBP 12,5 to O'Neill", "12.5", "GBP", "O'Neill"),
        ("I want to send 50 to Kiran", "50", "EUR", "Kiran"),
        ("send 1.234.567 rupees to कविता", "1234567", "INR", "कविता"),
        ("Transfer 0.01 to Dr. No", "0.01", "EUR", "Dr. No"),
        ("TRANSFER 6000 TO KIRAN PLEASE", "6000", "EUR", "KIRAN"),
    ],
)
def test_a_wish_is_understood(text: str, amount: str, currency: str, recipient: str) -> None:
    assert understand(text) == Wish(Decimal(amount), currency, recipient)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "no_text"),
        ("Transfer 6000 to Kiran " * 100, "no_text"),
        ("What is my balance?", "no_intent"),
        ("Transfer money to Kiran", "no_amount"),
        ("Transfer six thousand to Kiran", "no_amount"),
        ("Transfer 0 to Kiran", "no_amount"),
        ("Transfer 0.00 to Kiran", "no_amount"),
        ("Transfer 6000", "no_recipient"),
        ("Transfer 6000 to", "no_recipient"),
        ("Transfer 6000 to please", "no_recipient"),
        ("Transfer to Kiran 6000", "unclear_recipient"),
        ("Transfer 6000 to <b>Kiran</b>", "unclear_recipient"),
        ("Transfer 6000 to " + "K" * 61, "unclear_recipient"),
        ("Transfer 50 to Kiran and Maria", "two_recipients"),
        ("Transfer 50 to Kiran to pay the rent", "two_recipients"),
        ("Transfer 50 to Kiran for the rent", "two_recipients"),
        ("Transfer 50 or 60 to Kiran", "two_amounts"),
        ("Transfer 50 to Kiran 2", "two_amounts"),
        ("Transfer -50 to Kiran", "negative_amount"),
        ("Transfer 6.000 to Kiran", "ambiguous_amount"),
        ("Transfer 6k to Kiran", "ambiguous_amount"),
        ("Transfer 6 thousand to Kiran", "ambiguous_amount"),
        ("Transfer 50% to Kiran", "ambiguous_amount"),
        ("Transfer 6,00,000 to Kiran", "ambiguous_amount"),
        ("Transfer 1,2345 to Kiran", "ambiguous_amount"),
        ("Transfer 1.005 to Kiran", "ambiguous_amount"),
        ("Transfer 12345678901234567 to Kiran", "amount_too_large"),
        ("Transfer $50 EUR to Kiran", "two_currencies"),
        ("Transfer 6000 to \u202enariK", "hidden_characters"),
        ("Transfer 6\u200b000 to Kiran", "hidden_characters"),
    ],
)
def test_what_has_no_one_reading_is_refused(text: str, code: str) -> None:
    found = understand(text)
    assert isinstance(found, NotUnderstood)
    assert found.code == code
    assert found.text


@pytest.mark.parametrize("text", ["cancel", "Cancel it", "please stop the transfer!", "withdraw my last transfer"])
def test_a_transfer_can_be_withdrawn_in_words(text: str) -> None:
    assert understand(text) == Withdrawal()


def test_cancelling_something_else_is_no_withdrawal() -> None:
    assert isinstance(understand("cancel my insurance"), NotUnderstood)


@given(st.decimals(min_value=Decimal("0.01"), max_value=Decimal(10**11), places=2))
def test_every_amount_is_read_as_it_was_written(amount: Decimal) -> None:
    """Plain, and grouped the English, Swiss and German way."""
    ways = [f"{amount:.2f}", f"{amount:,.2f}", f"{amount:,.2f}".replace(",", "'")]
    ways.append(f"{amount:,.2f}".translate(str.maketrans(",.", ".,")))
    assert [read_amount(text) for text in ways] == [amount] * 4


@given(st.text(max_size=80))
def test_no_sentence_breaks_it(text: str) -> None:
    found = understand(text)
    assert isinstance(found, (Wish, Withdrawal, NotUnderstood))
    found = understand(f"Transfer {text} to Kiran")
    if isinstance(found, Wish):
        assert 0 < found.amount < 10**12
        exponent = found.amount.as_tuple().exponent
        assert isinstance(exponent, int)
        assert exponent >= -2
