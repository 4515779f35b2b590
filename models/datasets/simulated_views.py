"""The feature views of the simulated data."""

SIMULATED_VIEWS = """\
# Made data: users with drifting interests. true_ctr and true_cvr stand in the interactions but are no features.
name: simulated
tables:
  interactions: interactions.parquet
  users: users.parquet
  items: items.parquet
interactions:
  time: time                 # seconds since 1970
  request: request_id
user:
  key: user_id
  fields:
    - {name: age_group, kind: category}
    - {name: region, kind: category}
    - {name: tenure_days, kind: number, transform: log1p_standardize}
item:
  key: item_id
  fields:
    - {name: item_id, kind: category}
    - {name: category, kind: category}
    - {name: tags, kind: categories, max_values: 4}
    - {name: price, kind: number, transform: log1p_standardize}
    - {name: age_days, kind: number}
context:
  - {name: hour, kind: category}
  - {name: device, kind: category}
  # Learned so that low positions are not taken for bad items; unknown online, where 1 stands in.
  - {name: position, kind: number, per: candidate, transform: log1p_standardize, default: 1}
history:
  length: 40
  where: {column: click}
labels:
  - {name: ctr, column: click}
  - {name: conversion, column: conversion}      # a click that converts, over all impressions
split: {by: time, valid: 0.1, test: 0.1}
# What arrives live, as what it would have written into the interactions: a view is a row to learn from, a click and a purchase
# complete the row of the same user, item and request; a click enters the history.
events:
  time_resolution: us        # the table's times are fractions of seconds; batch and live must have the same time of an event
  types:
    - {name: view, sets: {click: 0, conversion: 0}, example: true}
    - {name: click, sets: {click: 1}}
    - {name: purchase, sets: {conversion: 1}}
"""
