"""Key shapes: unambiguous, and one Redis Cluster slot a user."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from feature_store.errors import StoreSettingError
from feature_store.keys import KeySpace

KEYS = KeySpace("shop")
IDS = st.text(max_size=20) | st.text(alphabet="{}%25:7BD", max_size=12)


def test_keys_have_the_published_shape():
    assert KEYS.user("42") == b"shop:user:{42}"
    assert KEYS.history("42") == b"shop:history:{42}"
    assert KEYS.item("sku-7") == b"shop:item:{sku-7}"
    assert KEYS.meta == b"shop:meta"


def test_braces_and_percent_signs_in_ids_are_encoded():
    assert KEYS.user("a{b}%7B") == b"shop:user:{a%7Bb%7D%257B}"


@given(first=IDS, second=IDS)
def test_two_ids_never_share_a_key(first, second):
    keys = {KEYS.user(first), KEYS.user(second), KEYS.item(first), KEYS.item(second), KEYS.history(first), KEYS.history(second)}
    assert len(keys) == (3 if first == second else 6)


@given(user_id=IDS.filter(bool))
def test_a_users_features_and_history_share_a_slot_that_the_whole_id_decides(user_id):
    tag = KEYS.user(user_id).removeprefix(b"shop:user:{").removesuffix(b"}")
    assert key_slot(KEYS.user(user_id)) == key_slot(KEYS.history(user_id)) == key_slot(tag)


def test_an_id_without_a_utf8_form_still_has_a_key():
    assert KEYS.user("\ud800") != KEYS.user("?")


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", " a", "a\n", "x" * 65, "{a}", "ü"])
def test_a_prefix_that_could_be_mistaken_is_refused(prefix):
    with pytest.raises(StoreSettingError, match="key prefix"):
        KeySpace(prefix)
