"""Served histories against the store's own rule, played event by event."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from feature_store.events.served import BaseHistory, served_histories
from tests.feature_store.events.logged import logged

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
    bases = {"01": BaseHistory([item for item, _ in base[-length:]], [time for _, time in base[-length:]])}
    assert served_histories(events, held, bases, length) == held


def test_versions_up_to_the_bases_count_mean_the_base_and_unknown_users_have_nothing():
    base = {"01": BaseHistory(["a", "b"], [1.0, 2.0])}
    events = [logged(1, item="c", time=1.5, version=3, entered=True), logged(2, item="d", time=9.0, version=3)]
    asked = [("01", 0), ("01", 2), ("01", 3), ("01", 99), ("02", 5)]
    assert served_histories(events, asked, base, 5) == {
        ("01", 0): ["a", "b"],
        ("01", 2): ["a", "b"],
        ("01", 3): ["a", "c", "b"],
        ("01", 99): ["a", "c", "b"],
        ("02", 5): [],
    }
