"""From a fitted encoder to what a network must know of its inputs."""

from __future__ import annotations

from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from models.zoo.inputs import BlockInputs, CategoryInput, NetworkInputs


def network_inputs(encoder: FeatureEncoder) -> NetworkInputs:
    """The sizes of every block, in the order of the encoder's columns."""
    return NetworkInputs(
        user=_block_inputs(encoder.views["user"]),
        context=_block_inputs(encoder.views["context"]),
        item=_block_inputs(encoder.views["item"]),
        candidate=_block_inputs(encoder.views["candidate"]),
        item_key=encoder.item_key,
        history_length=encoder.history_length,
    )


def _block_inputs(view: ViewEncoder) -> BlockInputs:
    return BlockInputs(
        categories=tuple(CategoryInput(column.name, column.slots, column.ids.cardinality) for column in view.categories),
        numbers=tuple(number.name for number in view.numbers),
    )
