"""Slots are found by text and by number alike."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_store.integer_ids import IntegerIds
from feature_store.item_slots import ItemSlots

SMALL = [*range(13), 2**22 - 1]
LARGE = [-1, 2**22, 2**22 + 5, 9_999_999, 2**63 - 1, -(2**63)]
NUMBERS = st.sampled_from([*SMALL, *LARGE])
ODD_TEXTS = st.sampled_from(["", "a", "07", "-1", "\u0663", "+3", " 3", "3 ", "1_0", "3.0", "9" * 50, "--5", "-0", "-", "3-"])
TEXTS = NUMBERS.map(str) | ODD_TEXTS | st.text("-0123456789", max_size=22)
STEPS = st.lists(st.tuples(TEXTS, st.booleans(), st.booleans()), max_size=30)


def assert_found(slots, numbers):
    found = slots.find(IntegerIds(np.array(numbers, np.int64)))
    assert found.dtype == np.int64
    assert found.tolist() == slots.find([str(each) for each in numbers]).tolist()


@given(STEPS, st.lists(NUMBERS, max_size=5))
def test_a_number_finds_the_slot_of_its_text(steps, wanted):
    slots = ItemSlots(4, 2)  # little room, so that items push each other out
    assert_found(slots, SMALL[:1])  # from now on every text is looked at as a number
    for item_id, known, dropped in steps:
        slots.place(item_id, known=known)
        if dropped:
            slots.drop(item_id)
        assert_found(slots, SMALL)
    assert_found(slots, [*SMALL, *wanted])


def test_numbers_asked_for_the_first_time_find_what_was_placed_before():
    slots = ItemSlots(4, 2)
    for item_id in ("3", "03", str(2**22)):
        slots.place(item_id, known=True)
    assert_found(slots, SMALL)
    assert_found(slots, [*SMALL, *LARGE])
