"""Where a webhook may go: the guard against requests that somebody else makes through us (SSRF).

Rules of this file
- A name is resolved once, every address that it has is checked, and the connection goes to an address that was checked:
  a name that answers differently a moment later changes nothing.
- Only addresses of the public internet, and not those that clouds answer their own questions on; addresses that hold
  another one (IPv4 in IPv6 in all its forms) are judged by what they hold.
- What an installation allows by name or network (`allow`) is the exception, for its intranet, and may be plain http.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

URL_CHARACTERS_MAX = 2_000

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

# Public by number, but answered by a cloud's own machinery (Azure's wire server).
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
# Not public either, whatever the version of Python at hand thinks of them (IANA's registries of special addresses).
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "fec0::/10", "100::/64"),
    )
)
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.ip_network("::/96")


class NotAllowedError(ValueError):
    """A webhook may not go there; the text says why, and no more than its sender knew."""


class NotFoundError(Exception):
    """The host's name has no address now."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked place: connect to `address`, speak to `host`."""

    scheme: str
    host: str
    port: int
    address: str
    path: str  # with the query

    @property
    def host_header(self) -> str:
        """What stands in the header Host."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == {"https": 443, "http": 80}[self.scheme] else f"{shown}:{self.port}"


class Guard:
    """Checks where webhooks go. allow: host names, addresses or networks that are allowed although they are inside."""

    def __init__(self, allow: Iterable[str] = (), resolve: Resolve | None = None) -> None:
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in allow:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry.lower().rstrip("."))
        self._resolve = resolve or _resolved

    def check(self, url: str) -> tuple[str, str, int, str]:
        """Scheme, host, port and path of a URL that may be asked at all. Raises NotAllowedError."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise NotAllowedError("its port is no number") from None
        host = (parts.hostname or "").rstrip(".").lower()
        if len(url) > URL_CHARACTERS_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise NotAllowedError("it is no plain URL")
        if parts.scheme not in ("https", "http") or not host:
            raise NotAllowedError("it must begin with https://host")
        if parts.username is not None or parts.password is not None:
            raise NotAllowedError("it must not hold a user or a password")
        if port == 0:
            raise NotAllowedError("its port is 0")
        path = parts.path or "/"
        return (
            parts.scheme,
            host,
            port or {"https": 443, "http": 80}[parts.scheme],
            f"{path}?{parts.query}" if parts.query else path,
        )

    async def target(self, url: str) -> Target:
        """A place to connect to. Raises NotAllowedError for good, NotFoundError where its name has no address now."""
        scheme, host, port, path = self.check(url)
        texts = await self._resolve(host, port)
        if not texts:
            raise NotFoundError(f"{host} has no address")
        addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in texts]
        by_name = host in self._names
        allowed = by_name or all(self._inside(address) for address in addresses)
        if not allowed:
            for address in addresses:
                if not self._inside(address) and (why := forbidden(address)):
                    # Also where only one of several is inside: an attacker's name would have both.
                    raise NotAllowedError(f"{host} is {why}")
            if scheme != "https":
                raise NotAllowedError("it must begin with https://, or be allowed by ORCHESTRATOR_NOTICE_WEBHOOK_ALLOW")
        return Target(scheme, host, port, str(addresses[0]), path)

    def _inside(self, address: Address) -> bool:
        return any(
            held in network
            for held in (address, *_held(address))
            for network in self._networks
            if held.version == network.version
        )


def forbidden(address: Address) -> str:
    """Why nobody may be sent to this address, or ""."""
    held = _held(address)
    # Of a translated address only what it holds counts, or a network of IPv6 alone could reach nobody.
    translated = isinstance(address, IPv6Address) and (address in _NAT64[0] or address.ipv4_mapped is not None)
    for found in held if translated else (address, *held):
        if found in _METADATA:
            return "an address of a cloud's own services"
        if found.is_loopback:
            return "this machine"
        if found.is_link_local:
            return "a link-local address"
        if found.is_multicast:
            return "a multicast address"
        special = any(found in network for network in _SPECIAL if network.version == found.version)
        if special or not found.is_global or found.is_unspecified or found.is_reserved:
            return "an address that is not public"
    return ""


def _held(address: Address) -> list[Address]:
    """The IPv4 addresses inside an IPv6 address, in every form that a network may translate."""
    if not isinstance(address, IPv6Address):
        return []
    found: list[Address] = []
    if address.ipv4_mapped is not None:
        found.append(address.ipv4_mapped)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 0xFFFF):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return found


async def _resolved(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
