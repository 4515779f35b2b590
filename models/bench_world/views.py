"""The feature views of the benchmark: 16 single-valued fields, eight of users, six of items, two of the request."""

HISTORY_LENGTH = 50
LABEL = "click"

USER_FIELDS = {
    "age_band": 8,
    "gender": 3,
    "region": 50,
    "city": 500,
    "language": 20,
    "plan_tier": 5,
    "segment": 200,
    "usual_device": 12,
}
"""Field to how many values it has."""
ITEM_FIELDS = {"category": 200, "brand": 1_000, "seller": 2_000, "price_band": 20, "age_of_item": 12}
"""Field to how many values it has; ``item_id`` comes first and has one an item."""
CONTEXT_FIELDS = {"hour": 24, "device": 5}
"""Field to how many values it has."""


def _fields(names: dict[str, int], indent: int) -> str:
    return "\n".join(f"{' ' * indent}- {{name: {name}, kind: category}}" for name in names)


BENCH_VIEWS = f"""\
# Made data for benchmarks: what it says means nothing, its sizes do.
name: bench-world
tables:
  interactions: interactions.parquet
  users: users.parquet
  items: items.parquet
interactions:
  time: time                 # seconds since 1970
user:
  key: user_id
  fields:
{_fields(USER_FIELDS, 4)}
item:
  key: item_id
  fields:
    - {{name: item_id, kind: category}}
{_fields(ITEM_FIELDS, 4)}
context:
{_fields(CONTEXT_FIELDS, 2)}
history:
  length: {HISTORY_LENGTH}
  where: {{column: click}}
labels:
  - {{name: {LABEL}, column: click}}
split: {{by: position, valid: 0.02, test: 0.02}}
events:
  time_resolution: us
  types:
    - {{name: view, sets: {{click: 0}}, example: true}}
    - {{name: click, sets: {{click: 1}}}}
"""
