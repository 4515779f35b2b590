"""What a plan's check needs to know about models."""

from __future__ import annotations

from typing import Protocol

from models.repository import ModelReference


class KnownModels(Protocol):
    """Says which models can be served and what they score. May be thorough (load, warm up): nothing is saved before."""

    def score_names(self, reference: ModelReference) -> tuple[str, ...]:
        """The names of the model's scores, the ranking one first.

        Raises:
            RepositoryError: the model cannot be served; the message says why.
        """
