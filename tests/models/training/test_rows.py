"""Training rows against slow rules: the encoder's split, point-in-time histories, labels, groups, raw values."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from feature_store.tables import REQUEST
from models.training.rows import build_training_data
from models.training.split import SplitEmptyError
from models.zoo.inputs import input_tensors
from tests.models.training.logs import Event, events, log_tables, log_views

SPREAD = [Event("u1", "i1", time, time % 3 == 0, None, "7", 1.0) for time in range(20)]


def build(log, views=None):
    try:
        return build_training_data(views or log_views(), log_tables(log))
    except SplitEmptyError:
        return assume(condition=False)


def all_rows(data):
    """Every row set with its places in the table."""
    return [(rows, place, int(rows.rows[place])) for rows in (data.train, data.valid, data.test) for place in range(len(rows))]


@given(events, st.integers(1, 4), st.sampled_from(["time", "position"]))
@settings(max_examples=40, deadline=None)
def test_a_batch_is_what_the_encoder_makes_of_each_raw_row(log, length, by):
    data = build(log, log_views(length=length, by=by))
    for rows, place, _ in all_rows(data):
        raw, batch = rows.raw(place), rows.batch(np.array([place]))
        for view, values in (("user", raw.user), ("item", raw.item), ("context", raw.context), ("candidate", raw.candidate)):
            block = data.encoder.views[view].encode_records([values])
            if block.categories.size:
                assert batch[f"{view}_categories"].tolist() == block.categories.tolist()
            if block.numbers.size:
                assert batch[f"{view}_numbers"].numpy().tobytes() == block.numbers.tobytes()
        assert batch["history"].tolist() == data.encoder.encode_history([raw.history_items]).tolist()


@given(events, st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_raw_row_holds_what_was_known_before_its_moment(log, length):
    data = build(log, log_views(length=length))
    for rows, place, number in all_rows(data):
        raw, event = rows.raw(place), log[number]
        earlier = [(e.time, n) for n, e in enumerate(log) if e.click and e.user == event.user and e.time < event.time]
        kept = [n for _, n in sorted(earlier)][-length:]
        assert (raw.user_id, raw.item_id, raw.time) == (event.user, event.item, event.time)
        assert (list(raw.history_items), list(raw.history_times)) == ([log[n].item for n in kept], [log[n].time for n in kept])
        assert raw.context == {"hour": event.hour}
        assert raw.candidate == {"place": event.place}


@given(events)
@settings(max_examples=40, deadline=None)
def test_the_encoder_knows_training_rows_only(log):
    data = build(log)
    trained = [log[number] for rows, _, number in all_rows(data) if rows is data.train]
    user, item, context, candidate = (data.encoder.views[view] for view in ("user", "item", "context", "candidate"))
    items = Counter(event.item for event in trained)
    assert item.categories[0].ids.terms == tuple(sorted(items, key=lambda term: (-items[term], term)))
    towns = Counter({"u2": "x"}.get(event.user) for event in trained)
    assert user.categories[0].ids.terms == (("x",) if towns["x"] >= 3 else ())
    assert set(context.categories[0].ids.terms) == {event.hour for event in trained} - {None}
    ages = {name: age for name, age in (("u2", 20.0), ("u1", 40.0)) if any(event.user == name for event in trained)}
    assert user.numbers[0].shift == pytest.approx(np.mean(list(ages.values())) if ages else 0.0)
    places = [event.place for event in trained if event.place is not None]
    assert candidate.numbers[0].shift == pytest.approx(np.mean(places) if places else 0.0)


@given(events)
@settings(max_examples=20, deadline=None)
def test_every_row_stands_in_one_part_in_the_order_of_the_table(log):
    data = build(log)
    assert sorted(number for _, _, number in all_rows(data)) == list(range(len(log)))
    for rows in (data.train, data.valid, data.test):
        assert rows.rows.tolist() == sorted(rows.rows.tolist())
        assert rows.labels["click"].tolist() == [float(log[number].click) for number in rows.rows]
        assert [log[number].user for number in rows.rows] == [rows.raw(place).user_id for place in range(len(rows))]


def test_an_item_without_a_row_keeps_its_key_as_candidate_and_in_the_history():
    log = [Event("u1", "i4" if time in (3, 18) else "i1", time, True, None, None, None) for time in range(20)]
    data = build(log, log_views(length=2))
    candidate, after = data.test.batch(np.array([2])), data.test.batch(np.array([3]))
    assert data.test.raw(2).item == {"item": "i4", "tags": None, "maker": None}
    assert candidate["item_categories"].tolist() == [[3, 0, 0, 0]]
    assert after["history"].tolist() == [[2, 3]]


def test_an_item_first_met_after_training_is_unknown_and_keeps_its_place_in_the_history():
    log = [Event("u1", "i2" if time == 18 else "i1", time, True, None, None, None) for time in range(20)]
    data = build(log, log_views(length=2))
    candidate, after = data.test.batch(np.array([2])), data.test.batch(np.array([3]))
    assert candidate["item_categories"][0, 0] == 1
    assert after["history"].tolist() == [[2, 1]]


def test_a_batch_holds_exactly_the_tensors_of_the_networks_inputs():
    data = build(SPREAD)
    batch = data.train.batch(np.array([3, 0, 3]))
    declared = input_tensors(data.inputs, uses_history=True)
    assert set(batch) == {tensor.name for tensor in declared}
    for tensor in declared:
        assert batch[tensor.name].dtype == getattr(torch, tensor.dtype)
        assert batch[tensor.name].shape == ((3,) if tensor.width is None else (3, tensor.width))
    assert batch["row_user"].tolist() == [0, 1, 2]


def test_blocks_without_fields_are_left_out():
    views = log_views(user={"key": "user"}, context=[])
    assert set(build(SPREAD, views).train.batch(np.array([0]))) == {"item_categories", "history", "row_user"}


def test_cardinalities_cover_every_id():
    data = build(SPREAD)
    batch = data.train.batch(np.arange(len(data.train)))
    for view, block in data.inputs.views.items():
        start = 0
        for field in block.categories:
            columns = batch[f"{view}_categories"][:, start : start + field.slots]
            assert int(columns.max()) < field.cardinality
            start += field.slots
    assert int(batch["history"].max()) < data.inputs.item_cardinality


def test_rows_without_a_label_are_left_out_for_that_label_and_counted():
    log = [Event("u1", "i1", time, True, (None, 0.0, 1.0)[time % 3], None, None) for time in range(20)]
    train = build(log).train
    bought = train.labelled("buy")
    assert (len(train), len(bought), train.unlabelled_count("buy"), train.unlabelled_count("click")) == (12, 8, 4, 0)
    assert np.isnan(train.labels["buy"][0])
    assert bought.labels["buy"].tolist() == [0.0, 1.0] * 4
    assert bought.raw(0).time == 1
    assert len(train.labelled("click")) == 12


def test_groups_are_users_unless_the_log_knows_requests():
    log = [Event("u1" if time % 2 else "u2", "i1", time // 2, True, None, None, None) for time in range(20)]
    train = build(log).train
    assert train.groups.tolist() == train.users.tolist()
    tables = log_tables(log)
    requests = [f"r{place // 4}" for place in range(20)]
    tables = type(tables)(tables.interactions.with_columns(**{REQUEST: np.array(requests)}), tables.users, tables.items)
    data = build_training_data(log_views(), tables)
    assert [requests[row] for row in data.train.rows] == [f"r{group}" for group in data.train.groups]
    assert data.train.users.tolist() == train.users.tolist()
    assert data.train.groups.dtype == data.train.users.dtype == np.int64


def test_a_split_that_leaves_a_part_empty_is_refused():
    log = [Event("u1", "i1", 5, True, None, None, None)] * 20
    with pytest.raises(SplitEmptyError, match="leaves no rows for train and valid"):
        build_training_data(log_views(), log_tables(log))
