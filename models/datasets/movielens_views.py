"""The feature views of the MovieLens sets: what a team would write by hand for its own tables."""

_TABLES = """\
tables:
  interactions: interactions.parquet
  users: users.parquet
  items: items.parquet
"""

_LABEL_AND_HISTORY = """\
# A movie is liked when it is rated 4 or 5. A user's history is what the user liked before.
labels:
  - {name: like, column: rating, at_least: 4}
history:
  length: 50
  where: {column: rating, at_least: 4}
"""

_EVENTS = """\
# What arrives live, as what it would have written into the interactions: every rating is a row to learn from.
events:
  types:
    - {name: rating, value: rating, example: true}
"""

_ITEM = """\
item:
  key: movie_id
  fields:
    - {name: movie_id, kind: category}
    - {name: genres, kind: categories, max_values: 6}
    - {name: year, kind: number}
"""

_USER_1M = """\
user:
  key: user_id
  fields:
    - {name: gender, kind: category}
    - {name: age, kind: category}          # seven groups, named by their youngest age
    - {name: occupation, kind: category}
    - {name: zip_area, kind: category, encode: {by: vocabulary, min_count: 500}}
"""

ML_1M_ORDER_ONLY = f"""\
# MovieLens-1M without timestamps: seq_pos is a rating's place in its user's own order, so rows are split by position.
name: movielens-1m
{_TABLES}
interactions:
  time: seq_pos
{_USER_1M}{_ITEM}{_LABEL_AND_HISTORY}split: {{by: position, valid: 0.1, test: 0.1}}
{_EVENTS}"""

ML_1M_TIMESTAMPS = f"""\
# MovieLens-1M as GroupLens publishes it. Most users rate in one sitting, so rows are split at each user's own last shares.
name: movielens-1m
{_TABLES}
interactions:
  time: timestamp
{_USER_1M}{_ITEM}{_LABEL_AND_HISTORY}split: {{by: position, valid: 0.1, test: 0.1}}
{_EVENTS}"""

ML_100K = f"""\
# MovieLens-100k in RecBole's atomic files, with real timestamps: rows are split at two moments of the whole table.
name: movielens-100k
{_TABLES}
interactions:
  time: timestamp
user:
  key: user_id
  fields:
    - {{name: gender, kind: category}}
    - {{name: age, kind: number}}
    - {{name: occupation, kind: category}}
    - {{name: zip_area, kind: category, encode: {{by: vocabulary, min_count: 200}}}}
{_ITEM}{_LABEL_AND_HISTORY}split: {{by: time, valid: 0.1, test: 0.1}}
{_EVENTS}"""
