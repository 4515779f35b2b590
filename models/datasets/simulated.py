"""Made data whose true probabilities are known: users with drifting interests, requests, impressions, clicks, conversions.

A user has a few active interests (topics); between two requests each may give way to another. A click depends above all on
whether the candidate's topic is an active interest, which only recent clicks betray: the history beats none, and a network
that looks in it for the candidate at hand beats one that averages it. Positions are examined less the lower they stand.

For a seed every number is the same each time; probabilities are rounded to six decimals before they are drawn from, so that
the last bits of a machine's ``exp`` change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from models.datasets.files import DataSetTables, write_data_set
from models.datasets.simulated_entities import SimulatedItems, SimulatedUsers, draw_items, draw_users
from models.datasets.simulated_views import SIMULATED_VIEWS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FIRST_MOMENT = 1_735_689_600.0  # 2025-01-01, UTC
DAY_S = 86_400
PROBABILITY_DECIMALS = 6
DEVICES = ("phone", "desktop", "tablet")
_DEVICE_SHARES = (0.6, 0.3, 0.1)
_DEVICE_LIFT = np.array([0.0, 0.2, 0.1])
_MOST_SHOWN = 10
_FEWEST_SHOWN = 8
_DRAWN = 20  # candidates drawn for a request, so that enough stay when repeats are taken out
_TARGETED_SHARE = 0.4
_POSITION_DECAY = 0.1


class SimulationError(ValueError):
    """A size that cannot be simulated."""


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """Sizes of the made data. ``drift`` is the chance that an interest changes between two requests.

    Raises:
        SimulationError: a size that cannot be simulated.
    """

    users: int = 2_000
    items: int = 1_000
    requests: int = 13_500
    seed: int = 7
    days: int = 30
    topics: int = 20
    interests: int = 3
    drift: float = 0.12

    def __post_init__(self) -> None:
        for name, least in (("users", 1), ("requests", 1), ("days", 1), ("topics", 2), ("interests", 1)):
            if getattr(self, name) < least:
                raise SimulationError(f"{name} must be at least {least}")
        if self.items < self.topics:
            raise SimulationError(f"items must be at least {self.topics}, one for each topic")
        if not 0 <= self.seed < 1 << 63:
            raise SimulationError("seed must be between 0 and 2**63 - 1")
        if not 0 <= self.drift <= 1:
            raise SimulationError("drift must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class _Requests:
    """One entry a request, by user, then time; ``turn`` counts a user's requests from 0."""

    user: Integers
    turn: Integers
    time: Floats
    hour: Integers
    device: Integers


@dataclass(frozen=True, slots=True)
class _Impressions:
    """One entry an impression: its request's place in ``_Requests``, its item, its position from 1, and whether it matches."""

    request: Integers
    item: Integers
    position: Integers
    matches: npt.NDArray[np.bool_]


def simulate(config: SimulationConfig) -> DataSetTables:
    """The three tables; interactions by time, with ``true_ctr`` = P(click) and ``true_cvr`` = P(conversion given a click)."""
    rng = np.random.default_rng(config.seed)
    items = draw_items(rng, config.items, config.topics)
    users = draw_users(rng, config.users, config.topics)
    requests = _draw_requests(rng, config, users)
    shown = _concatenate(list(_turns(rng, config, users=users, items=items, requests=requests)))
    return DataSetTables(_draw_outcomes(rng, users, items, requests, shown), users.frame(), items.frame())


def write_simulated(config: SimulationConfig, out: Path) -> Path:
    """Simulate and write tables and YAML into ``out``; returns the YAML's path.

    Raises:
        OSError: the folder cannot be written.
    """
    return write_data_set(simulate(config), SIMULATED_VIEWS, out)


