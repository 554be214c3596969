"""Batchmill: Mistral's and OpenAI's batch APIs on your own machine, in front of any engine.

`Client` and `AsyncClient` use a server from Python; they are loaded when they are asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchmill.client import AsyncClient, Client

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    """The client's names, without their cost for whoever does not need them."""
    if name not in __all__:
        raise AttributeError(f"module 'batchmill' has no attribute {name!r}")
    from batchmill import client  # noqa: PLC0415 - importing batchmill stays cheap

    return getattr(client, name)
