"""A shop of three small tables in which half of the items are clicked far more than the rest: learned in a second."""

from __future__ import annotations

import random

from models.training.config import RunConfig
from tests.models.zoo_batches import SMALL

VIEWS = """\
name: tiny-shop
tables: {interactions: interactions.csv, users: users.csv, items: items.csv}
interactions: {time: at}
user:
  key: user_id
  fields:
    - {name: town, kind: category}
    - {name: age, kind: number}
item:
  key: item_id
  fields:
    - {name: item_id, kind: category}
    - {name: tags, kind: categories, separator: "|", max_values: 3}
    - {name: price, kind: number, transform: log1p}
context:
  - {name: device, kind: category}
  - {name: place, kind: category, per: candidate}
labels:
  - {name: click, column: clicked}
  - {name: buy, column: bought}
history: {length: 6, where: {column: clicked}}
split: {by: time, valid: 0.15, test: 0.15}
"""
USERS, ITEMS, TAGS, ROWS_PER_USER = 30, 20, 4, 40


def write_tiny_shop(folder):
    """Write the tables and return the path of the views; half of the rows do not know whether the user bought."""
    draw = random.Random(7)
    tags = [f"t{item % TAGS}|t{(item // TAGS) % TAGS}" for item in range(ITEMS)]
    _write(folder / "users.csv", "user_id,town,age", (f"u{u},town{u % 3},{20 + u}" for u in range(USERS)))
    _write(folder / "items.csv", "item_id,tags,price", (f"i{i},{tags[i]},{1 + i * 3}" for i in range(ITEMS)))
    _write(folder / "interactions.csv", "user_id,item_id,at,clicked,bought,device,place", _interactions(draw))
    (folder / "views.yaml").write_text(VIEWS)
    return folder / "views.yaml"


def tiny_recipe(network, **changes):
    """A recipe that trains in about a second."""
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in SMALL[network].items()}
    given = {"network": network, "options": options, "epochs": 3, "batch_rows": 64, "learning_rate": 0.01, "seed": 3, **changes}
    return RunConfig.model_validate(given)


def _interactions(draw):
    for at in range(ROWS_PER_USER):
        for user in range(USERS):
            item = draw.randrange(ITEMS)
            clicked = int(draw.random() < (0.85 if item % TAGS < 2 else 0.15))
            bought = "" if draw.random() < 0.5 else clicked * draw.randrange(2)
            yield f"u{user},i{item},{at},{clicked},{bought},{draw.choice(['phone', 'desk'])},p{draw.randrange(3)}"


def _write(path, header, lines):
    path.write_text("\n".join([header, *lines]) + "\n")
