"""The benchmark's tables: every user with a full history, every item in some row to learn from, all of it without meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bench_world.views import CONTEXT_FIELDS, HISTORY_LENGTH, ITEM_FIELDS, USER_FIELDS
from models.datasets.files import DataSetTables

Integers = npt.NDArray[np.int64]

FIRST_MOMENT = 1_735_689_600  # 2025-01-01, UTC
# The split gives a user's last row to the test and the one before it to validation; whoever stands there keeps a whole history.
HELD_OUT = 2
CLICKS = HISTORY_LENGTH + HELD_OUT
ROWS_PER_USER = CLICKS + 8
FIRST_ID, LAST_ID = 1_000_000, 9_999_999


class BenchWorldError(ValueError):
    """A world that cannot be made as asked; the message says what to change."""


@dataclass(frozen=True, slots=True)
class BenchWorldConfig:
    """Sizes and seed of a world.

    Raises:
        BenchWorldError: a size or a seed that no world can have.
    """

    users: int = 5_000
    items: int = 20_000
    seed: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.users <= 1_000_000:
            raise BenchWorldError("users must be between 2 and 1,000,000")
        most = min(self.users * (ROWS_PER_USER - HELD_OUT), 1_000_000)
        if not 1 <= self.items <= most:
            raise BenchWorldError(
                f"items must be between 1 and {most:,}: {self.users:,} users have no more rows, and every item needs one"
            )
        if not 0 <= self.seed < 1 << 32:
            raise BenchWorldError("seed must be between 0 and 2**32 - 1")


def draw_tables(config: BenchWorldConfig) -> DataSetTables:
    """The three tables, the same for the same config; ids are integers of seven digits in no order."""
    rng = np.random.default_rng(config.seed)
    users, items = _ids(rng, config.users), _ids(rng, config.items)
    return DataSetTables(
        interactions=_interactions(rng, users, items),
        users=pl.DataFrame({"user_id": users, **_categories(rng, USER_FIELDS, config.users)}),
        items=pl.DataFrame({"item_id": items, **_categories(rng, ITEM_FIELDS, config.items)}),
    )


def _ids(rng: np.random.Generator, count: int) -> Integers:
    return rng.choice(np.arange(FIRST_ID, LAST_ID + 1), size=count, replace=False)


def _categories(rng: np.random.Generator, fields: Mapping[str, int], count: int) -> dict[str, npt.NDArray[np.str_]]:
    return {name: np.array([f"{name}-{n}" for n in range(size)])[rng.integers(0, size, count)] for name, size in fields.items()}


def _interactions(rng: np.random.Generator, users: Integers, items: Integers) -> pl.DataFrame:
    """``ROWS_PER_USER`` rows a user, ``CLICKS`` of them clicks; one row a second, turn by turn of all users."""
    shape = (ROWS_PER_USER, len(users))
    clicks = np.arange(ROWS_PER_USER)[:, None] < CLICKS
    return pl.DataFrame(
        {
            "user_id": np.broadcast_to(users, shape).ravel(),
            "item_id": items[_shown(rng, shape, len(items))].ravel(),
            "time": FIRST_MOMENT + np.arange(shape[0] * shape[1]),
            "click": rng.permuted(np.broadcast_to(clicks, shape), axis=0).ravel().astype(np.int8),
            **_categories(rng, CONTEXT_FIELDS, shape[0] * shape[1]),
        }
    )


def _shown(rng: np.random.Generator, shape: tuple[int, int], items: int) -> Integers:
    """The item of every row [turns, users]: all items in a drawn order, again and again, so that early rows have each."""
    turns, users = shape
    rounds = -(-turns * users // items)
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[: turns * users].reshape(shape)
