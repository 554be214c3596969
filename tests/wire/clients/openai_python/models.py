"""Operations of the Models API."""

from __future__ import annotations

from openai import NotFoundError
from openai_python.harness import World, refused
from operations import operation


@operation
def list_(world: World) -> None:
    cards = {card.id: card for card in world.client.models.list()}
    assert {world.model, f"org/{world.model}"} <= set(cards), cards
    card = cards[world.model]
    assert card.object == "model", card
    assert isinstance(card.created, int), card
    assert card.owned_by, card


@operation
def retrieve(world: World) -> None:
    for name in (world.model, f"org/{world.model}"):
        assert world.client.models.retrieve(name).id == name


@operation
def retrieve_unknown(world: World) -> None:
    for name in ("gpt-9", "org/gpt-9"):
        refused(NotFoundError, "model_not_found", "model", world.client.models.retrieve, name)
