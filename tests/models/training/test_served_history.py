"""Rows whose table tells the history that was served: that one and no other, in batches and raw; elsewhere as without it."""

import dataclasses

import numpy as np
import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st

from feature_store.tables import SERVED
from models.training.fingerprint import data_fingerprint
from models.training.point_in_time import HistoryWindows, with_told
from models.training.rows import build_training_data, encode_rows
from models.training.split import SplitEmptyError
from tests.models.training.logs import ITEMS, Event, events, log_tables, log_views

lists = st.one_of(st.none(), st.lists(st.sampled_from([*ITEMS, "never-seen"]), max_size=6))


def tables_with(log, served):
    tables = log_tables(log)
    column = pl.Series(SERVED, served, dtype=pl.List(pl.String))
    return dataclasses.replace(tables, interactions=tables.interactions.with_columns(column))


def views_with(length):
    return log_views(length=length, interactions={"time": "time", "served_history": "shown"})


def build(views, tables):
    try:
        return build_training_data(views, tables)
    except SplitEmptyError:
        return assume(condition=False)


def parts(data):
    return (data.train, data.valid, data.test)


@given(events, st.data(), st.integers(1, 4))
def test_a_served_history_is_taken_as_it_is_and_the_others_as_without_it(log, data, length):
    served = data.draw(st.lists(lists, min_size=len(log), max_size=len(log)))
    told = build(views_with(length), tables_with(log, served))
    computed = build(log_views(length=length), log_tables(log))
    assert told.encoder.fingerprint == computed.encoder.fingerprint
    for rows, without in zip(parts(told), parts(computed), strict=True):
        batch, plain = rows.batch(np.arange(len(rows))), without.batch(np.arange(len(rows)))
        for place, number in enumerate(rows.rows.tolist()):
            raw, newest = rows.raw(place), served[number]
            if newest is None:
                assert raw == without.raw(place)
                assert batch["history"][place].tolist() == plain["history"][place].tolist()
                continue
            assert list(raw.history_items) == newest[-length:]
            assert list(raw.history_times) == [log[number].time] * len(newest[-length:])
            assert batch["history"][place].tolist() == told.encoder.encode_history([newest])[0].tolist()
        for name in plain.keys() - {"history"}:
            np.testing.assert_array_equal(batch[name].numpy(), plain[name].numpy())


@given(events, st.data())
def test_rows_by_another_encoder_are_what_that_encoder_makes_of_the_raw_values(log, data):
    served = data.draw(st.lists(lists, min_size=len(log), max_size=len(log)))
    encoder = build(log_views(length=2), log_tables(log[: len(log) // 2 + 6])).encoder
    rows = encode_rows(views_with(2), tables_with(log, served), encoder)
    batch = rows.batch(np.arange(len(rows)))
    for place in range(len(log)):
        raw = rows.raw(place)
        assert batch["history"][place].tolist() == encoder.encode_history([raw.history_items])[0].tolist()
        assert (
            batch["item_categories"][place].tolist() == encoder.views["item"].encode_records([raw.item]).categories[0].tolist()
        )
        assert (raw.user_id, raw.item_id) == (log[place].user, log[place].item)


def test_told_histories_stand_behind_the_events_in_the_order_of_their_rows():
    windows = HistoryWindows(np.array([4, 1, 0]), np.array([0, 0, 1, 2]), np.array([1, 2, 3, 3]))
    told = with_told(windows, np.array([1, 3]), np.array([0, 2]))
    assert [(int(a), int(b)) for a, b in zip(told.start, told.end, strict=True)] == [(0, 1), (3, 3), (1, 3), (3, 5)]
    assert windows.end.tolist() == [1, 2, 3, 3]


def test_what_was_served_is_part_of_the_fingerprint():
    log = [Event("u1", "i1", time, True, None, None, None) for time in range(12)]
    histories = ([None] * len(log), [[]] + [None] * (len(log) - 1), [["i1"]] + [None] * (len(log) - 1))
    prints = {data_fingerprint(views_with(3), tables_with(log, served)) for served in histories}
    assert len(prints) == 3
