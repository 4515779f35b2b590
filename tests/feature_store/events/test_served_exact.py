"""The export against a simulated store: a served history is the one that was served, or it is not given."""

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_store.events.base_histories import TableEvents
from feature_store.events.live_rows import live_rows
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, TIME, USER_KEY, EntityTables
from tests.feature_store.events.logged import DECLARED, logged

USER = "01"


class World:
    """One user: the team's table (only ever longer), the store's history, the log, and what was really served."""

    def __init__(self, length):
        self.length, self.table, self.kept, self.version, self.known = length, [], [], 0, False
        self.log, self.outside, self.unshown, self.served = [], [], [], {}

    def materialize(self):
        """As ``merge_history.lua`` does it."""
        batch = sorted(self.table, key=lambda event: event[1])[-self.length :]
        unmatched, live_only = list(batch), []
        for event in self.kept:
            if event in unmatched:
                unmatched.remove(event)
            else:
                live_only.append(event)
        merged = sorted(batch + live_only, key=lambda event: event[1])[-self.length :]
        grown = self.version + len(unmatched) if self.known or self.version else 0
        self.kept, self.version, self.known = merged, max(grown, len(self.table), len(merged)), True

    def click(self, item, time, *, tell_tables=True):
        """As ``apply_user.lua`` does it."""
        full_of_newer = len(self.kept) == self.length and all(time < known for _, known in self.kept)
        entered = (item, time) not in self.kept and not full_of_newer
        if entered:
            self.kept.insert(sum(known <= time for _, known in self.kept), (item, time))
            del self.kept[: -self.length]
            self.version += 1
            self.known = True
        self._log("click", item, time, entered)
        if tell_tables:
            self.outside.append((item, time))

    def rank(self):
        self.unshown.append((self.version, [item for item, _ in self.kept]))

    def show(self, time):
        """The impression of the oldest answer arrives."""
        if self.unshown:
            version, items = self.unshown.pop(0)
            self.served[self._log("impression", "shown", time, False, history_version=version)] = items

    def collect(self, count):
        """The team's table takes the next events that it has not."""
        self.table += self.outside[:count]
        del self.outside[:count]

    def exported(self):
        """Of each impression in the log: what the export gives."""
        rows = {USER_KEY: [USER] * len(self.table), ITEM_KEY: [item for item, _ in self.table]}
        interactions = pl.DataFrame(
            {**rows, TIME: [time for _, time in self.table], HISTORY_EVENT: [True] * len(self.table)},
            schema={USER_KEY: pl.String, ITEM_KEY: pl.String, TIME: pl.Float64, HISTORY_EVENT: pl.Boolean},
        )
        known = TableEvents(EntityTables(interactions, pl.DataFrame(), pl.DataFrame()), self.log)
        found = live_rows(self.log, DECLARED, known.beside_the_log(self.length), self.length)
        return {each.number: row.served for each, row in zip(self.log, found, strict=True) if row.example}

    def _log(self, kind, item, time, entered, **more):
        number = len(self.log) + 1
        self.log.append(logged(number, kind, item=item, time=time, version=self.version, entered=entered, **more))
        return number


pairs = st.tuples(st.sampled_from("abcd"), st.integers(0, 9).map(float))
steps = st.one_of(
    st.tuples(st.just("click"), pairs, st.booleans()),
    st.tuples(st.just("unlogged"), pairs),
    st.tuples(st.just("collect"), st.integers(1, 4)),
    st.tuples(st.sampled_from(["materialize", "rank"])),
    st.tuples(st.just("show"), st.integers(0, 12).map(float)),
)


def play(world, step):
    kind, *rest = step
    if kind == "click":
        world.click(*rest[0], tell_tables=rest[1])
    elif kind == "unlogged":
        world.outside.append(rest[0])
    elif kind in ("collect", "show"):
        getattr(world, kind)(*rest)
    else:
        getattr(world, kind)()


B4 = [("rank",), ("click", ("b", 3.0), True), ("click", ("c", 4.0), True), ("show", 2.0), ("collect", 2)]


@settings(max_examples=400)
@example([("a", 1.0)], B4, 3)
@example([("a", 1.0)], [("rank",), ("show", 2.0), ("unlogged", ("b", 3.0)), ("collect", 1), ("materialize",)], 3)
@example([("a", 1.0)], [*B4[:1], ("unlogged", ("d", 0.0)), ("collect", 1), ("materialize",), *B4], 2)
@given(st.lists(pairs, max_size=5), st.lists(steps, max_size=25), st.integers(1, 4))
def test_a_served_history_is_the_true_one_or_none(base, happened, length):
    world = World(length)
    world.table += base
    world.materialize()
    for step in happened:
        play(world, step)
    for time in (10.0, 11.0, 12.0):
        world.show(time)
    given_histories = world.exported()
    assert given_histories.keys() == world.served.keys()
    for number, served in given_histories.items():
        assert served is None or served == world.served[number]


@given(
    st.lists(st.sampled_from("abcd"), max_size=6),
    st.lists(st.sampled_from(["rank", "show", "click", "late", "day"]), max_size=30),
    st.sampled_from([0, 2, 100]),
    st.integers(8, 12),
)
def test_all_are_exact_where_the_tables_are_the_base_and_logged_events(base, happened, collected, length):
    world = World(length)
    world.table += [(item, float(time)) for time, item in enumerate(base)]
    world.materialize()
    now, late = 100.0, 50.0
    for step in happened:
        now, late = now + 1, late + 0.5
        if step == "click":
            world.click("abcd"[int(now) % 4], now)
        elif step == "late" and world.log and len(world.kept) < length:
            world.click("e", late)
        elif step == "day":
            world.collect(100)
            world.materialize()
        elif step in ("rank", "show"):
            getattr(world, step)(*([] if step == "rank" else [now]))
    world.collect(collected)
    assert world.exported() == world.served


@pytest.mark.parametrize("tell", [0, 1, 2])
def test_what_comes_after_a_row_is_never_in_its_history_whichever_days_tables_are_used(tell):
    world = World(5)
    world.table += [("a", 1.0)]
    world.materialize()
    for step in (*B4[:4], ("collect", tell)):
        play(world, step)
    assert list(world.exported().values()) == [["a"]]


def test_events_of_one_moment_that_a_materialization_has_put_in_another_order_are_not_guessed():
    world = World(3)
    world.click("x", 5.0)
    world.click("y", 5.0)
    world.outside.reverse()
    for step in (("collect", 2), ("materialize",), ("rank",), ("show", 6.0)):
        play(world, step)
    assert list(world.served.values()) == [["y", "x"]]
    assert list(world.exported().values()) == [None]


def test_an_event_that_may_have_been_in_the_base_before_it_entered_is_not_taken_for_a_new_one():
    world = World(2)
    world.table += [("x", 5.0), ("b", 5.0)]
    world.materialize()
    world.rank()
    world.click("y", 6.0)
    world.click("x", 5.0, tell_tables=False)  # it was in the first base, and had to leave the history for y
    world.show(10.0)
    world.table += [("z", 0.0)]  # so that the counts agree
    assert (world.version, list(world.served.values())) == (4, [["x", "b"]])
    assert list(world.exported().values()) == [None]