def _draw_requests(rng: np.random.Generator, config: SimulationConfig, users: SimulatedUsers) -> _Requests:
    user = rng.choice(config.users, size=config.requests, p=users.activity)
    # Whole milliseconds, as a log would hold; people are awake more than asleep.
    day = rng.integers(0, config.days, size=config.requests)
    second = (rng.normal(15.5 * 3600, 4 * 3600, size=config.requests) % DAY_S).round(3)
    time = FIRST_MOMENT + day * DAY_S + second
    order = np.lexsort((time, user))
    user, time, second = user[order], time[order], second[order]
    turn = np.arange(config.requests) - np.searchsorted(user, user)
    device = rng.choice(len(DEVICES), size=config.requests, p=_DEVICE_SHARES)
    return _Requests(user, turn, time, (second // 3600).astype(np.int64), device)


def _turns(
    rng: np.random.Generator, config: SimulationConfig, *, users: SimulatedUsers, items: SimulatedItems, requests: _Requests
) -> Iterator[_Impressions]:
    """All users' first requests, then all second ones, ...: what is shown follows the interests of that moment."""
    interests = users.draw_topics(rng, np.repeat(np.arange(config.users)[:, None], config.interests, axis=1))
    for turn in range(int(requests.turn.max()) + 1):
        here = np.flatnonzero(requests.turn == turn)
        user = requests.user[here]
        yield _show(rng, items, here, interests[user])
        changes = rng.random((len(user), config.interests)) < config.drift
        fresh = users.draw_topics(rng, np.repeat(user[:, None], config.interests, axis=1))
        interests[user] = np.where(changes, fresh, interests[user])


def _show(rng: np.random.Generator, items: SimulatedItems, requests: Integers, interests: Integers) -> _Impressions:
    """Candidates of ``requests`` [n], whose users have ``interests`` [n, k]: some by interest, some by popularity."""
    shape = (len(requests), _DRAWN)
    aimed = np.take_along_axis(interests, rng.integers(0, interests.shape[1], size=shape), axis=1)
    chosen = np.where(rng.random(shape) < _TARGETED_SHARE, items.draw_of_topic(rng, aimed), items.draw_popular(rng, shape))
    size = rng.integers(_FEWEST_SHOWN, _MOST_SHOWN + 1, size=len(requests))
    row, column = np.nonzero(_first_distinct(chosen, size))
    item = chosen[row, column]
    position = np.arange(len(row)) - np.searchsorted(row, row) + 1
    matches = (items.topic[item][:, None] == interests[row]).any(axis=1)
    return _Impressions(requests[row], item, position, matches)


def _first_distinct(chosen: Integers, size: Integers) -> npt.NDArray[np.bool_]:
    """Where each row's first ``size`` distinct values stand, bool like ``chosen`` [n, drawn]."""
    earlier = np.tri(chosen.shape[1], k=-1, dtype=bool)
    repeated: npt.NDArray[np.bool_] = ((chosen[:, :, None] == chosen[:, None, :]) & earlier).any(axis=2)
    kept: npt.NDArray[np.bool_] = ~repeated & (np.cumsum(~repeated, axis=1) <= size[:, None])
    return kept


def _concatenate(turns: list[_Impressions]) -> _Impressions:
    return _Impressions(
        np.concatenate([each.request for each in turns]),
        np.concatenate([each.item for each in turns]),
        np.concatenate([each.position for each in turns]),
        np.concatenate([each.matches for each in turns]),
    )


def _draw_outcomes(
    rng: np.random.Generator, users: SimulatedUsers, items: SimulatedItems, requests: _Requests, shown: _Impressions
) -> pl.DataFrame:
    order = np.lexsort((shown.position, shown.request, requests.time[shown.request]))
    request, item, position, matches = (each[order] for each in (shown.request, shown.item, shown.position, shown.matches))
    user, time = requests.user[request], requests.time[request]
    dear = items.price_level[item] - users.purse[user]
    evening = 0.2 * (requests.hour[request] >= 18)
    wanted = -3.4 + 5.0 * matches + items.quality[item] - 0.3 * dear + evening + _DEVICE_LIFT[requests.device[request]]
    true_ctr = _probability(wanted) / (1 + _POSITION_DECAY * (position - 1))
    true_ctr = true_ctr.round(PROBABILITY_DECIMALS)
    true_cvr = _probability(-1.8 + 1.0 * matches - 0.8 * dear + 0.5 * items.quality[item]).round(PROBABILITY_DECIMALS)
    click = rng.random(len(item)) < true_ctr
    conversion = click & (rng.random(len(item)) < true_cvr)
    # Numbered by time, as a log would be.
    number = np.cumsum(np.append(0, np.diff(request) != 0))
    return pl.DataFrame(
        {
            "request_id": pl.Series(number).cast(pl.String).str.zfill(7).str.replace("^", "r"),
            "user_id": users.ids[user],
            "item_id": items.ids[item],
            "time": time,
            "position": position,
            "hour": requests.hour[request],
            "device": np.array(DEVICES)[requests.device[request]],
            "click": click.astype(np.int8),
            "conversion": conversion.astype(np.int8),
            "true_ctr": true_ctr,
            "true_cvr": true_cvr,
        }
    )


def _probability(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))
