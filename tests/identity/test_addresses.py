"""Where a request comes from: behind proxies, from this machine, under a name of ours; and what counts as a laptop."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request

from orchestrator.config import load_settings
from orchestrator.identity.addresses import client_address, host_is_allowed, is_local, networks


def request(
    peer: str = "127.0.0.1", host: str = "localhost:8080", *, http_version: str = "1.1", **headers: str
) -> Request:
    """A request from a peer."""
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "http_version": http_version, "method": "GET", "path": "/", "query_string": b"",
        "scheme": "http", "server": ("x", 80),
        "client": (peer, 1234), "headers": [(b"host", host.encode()), *named],
    }  # fmt: skip
    return Request(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("9.9.9.9", "", "9.9.9.9"),
        ("9.9.9.9", "1.2.3.4", "9.9.9.9"),  # nobody's proxy
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4"),  # the left one was written by whoever asks
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),  # two proxies of ours
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", ",".join(["1.1.1.1"] * 500), "1.1.1.1"),
    ],
)
def test_an_address_is_believed_only_from_our_own_proxy(peer: str, forwarded: str, address: str) -> None:
    """The last hop that a trusted proxy names."""
    headers = {"x_forwarded_for": forwarded} if forwarded else {}
    assert client_address(request(peer, **headers), networks("10.0.0.0/8")) == address


@pytest.mark.parametrize(
    ("given", "local"),
    [
        (request(), True),
        (request("::1", "[::1]:8080"), True),
        (request("192.168.1.5"), False),
        (request(host="evil.example"), False),
        (request(x_forwarded_for="127.0.0.1"), False),
        (request(forwarded="for=127.0.0.1"), False),
        (request(x_real_ip="127.0.0.1"), False),
        *(
            (request(**{name: "x"}), False)
            for name in ("via", "x_forwarded_server", "x_envoy_peer", "cf_ray", "cdn_loop")
        ),
        (request(x_request_id="1", accept="*/*"), True),
        (request(http_version="1.0"), False),  # nginx as it is delivered: no header of its own, and HTTP/1.0
    ],
)
def test_local_is_this_machine_without_anything_in_between(given: Request, local: bool) -> None:
    """A proxy on this machine, or a name that a page has rebound, is not local."""
    assert is_local(given) == local


@pytest.mark.parametrize(
    ("changes", "believed"),
    [
        ({}, True),
        ({"public_url": "http://localhost:8080"}, True),
        ({"public_url": "https://office.bank.example"}, False),
        ({"trusted_proxies": "10.0.0.0/8"}, False),
        ({"environment": "test"}, False),
        ({"public_url": "https://office.bank.example", "header_actors": True, "local_users": True}, True),
    ],
)
def test_what_others_reach_is_no_laptop(changes: dict[str, Any], believed: bool) -> None:
    """Development that names a host outside or a proxy believes nobody's word, unless it says so by name."""
    settings = load_settings(**changes)
    assert (settings.believes_headers, settings.has_local_users) == (believed, believed)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("bank.example", True),
        ("BANK.example:443", True),
        ("bank.example.evil.example", False),
        ("evil.example", False),
        ("bank.example@evil.example", False),
        ("", False),
        ("bank.example evil.example", False),
        ("localhost", False),
    ],
)
def test_only_our_own_names_are_answered(host: str, allowed: bool) -> None:
    """The port does not count, capitals do not either; nothing else is close enough."""
    assert host_is_allowed(host, frozenset({"bank.example"})) == allowed
