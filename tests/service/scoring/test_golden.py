"""Golden rows: read from the archive, one request a user, refused by name when they are not what they should be."""

import io

import numpy as np
import pytest

from service.scoring.batch import Scores
from service.scoring.errors import ModelRefusedError
from service.scoring.golden import GoldenRows
from tests.service.scoring.graphs import golden_arrays, npz_bytes, publish


@pytest.fixture
def manifest(repository):
    return publish(repository).manifest


def loads(manifest, **changes):
    arrays = {name.replace("__", "."): array for name, array in changes.items()}
    return GoldenRows.loads(npz_bytes({**golden_arrays(), **arrays}), manifest)


def test_rows_become_one_request_a_user_with_their_own_expected_outputs(manifest):
    first, second = loads(manifest).requests
    assert first.request.rows == 1
    assert first.request.inputs["user_numbers"].tolist() == [[2.0]]
    assert first.expected["ctr"].tolist() == [2004.5]
    assert second.request.rows == 2
    assert second.request.inputs["item_categories"].tolist() == [[9], [51]]
    assert second.expected["ctr"].tolist() == [3004.75, 3025.5]


def test_users_without_rows_are_no_requests(manifest):
    only_second = np.array([1, 1, 1], np.int32)
    assert [each.request.rows for each in loads(manifest, input__row_user=only_second).requests] == [3]


def test_without_a_users_axis_all_rows_are_one_request(manifest):
    rows_only = tuple(each for each in manifest.inputs if each.axis == "rows" and each.name != "row_user")
    (golden,) = loads(manifest.model_copy(update={"inputs": rows_only})).requests
    assert golden.request.rows == 3
    assert golden.request.inputs["item_categories"].tolist() == [[9], [10], [51]]


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([2.0, 3.0], 0.0),
        ([2.0, 3.003], 0.001),
        ([2.0, float("nan")], float("nan")),
        ([float("nan"), 3.0], float("nan")),
        ([2.0, float("inf")], float("inf")),
        ([2.0], float("nan")),
    ],
)
def test_the_error_is_relative_above_one_and_not_a_number_when_incomparable(manifest, found, error):
    golden = loads(manifest).requests[1]
    golden.expected.clear()
    golden.expected.update(cvr=np.array([0.0]), ctr=np.array([2.0, 3.0], np.float32), attention=np.array([1.0]))
    scores = Scores({"cvr": np.array([0.0]), "ctr": np.array(found), "attention": np.array([1.0])})
    assert golden.error_of(scores) == pytest.approx(error, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input__row_user": np.array([0, 2, 1], np.int32)}, "users|user 2"),
        ({"input__row_user": np.array([0, -1, 1], np.int32)}, "none negative"),
        ({"input__row_user": np.array([0, 1, 1], np.int64)}, "must be int32"),
        ({"input__row_user": np.array([[0, 1, 1]], np.int32)}, "must be int32"),
        ({"input__row_user": np.array([], np.int32)}, "at least one row"),
        ({"input__row_user": np.array([0, 1, 1, 1], np.int32)}, "one entry for each of 4 rows"),
        ({"input__user_numbers": np.zeros((2, 1))}, "user_numbers: float32"),
        ({"input__user_numbers": np.zeros((2, 9), np.float32)}, "user_numbers: float32"),
        ({"input__user_numbers": np.float32(1)}, "golden rows of user 0"),
        ({"input__item_categories": np.zeros((2, 1), np.int32)}, "golden rows of user"),
        ({"output__ctr": np.zeros(2, np.float32)}, "output.ctr must be finite float32, one entry for each of 3 rows"),
        ({"output__ctr": np.float32(0)}, "output.ctr must be"),
        ({"output__ctr": np.zeros(3)}, "output.ctr must be"),
        ({"output__ctr": np.array([0, np.nan, 0], np.float32)}, "output.ctr must be finite"),
        ({"output__ctr": np.array([0, np.inf, 0], np.float32)}, "output.ctr must be finite"),
        ({"input__history": np.array([{}, {}])}, "not a numpy archive of plain arrays"),
    ],
)
def test_broken_rows_are_refused_by_name(manifest, changes, message):
    with pytest.raises(ModelRefusedError, match=message):
        loads(manifest, **changes)


@pytest.mark.parametrize("name", sorted(golden_arrays()))
def test_a_missing_array_is_named(manifest, name):
    arrays = golden_arrays()
    del arrays[name]
    with pytest.raises(ModelRefusedError, match=f"no array {name} in the archive"):
        GoldenRows.loads(npz_bytes(arrays), manifest)


def one_plain_array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", npz_bytes(golden_arrays())[:-30], npz_bytes(golden_arrays())[:50], one_plain_array(), b"PK\3\4"],
)
def test_what_is_no_archive_is_refused(manifest, content):
    with pytest.raises(ModelRefusedError, match="not a numpy archive"):
        GoldenRows.loads(content, manifest)


def test_no_flipped_byte_raises_anything_else(manifest):
    """The hash stops these before; should it ever not, they are still a refusal or harmless."""
    content = npz_bytes(golden_arrays())
    refused = 0
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        try:
            GoldenRows.loads(bytes(flipped), manifest)
        except ModelRefusedError:
            refused += 1
    assert refused > 100
