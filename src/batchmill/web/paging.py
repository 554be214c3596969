"""Pages of a list, by either vendor's parameters: a page number, or the last id that was seen."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

MAX_LIMIT = 10_000
MAX_PAGE = 1_000_000_000

PageNumber = Annotated[int, Query(ge=0, le=MAX_PAGE, description="Zero-based number of the page")]
PageSize = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many on one page")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most")]
