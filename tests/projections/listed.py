"""The sagas of these tests as a module that the command line can be pointed at."""

from tests.api.payout import desk, payout
from tests.projections.conftest import VIEW

__all__ = ["VIEW", "desk", "payout"]
