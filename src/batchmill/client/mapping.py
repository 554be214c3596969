"""Rows to answers: each row becomes a line, the lines a job, each answer comes to its row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from batchmill.client.answers import said
from batchmill.client.errors import JobFailed, Unreadable
from batchmill.client.jobs import wait
from batchmill.client.objects import Job, Result
from batchmill.client.reading import in_input_order
from batchmill.client.steps import Give, Steps
from batchmill.client.submitting import Order, submit
from batchmill.jsontext import value_of
from batchmill.template import Template

V = TypeVar("V")
Prompt = str | Callable[[Mapping[str, Any]], str]
Schema = type[BaseModel] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """The answer to one row. `value` is None where there is none: `error` then says why, in one
    word (`invalid_schema`, `truncated`, `empty`, `refusal`, or the code of the failed line) and a
    sentence; `text` is what the model said, also then."""

    row: Mapping[str, Any]
    value: V | None
    error: str | None
    text: str | None
    result: Result | None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of each row."""

    prompt: Prompt
    schema: Schema | None = None
    system: str | None = None
    parameters: Mapping[str, Any] | None = None

    def lines(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """One line for each row, its custom_id the number of the row."""
        shared = dict(self.parameters or {})
        if self.schema is not None:
            shared["response_format"] = response_format(self.schema)
        opening = [{"role": "system", "content": self.system}] if self.system else []
        fill = _filling(self.prompt) if isinstance(self.prompt, str) else self.prompt
        for number, row in enumerate(rows):
            text = fill(row)
            messages = [*opening, {"role": "user", "content": text}]
            yield {"custom_id": str(number), "body": {**shared, "messages": messages}}


def _filling(prompt: str) -> Callable[[Mapping[str, Any]], str]:
    """Fills a prompt in with rows; raises `Unreadable` for a column that a row does not have."""
    template = Template.parse(prompt)

    def fill(row: Mapping[str, Any]) -> str:
        if (wrong := template.complaint(row)) is not None:
            raise Unreadable(f"The prompt {wrong}")
        return template.fill(row)

    return fill


def map_rows(
    rows: list[Mapping[str, Any]],
    task: Task,
    order: Order,
    on_progress: Callable[[Job], None] | None = None,
) -> Steps[None]:
    """Gives an answer for each row, in their order. Raises `JobFailed` where there is none."""
    if not rows:
        return
    job = yield from wait((yield from submit(task.lines(rows), order)), None, on_progress)
    if job.output_file is None and job.error_file is None:
        raise JobFailed(job)
    results = in_input_order(job)
    number, came = 0, None
    while True:
        try:
            step = results.send(came)
        except StopIteration:
            break
        if not isinstance(step, Give):
            came = yield step
            continue
        if step.value.custom_id != str(number):
            raise AssertionError(f"result {step.value.custom_id} stands where {number} should")
        came = yield Give(answer_to(rows[number], step.value, task.schema))
        number += 1
    if number != len(rows):
        raise JobFailed(job)


def response_format(schema: Schema) -> dict[str, Any]:
    """How an engine is told to answer in that form. Raises `TypeError` for what is no schema."""
    if isinstance(schema, Mapping):
        name, form = str(schema.get("title") or "answer"), dict(schema)
    elif not _is_pydantic(schema):
        raise TypeError(
            f"schema should be a pydantic model, or a JSON Schema as a dict, and is {schema!r}."
        )
    else:
        name, form = schema.__name__, schema.model_json_schema()
    name = "".join(each if each.isalnum() or each in "-_" else "_" for each in name)[:64]
    return {"type": "json_schema", "json_schema": {"name": name, "schema": form, "strict": True}}


def _is_pydantic(schema: object) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def answer_to(row: Mapping[str, Any], result: Result, schema: Schema | None) -> Answer[Any]:
    """What a result is for its row. Pure."""
    if result.failure is not None:
        return Answer(row, None, ": ".join(filter(None, result.failure)), None, result)
    answered = said(result.body)
    text, spoilt = answered.text, answered.spoilt
    if spoilt is not None or schema is None:
        return Answer(row, None if spoilt else text, spoilt, text, result)
    try:
        return Answer(row, _read(text or "", schema), None, text, result)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{each}: " for each in first["loc"])
        return Answer(row, None, f"invalid_schema: {place}{first['msg']}", text, result)
    except (ValueError, RecursionError) as error:
        return Answer(row, None, f"invalid_schema: {error}", text, result)


def _read(text: str, schema: Schema) -> Any:
    """The answer in the schema's form; a dict schema is the engine's to keep, and read as JSON."""
    if isinstance(schema, Mapping):
        return value_of(text.encode())
    return schema.model_validate_json(text)
