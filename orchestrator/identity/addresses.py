"""Where a request comes from, and under which name it reached us.

Rules of this file
- A forwarded address is believed only from a proxy that the settings name, and the last one that such a proxy added
  counts: what stands further left was written by whoever wanted to.
- Local means: the connection comes from this machine, nothing speaks of a proxy (one on this machine would make the
  whole world look local), and `Host` is a loopback name (else a web page could reach us by a rebound name). Of a proxy
  speak its headers, and HTTP/1.0: some say nothing else (nginx as it is delivered), and nothing of ours speaks it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PROXY_HEADERS = frozenset({
    "forwarded", "via", "client-ip", "true-client-ip", "fastly-client-ip", "cdn-loop", "x-real-ip", "x-client-ip",
    "x-cluster-client-ip", "x-original-host", "x-original-url", "x-amzn-trace-id", "x-arr-log-id", "x-proxyuser-ip",
})  # fmt: skip
PROXY_PREFIXES = ("x-forwarded", "x-envoy-", "cf-", "x-azure-", "x-appengine-", "x-vercel-")
HOPS_MAX = 20


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a comma-separated list. Raises ValueError naming the one that is none."""
    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def client_address(request: Request, proxies: Sequence[Network]) -> str:
    """The address that asks: the peer, or what the last trusted proxy says of it; "unknown" where there is none."""
    peer = request.client.host if request.client else ""
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")[-HOPS_MAX:]
    while hops and _within(peer, proxies):
        named = hops.pop().strip()
        if not _is_address(named):
            break
        peer = named
    return peer if _is_address(peer) else "unknown"


def is_local(request: Request) -> bool:
    """True where the request comes from this machine and from nowhere else."""
    if any(name in PROXY_HEADERS or name.startswith(PROXY_PREFIXES) for name in request.headers):
        return False
    if request.scope.get("http_version") in ("1.0", "0.9"):
        return False
    client = request.client.host if request.client else ""
    host = request.url.hostname or ""
    return is_loopback(client) and (host == "localhost" or is_loopback(host))


def own_origin(request: Request, public_url: str) -> str:
    """Scheme, host and port under which browsers know us."""
    if public_url:
        parts = urlsplit(public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()
    return f"{request.url.scheme}://{request.url.netloc}".lower()


def host_is_allowed(host: str, allowed: frozenset[str]) -> bool:
    """True where the `Host` header names us; the port does not count. Nothing allowed: every name is."""
    if not allowed:
        return True
    name = urlsplit(f"//{host}").hostname if host and host.isprintable() and " " not in host else None
    return name is not None and (name.lower() in allowed or (is_loopback(name) and "localhost" in allowed))


def is_loopback(address: str) -> bool:
    """True for an address of this machine alone."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _within(address: str, proxies: Sequence[Network]) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found.version == network.version and found in network for network in proxies)
