"""Where a webhook may go, and where nobody may be sent through us."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from orchestrator.notices.guard import Guard, NotAllowedError, NotFoundError, forbidden

INSIDE = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "255.255.255.255", "240.0.0.1",
    "198.18.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:7f00:1::", "fec0::1",
]  # fmt: skip
OUTSIDE = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e", "::ffff:8.8.8.8"]


def guard(*addresses: str, allow: tuple[str, ...] = ()) -> Guard:
    """A guard for whom every name has these addresses."""

    async def resolve(host: str, port: int) -> list[str]:
        return list(addresses)

    return Guard(allow, resolve)


@pytest.mark.parametrize("address", INSIDE)
async def test_addresses_that_are_not_public_are_refused_in_every_spelling(address: str) -> None:
    """Private, loopback, link-local, metadata, reserved, and IPv4 hidden in IPv6."""
    assert forbidden(ip_address(address))
    with pytest.raises(NotAllowedError):
        await guard(address).target("https://hooks.example/x")


@pytest.mark.parametrize("address", OUTSIDE)
async def test_public_addresses_are_connected_to_as_they_were_checked(address: str) -> None:
    """The name is for the certificate, the address for the connection."""
    target = await guard(address).target("https://Hooks.Example:8443/a/b?c=d")
    assert (target.host, target.port, target.address) == ("hooks.example", 8443, str(ip_address(address)))
    assert (target.path, target.host_header) == ("/a/b?c=d", "hooks.example:8443")


async def test_one_inside_address_among_public_ones_is_enough_to_refuse() -> None:
    """A name that has both would win a race sooner or later."""
    with pytest.raises(NotAllowedError, match="this machine"):
        await guard("8.8.8.8", "127.0.0.1").target("https://both.example/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://hooks.example/", "must begin with https"),
        ("ftp://hooks.example/", "must begin with https"),
        ("https:///path", "must begin with https"),
        ("https://user@hooks.example/", "user or a password"),
        ("https://user:pw@hooks.example/", "user or a password"),
        ("https://hooks.example:0/", "port is 0"),
        ("https://hooks.example:99999/", "port is no number"),
        ("https://hooks.example/\r\nX: y", "no plain URL"),
        ("https://hooks.example/a b", "no plain URL"),
        ("https://hooks.example\\@127.0.0.1/", "no plain URL"),
        ("https://höoks.example/", "no plain URL"),
        ("https://hooks.example/" + "x" * 2_000, "no plain URL"),
    ],
)
async def test_a_url_with_anything_odd_in_it_is_refused(url: str, expected: str) -> None:
    """Parsers differ about odd URLs, and attackers know where."""
    with pytest.raises(NotAllowedError, match=expected):
        await guard("8.8.8.8").target(url)


@pytest.mark.parametrize(
    ("spelling", "why"),
    [("2130706433", "this machine"), ("0x7f.1", "this machine"), ("127.1", "this machine"), ("[::1]", "this machine")],
)
async def test_numbers_that_mean_an_address_are_judged_by_what_they_mean(spelling: str, why: str) -> None:
    """The system's own resolver decides, as it would when connecting."""
    with pytest.raises(NotAllowedError, match=why):
        await Guard().target(f"https://{spelling}/")


async def test_what_an_installation_allows_may_be_inside_and_plain() -> None:
    """By name, by address, by network; and nothing beside it."""
    assert (await guard("10.1.2.3", allow=("chat.intern",)).target("http://chat.intern/x")).address == "10.1.2.3"
    assert (await guard("10.1.2.3", allow=("10.1.0.0/16",)).target("http://other.intern/")).port == 80
    assert (await guard("::ffff:10.1.2.3", allow=("10.1.2.3",)).target("http://mapped.intern/")).host == "mapped.intern"
    with pytest.raises(NotAllowedError):
        await guard("10.2.0.1", allow=("10.1.0.0/16", "chat.intern")).target("https://chat.intern.evil.example/")
    with pytest.raises(NotAllowedError):
        await guard("10.1.2.3", "10.2.0.1", allow=("10.1.0.0/16",)).target("https://other.intern/")
    with pytest.raises(NotAllowedError, match="https"):
        await guard("8.8.8.8", allow=("10.1.0.0/16",)).target("http://public.example/")


async def test_a_name_without_an_address_is_trouble_that_may_pass() -> None:
    """The name server may be away."""
    with pytest.raises(NotFoundError):
        await guard().target("https://hooks.example/")
