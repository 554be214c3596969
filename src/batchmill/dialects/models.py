"""`/v1/models`: what can be asked for, on cards that both vendors' SDKs read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from batchmill.core.models import WILDCARD, Catalogue
from batchmill.errors import NotFound
from batchmill.web.auth import NeedsKey
from batchmill.web.errors import error_responses
from batchmill.web.replies import json_reply
from batchmill.web.services import Wired

router = APIRouter(prefix="/v1/models", tags=["Models"], dependencies=[NeedsKey])


class Capabilities(BaseModel):
    """What Mistral's SDK asks of a model; engines do not tell, so only the common one is set."""

    completion_chat: bool = True
    completion_fim: bool = False
    function_calling: bool = False
    fine_tuning: bool = False
    vision: bool = False


class ModelCard(BaseModel):
    """A name that can be asked for. `served_as` is the name that engines get instead of it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    type: Literal["base"] = "base"
    name: str
    description: str | None
    capabilities: Capabilities = Capabilities()
    aliases: list[str]
    deprecation: None = None
    served_as: str
    engines: list[str]
    simulated: bool


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]


@router.get("", response_model=ModelList, responses=error_responses())
async def list_models(
    services: Wired,
    _provider: Annotated[
        str | None, Query(alias="provider", description="Taken and not used")
    ] = None,
    model: Annotated[str | None, Query(description="Only the model of this name")] = None,
) -> Response:
    """Every model name that can be asked for: what engines serve, and the aliases."""
    catalogue = await services.catalogue()
    names = [name for name in catalogue.names() if model in {None, "", name}]
    return json_reply(ModelList(data=[_card(name, catalogue) for name in names]))


@router.get("/{model_id:path}", response_model=ModelCard, responses=error_responses(404))
async def retrieve_model(model_id: str, services: Wired) -> Response:
    """One model; its name may contain slashes, encoded or not."""
    catalogue = await services.catalogue()
    by_wildcard = WILDCARD in catalogue.aliases and catalogue.can_serve(model_id)
    if model_id not in catalogue.names() and not by_wildcard:
        raise NotFound(
            f"The model '{model_id[:100]}' does not exist; GET /v1/models lists those that do.",
            param="model",
            code="model_not_found",
        )
    return json_reply(_card(model_id, catalogue))


def _card(name: str, catalogue: Catalogue) -> ModelCard:
    served = catalogue.served_name(name)
    engines = catalogue.engines_for(name)
    simulated = bool(engines) and all(engine.simulated for engine in engines)
    return ModelCard(
        id=name,
        owned_by=engines[0].name if engines else "batchmill",
        name=name,
        description="Answers of a simulator, not of a model." if simulated else None,
        aliases=sorted(
            alias
            for alias, target in catalogue.aliases.items()
            if target == served and alias not in {name, WILDCARD}
        ),
        served_as=served,
        engines=[engine.name for engine in engines],
        simulated=simulated,
    )
