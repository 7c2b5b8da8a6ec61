"""The sign-in page's dress: what it offers is `orchestrator.api.sign_in`'s matter."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from orchestrator.api.sign_in import Choices
from orchestrator.api.views import Actor
from orchestrator.pages.site import page


def dressed(request: Request, choices: Choices, status: int) -> Response:
    """The page. Nobody is known on it yet, whatever cookie the browser brought."""
    return page(request, Actor(""), "sign_in.html", status=status, choices=choices)
