"""How a dialect shows a job, for the routes that both dialects mount (`jobroutes.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel

from batchmill.dialects.progressobjects import ProgressObject
from batchmill.dialects.watching import watch_over
from batchmill.errors import InvalidInput
from batchmill.model import Job
from batchmill.web.replies import json_reply
from batchmill.web.services import Services

Fields = TypeVar("Fields", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class JobForm:
    """How a dialect shows a job: the model of its object, how one is made, and the status with
    which it refuses a bad field."""

    shown: type[BaseModel]
    render: Callable[[Job, ProgressObject], BaseModel]
    invalid_status: int

    async def reply(self, services: Services, job: Job) -> Response:
        """The job as it is now."""
        watch = await watch_over(services, job)
        return json_reply(self.render(job, watch.progress_of(job)))

    def invalid(self, param: str, message: str) -> InvalidInput:
        """The error for a field with an impossible value."""
        return InvalidInput(
            f"{param}: {message}", param=param, code="invalid_value", status=self.invalid_status
        )
