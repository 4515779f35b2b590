"""The users and items of the simulator: what they are, and how topics and items are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

AGE_GROUPS = ("18-24", "25-34", "35-49", "50+")
REGIONS = ("north", "south", "east", "west", "centre")
_AGE_TASTE = 1.0  # how much an age group prefers some topics over others
_MISSING_PRICES = 0.03


@dataclass(frozen=True, slots=True)
class SimulatedItems:
    """Items sorted by topic, so that each topic is a slice; ``weight_to`` is the running sum of popularity, with 0 first.

    ``price_level`` is the standardized logarithm of ``price``. All [items].
    """

    ids: npt.NDArray[np.str_]
    topic: Integers
    second_topic: Integers
    quality: Floats
    price_level: Floats
    price_known: npt.NDArray[np.bool_]
    age_days: Integers
    weight_to: Floats
    topic_start: Integers

    def draw_popular(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Integers:
        """Items by popularity."""
        return self._at(rng.random(shape) * self.weight_to[-1])

    def draw_of_topic(self, rng: np.random.Generator, topics: Integers) -> Integers:
        """For each topic one of its items by popularity."""
        low, high = self.weight_to[self.topic_start[topics]], self.weight_to[self.topic_start[topics + 1]]
        return self._at(low + rng.random(topics.shape) * (high - low))

    def frame(self) -> pl.DataFrame:
        """The items table: id, category, tags (a list), price (some unknown), age."""
        names = np.array([f"topic-{topic:02}" for topic in range(len(self.topic_start) - 1)])
        tags = [sorted({first, second}) for first, second in zip(names[self.topic], names[self.second_topic], strict=True)]
        price = np.exp(3.0 + 0.8 * self.price_level).round(2)
        return pl.DataFrame(
            {
                "item_id": self.ids,
                "category": names[self.topic],
                "tags": pl.Series([[str(tag) for tag in each] for each in tags], dtype=pl.List(pl.String)),
                "price": pl.Series(price).set(pl.Series(~self.price_known), None),
                "age_days": self.age_days,
            }
        )

    def _at(self, weights: Floats) -> Integers:
        places = np.searchsorted(self.weight_to, weights, side="right") - 1
        return np.minimum(places, len(self.ids) - 1)


@dataclass(frozen=True, slots=True)
class SimulatedUsers:
    """Users; ``activity`` is each one's share of all requests, ``purse`` how little prices matter to them. All [users].

    ``taste_to`` [age groups, topics] is the running sum of an age group's liking of topics.
    """

    ids: npt.NDArray[np.str_]
    age: Integers
    region: Integers
    tenure_days: Integers
    activity: Floats
    purse: Floats
    taste_to: Floats

    def draw_topics(self, rng: np.random.Generator, users: Integers) -> Integers:
        """For each user one topic by the taste of the age group."""
        drawn = rng.random(users.shape)[..., None]
        topics: Integers = (self.taste_to[self.age[users]] < drawn).sum(axis=-1)
        return topics

    def frame(self) -> pl.DataFrame:
        """The users table: id, age group, region, tenure."""
        return pl.DataFrame(
            {
                "user_id": self.ids,
                "age_group": np.array(AGE_GROUPS)[self.age],
                "region": np.array(REGIONS)[self.region],
                "tenure_days": self.tenure_days,
            }
        )


def draw_items(rng: np.random.Generator, count: int, topics: int) -> SimulatedItems:
    """``count`` items over ``topics`` topics, each with one at least; popularity falls with the rank (Zipf)."""
    topic = np.sort(np.arange(count) % topics)
    popularity = 1 / (2 + rng.permutation(count))
    return SimulatedItems(
        ids=_shuffled_ids(rng, "i", count),
        topic=topic,
        second_topic=rng.integers(0, topics, size=count),
        quality=rng.normal(0, 0.4, size=count),
        price_level=rng.normal(0, 1, size=count),
        price_known=rng.random(count) >= _MISSING_PRICES,
        age_days=rng.integers(0, 1_000, size=count),
        weight_to=np.append(0, np.cumsum(popularity)),
        topic_start=np.searchsorted(topic, np.arange(topics + 1)),
    )


def draw_users(rng: np.random.Generator, count: int, topics: int) -> SimulatedUsers:
    """``count`` users of unequal activity."""
    activity = rng.lognormal(0, 0.7, size=count)
    taste = np.exp(_AGE_TASTE * rng.normal(size=(len(AGE_GROUPS), topics)))
    taste_to = np.cumsum(taste / taste.sum(axis=1, keepdims=True), axis=1)
    taste_to[:, -1] = 1.0
    return SimulatedUsers(
        ids=_shuffled_ids(rng, "u", count),
        age=rng.integers(0, len(AGE_GROUPS), size=count),
        region=rng.integers(0, len(REGIONS), size=count),
        tenure_days=rng.integers(0, 3_000, size=count),
        activity=activity / activity.sum(),
        purse=rng.normal(0, 0.7, size=count),
        taste_to=taste_to,
    )


def _shuffled_ids(rng: np.random.Generator, letter: str, count: int) -> npt.NDArray[np.str_]:
    """Ids that betray nothing of what they name."""
    return np.array([f"{letter}{number:05}" for number in rng.permutation(count)])
