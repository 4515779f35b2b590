"""Users are named by a hash under the key; nothing else of an answer changes."""

import hashlib
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.exposure.log import ExposureLog
from service.exposure.record import Pseudonym, UnusableAnswerError
from tests.service.exposure.stand_ins import a_rule, answers_in

KEY = b"sixteen or more!"


def expected(user):
    return hashlib.blake2b(str(user).encode(), key=KEY, digest_size=16).hexdigest()


def test_the_log_names_users_by_their_pseudonyms(tmp_path):
    log = ExposureLog(a_rule(tmp_path, key=KEY))
    log.offer(b'{"user_id":5,"items":[{"id":1,"score":0.10000000149011612}],"z":1.0}')
    log.offer(b'{"request_id":"x","user_id":"5"}')
    log.close(10)
    first, second = answers_in(tmp_path)
    name = expected(5).encode()
    assert first == b'{"user_id":"' + name + b'","items":[{"id":1,"score":0.10000000149011612}],"z":1.0}'
    assert json.loads(second) == {"request_id": "x", "user_id": expected("5")}


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"user_id":null}', b'{"user_id":5', b"\xff", b'{"user_id":"\xff"}'])
def test_what_is_no_answer_with_a_user_is_not_written_at_all(tmp_path, answer):
    log = ExposureLog(a_rule(tmp_path, key=KEY))
    log.offer(answer)
    log.offer(b'{"user_id":1}')
    log.close(10)
    assert len(answers_in(tmp_path)) == 1
    assert log.counts.dropped["unusable"] == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.integers(-(2**63), 2**63 - 1) | st.text(), st.dictionaries(st.text(), values, max_size=5))
def test_everything_else_stays(user, rest):
    answer = msgspec.json.encode({**rest, "user_id": user})
    named = json.loads(Pseudonym(KEY)(answer))
    assert named == {**json.loads(answer), "user_id": expected(user)}


def test_another_key_another_name():
    assert Pseudonym(KEY).of(5) != Pseudonym(KEY + b"2").of(5)
    assert Pseudonym(KEY).of(5) == Pseudonym(KEY).of("5") != Pseudonym(KEY).of("05")


def test_a_key_given_twice_is_no_way_around():
    with pytest.raises(UnusableAnswerError):
        Pseudonym(KEY)(b'{"user_id":5,"user_id":[5]}')
