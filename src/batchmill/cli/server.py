"""The server that a command talks to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from batchmill.cli.exits import USAGE, Failure

if TYPE_CHECKING:
    from batchmill.client import Client

Url = Annotated[
    str | None,
    typer.Option("--url", help="The server (BATCHMILL_URL, else http://127.0.0.1:8470)."),
]


@contextmanager
def connected(url: str | None) -> Iterator[Client]:
    """A client of the server that the flag or the environment names; what goes wrong with it
    ends the command. Raises `Failure`."""
    from batchmill.client import BadAddress, Client, ClientError  # noqa: PLC0415 - help comes first

    try:
        with Client(url) as client:
            yield client
    except BadAddress as error:
        raise Failure(str(error), USAGE) from error
    except ClientError as error:
        raise Failure(str(error)) from error
    except UnicodeEncodeError as error:
        raise Failure("An argument is not UTF-8, which names and ids must be.", USAGE) from error
