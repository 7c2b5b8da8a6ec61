"""Static files of the pages: read once, named by their content, compressed once, cached by browsers for ever.

Rules of this file
- `/office/assets/<name>.<hash>.<ending>`: a changed file has another address, so no cache is ever wrong.
- Only what is listed in ASSETS exists; no path from a request ever reaches the file system.
- Style sheets are one answer made of several small files, in the order of their layers.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orchestrator.api.engine import may

PREFIX = "/office/assets/"
FOR_EVER = "public, max-age=31536000, immutable"

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}

# Name of an asset to the files that it is made of.
ASSETS: Mapping[str, Sequence[str]] = {
    "office.css": (
        "tokens.css", "base.css", "shell.css", "components.css", "tasks.css", "office.css", "print.css",
    ),
    "office.js": ("office.js", "live.js", "keys.js", "session.js"),
    "htmx.js": ("vendor/htmx.min.js", "vendor/hx-sse.min.js"),
    "icons.svg": ("icons.svg",),
    "mark.svg": ("mark.svg",),
    "licences.txt": ("vendor/htmx.LICENSE.txt", "vendor/lucide.LICENSE.txt"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent. `url` holds the hash of its content."""

    url: str
    media_type: str
    body: bytes
    packed: bytes  # gzip


@cache
def assets() -> Mapping[str, Asset]:
    """All assets by name. Read once per process."""
    return {name: _read(name, files) for name, files in ASSETS.items()}


def asset_url(name: str) -> str:
    """Where the asset of this name is. Raises KeyError for one that does not exist."""
    return assets()[name].url


def _read(name: str, files: Sequence[str]) -> Asset:
    folder = resources.files("orchestrator.pages") / "assets"
    body = b"\n".join((folder / file).read_bytes() for file in files)
    stem, _, ending = name.rpartition(".")
    digest = hashlib.sha256(body).hexdigest()[:12]
    return Asset(f"{PREFIX}{stem}.{digest}.{ending}", _TYPES[ending], body, gzip.compress(body, 9, mtime=0))


@cache
def _by_file() -> Mapping[str, Asset]:
    return {asset.url.removeprefix(PREFIX): asset for asset in assets().values()}


router = APIRouter(tags=["pages"], include_in_schema=False)


@router.get(PREFIX + "{file}", dependencies=[may("public")])
async def serve(file: str, request: Request) -> Response:
    """One asset. Needs no sign-in: the login page is dressed with it, and it holds nothing of anybody's."""
    found = _by_file().get(file)
    if found is None:
        return Response("There is no such file.", 404, media_type="text/plain")
    headers = {
        "Cache-Control": FOR_EVER,
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, media_type=found.media_type, headers={**headers, "Content-Encoding": "gzip"})
    return Response(found.body, media_type=found.media_type, headers=headers)
