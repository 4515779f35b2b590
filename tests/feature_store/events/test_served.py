"""Served histories against the store's own rule, played event by event."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from feature_store.events.served import Unserved, served_histories
from tests.feature_store.events.logged import base_of, logged

pairs = st.tuples(st.sampled_from("abcd"), st.integers(0, 6).map(float))


class Store:
    """One user's history as the store keeps it: late events find their place, old and known ones do not enter."""

    def __init__(self, base, length):
        self.kept, self.length, self.version = base[-length:], length, len(base)

    def apply(self, item, time):
        if (item, time) in self.kept or (len(self.kept) == self.length and all(time < known for _, known in self.kept)):
            return False
        place = sum(known <= time for _, known in self.kept)
        self.kept.insert(place, (item, time))
        self.kept = self.kept[-self.length :]
        self.version += 1
        return True

    @property
    def items(self):
        return [item for item, _ in self.kept]


@given(
    st.lists(pairs, max_size=6, unique=True).map(lambda base: sorted(base, key=lambda pair: pair[1])),
    st.lists(st.tuples(st.sampled_from(["01", "02"]), pairs), max_size=25),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_a_history_at_a_version_is_what_the_store_held(base, live, length, random):
    stores = {"01": Store(list(base), length), "02": Store([], length)}
    held = {(user, store.version): store.items for user, store in stores.items()}
    events = []
    for number, (user, (item, time)) in enumerate(live, start=1):
        entered = stores[user].apply(item, time)
        events.append(logged(number, user=user, item=item, time=time, version=stores[user].version, entered=entered))
        held[user, stores[user].version] = stores[user].items
    # On a cluster the log may have them in another order than they were applied.
    random.shuffle(events)
    events = [replace(each, number=number) for number, each in enumerate(events)]
    items, times = [item for item, _ in base[-length:]], [time for _, time in base[-length:]]
    found = served_histories(events, held, {"01": base_of(items, times, len(base))}, length)
    named = {each.event.user_id: each.event.time for each in sorted(events, key=lambda each: each.version, reverse=True)}
    for (user, version), history in found.items():
        assert history == held[user, version] or (isinstance(history, Unserved) and (user not in named or user == "01"))
    if not base or all(each.event.time > times[-1] for each in events):
        assert found == {asked: history if asked[0] in named else Unserved.UNACCOUNTED for asked, history in held.items()}


def test_only_versions_that_base_and_logged_events_account_for_are_known():
    base = {"01": base_of(["a", "b"], [1.0, 2.0])}
    events = [
        logged(1, item="c", time=3.5, version=3, entered=True),
        logged(2, item="d", time=9.0, version=3),
        logged(3, item="e", time=4.5, version=5, entered=True),
    ]
    asked = [("01", version) for version in (0, 1, 2, 3, 4, 5, 99)]
    found = served_histories(events, [*asked, ("02", 5)], base, 5)
    assert [found[each] for each in asked[2:4]] == [["a", "b"], ["a", "b", "c"]]
    assert {found[each] for each in [*asked[:2], *asked[4:], ("02", 5)]} == {Unserved.UNACCOUNTED}
    assert set(served_histories(events, asked, base, 5, {"01"}).values()) == {Unserved.UNACCOUNTED}


def test_a_base_that_is_not_what_the_first_version_counts_is_none():
    events = [logged(1, item="c", time=3.0, version=3, entered=True)]

    def at_2(items, times, count):
        return served_histories(events, [("01", 2)], {"01": base_of(items, times, count)}, 2)["01", 2]

    assert at_2(["a", "b"], [1.0, 2.0], 2) == ["a", "b"]
    assert at_2(["a", "b"], [1.0, 2.0], 3) == at_2(["a", "b"], [1.0, 3.0], 2) == Unserved.TABLES_AHEAD
    assert at_2(["b"], [2.0], 1) == Unserved.UNACCOUNTED
    assert served_histories(events, [("01", 1)], {"01": base_of(["b"], [2.0])}, 2)["01", 1] == Unserved.UNACCOUNTED


def test_an_event_that_the_store_could_not_have_taken_contradicts_the_base():
    for item, time in (("z", 0.5), ("b", 2.0)):
        events = [logged(1, time=3.0, version=2), logged(2, item=item, time=time, version=3, entered=True)]
        base = {"01": base_of(["a", "b"], [1.0, 2.0])}
        assert served_histories(events, [("01", 2)], base, 2) == {("01", 2): Unserved.UNACCOUNTED}
