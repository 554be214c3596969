"""Operations of the Models API."""

from __future__ import annotations

from mistral_python.harness import World, constant, refused
from operations import operation


@operation
def list_(world: World) -> None:
    cards = {card.id: card for card in world.client.models.list().data}
    assert world.model in cards, cards
    card = cards[world.model]
    assert constant(card, "type") == "base", card
    assert card.object == "model", card
    assert card.capabilities is not None, card


@operation
def retrieve(world: World) -> None:
    card = world.client.models.retrieve(model_id=world.model)
    assert (card.id, constant(card, "type")) == (world.model, "base"), card


@operation
def retrieve_unknown(world: World) -> None:
    refused(404, world.client.models.retrieve, model_id="no-such-model")
