"""The table reader: what canonical tables hold, from CSV and from Parquet."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_store.encoding.values import category_text
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, REQUEST, TIME, USER_KEY, label_column, read_tables
from tests.feature_store.shop_tables import INTERACTIONS, read_shop, shop_views, write_shop, write_shop_as_parquet
from tests.feature_store.table_problems_of import problems_of, read_column


def test_canonical_columns_hold_what_the_views_ask_for(tmp_path):
    tables = read_shop(tmp_path)
    assert tables.users.to_dict(as_series=False) == {
        USER_KEY: ["01", "02", "03"],
        "age": [30.0, None, 41.5],
        "town": ["Bonn", "Köln", None],
    }
    assert tables.items["tags"].to_list() == [["x", "y"], None, ["z", "x"]]
    assert tables.interactions.to_dict(as_series=False) == {
        USER_KEY: ["01", "01", "02", "03"],
        ITEM_KEY: ["a", "b", "a", "c"],
        TIME: [1, 2, 2, 5],
        HISTORY_EVENT: [True, False, False, True],
        "hour": ["7", "8", None, "7"],
        label_column("ctr"): [1.0, 0.0, None, 1.0],
        label_column("like"): [1.0, 0.0, 1.0, None],
    }


def test_csv_and_parquet_give_the_same_tables(tmp_path):
    write_shop_as_parquet(tmp_path)
    of_csv, of_parquet = read_shop(tmp_path), read_tables(shop_views("parquet"), tmp_path)
    for name in ("users", "items", "interactions"):
        assert_frame_equal(getattr(of_csv, name), getattr(of_parquet, name))


def test_two_fields_may_read_one_column_and_a_field_may_be_called_like_a_key(tmp_path):
    fields = [
        {"name": "user_id", "kind": "category", "column": "town"},
        {"name": "group", "kind": "category", "column": "town"},
    ]
    users = read_shop(tmp_path, shop_views(user={"key": "user_id", "fields": fields})).users
    assert users.columns == [USER_KEY, "user_id", "group"]
    assert users[USER_KEY].to_list() == ["01", "02", "03"]
    assert users["user_id"].to_list() == users["group"].to_list() == ["Bonn", "Köln", None]


def test_without_a_rule_every_interaction_is_history(tmp_path):
    assert read_shop(tmp_path, shop_views(history={})).interactions[HISTORY_EVENT].all()


def test_a_request_column_is_read_as_a_key(tmp_path):
    views = shop_views(interactions={"time": "at", "request": "stars"})
    assert problems_of(tmp_path, views) == [("interactions.csv", 4, "stars", "an empty cell is no key")]
    whole = INTERACTIONS.replace("03,c,5,1,,7", "03,c,5,1,3,7")
    assert read_shop(tmp_path, views, interactions=whole).interactions[REQUEST].to_list() == ["5", "3", "4", "3"]


def test_rows_of_users_and_items_without_a_table_row_are_no_error(tmp_path):
    assert read_shop(tmp_path, users="user_id,age,town\n09,1,x\n").interactions.height == 4


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path):
    plain = read_shop(tmp_path).interactions
    windows = INTERACTIONS.replace("\n", "\r\n").encode("utf-8-sig")
    assert_frame_equal(read_shop(tmp_path, interactions=windows).interactions, plain)


def test_a_quoted_cell_may_hold_separators_quotes_and_line_breaks(tmp_path):
    users = read_shop(tmp_path, users='user_id,age,town\n01,1,"a,""b""\nc"\n02,2,d\n').users
    assert users["town"].to_list() == ['a,"b"\nc', "d"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1, None, -3], ["1", None, "-3"]),
        ([True, False, None], ["true", "false", None]),
        (["007", "", "x"], ["007", None, "x"]),
        (pl.Series(["a", "b", None], dtype=pl.Categorical), ["a", "b", None]),
        (pl.Series([1, 2, 18_446_744_073_709_551_615], dtype=pl.UInt64), ["1", "2", "18446744073709551615"]),
        (pl.Series([None, None, None], dtype=pl.Null), [None, None, None]),
    ],
)
def test_categories_are_the_text_that_the_encoder_makes_of_the_value(tmp_path, values, texts):
    assert read_column(tmp_path, "group", values, kind="category") == texts
    assert [None if value in (None, "") else category_text(value) for value in values] == texts


@pytest.mark.parametrize(
    ("values", "lists"),
    [
        ([[1, 2], [], None], [["1", "2"], None, None]),
        ([["a", None, ""], ["b"], [""]], [["a"], ["b"], None]),
        ([[True], [False, True], []], [["true"], ["false", "true"], None]),
        (["a b", "b", ""], [["a", "b"], ["b"], None]),
    ],
)
def test_categories_come_as_lists_or_as_text_to_split(tmp_path, values, lists):
    assert read_column(tmp_path, "groups", values, kind="categories", separator=" ") == lists


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([1, 2, None], [1.0, 2.0, None]),
        ([True, False, None], [1.0, 0.0, None]),
        (["1e3", "-.5", ""], [1000.0, -0.5, None]),
        (pl.Series(["1.25", "2", None]).cast(pl.Decimal(10, 2)), [1.25, 2.0, None]),
    ],
)
def test_numbers_come_in_any_numeric_type_or_as_text(tmp_path, values, numbers):
    assert read_column(tmp_path, "size", values, kind="number") == numbers


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (["3", "-4", "007", "9007199254740992"], [3, -4, 7, 1 << 53]),
        (["1", "1.5", "2e3", "-0.25"], [1.0, 1.5, 2000.0, -0.25]),
        (
            ["1970-01-02", "1970-01-01 00:01", "1970-01-01T00:00:01.000001Z", "1970-01-01 02:00:00+02:00"],
            [86_400.0, 60.0, 1.000001, 0.0],
        ),
    ],
)
def test_times_are_integers_floats_or_seconds_of_date_times(tmp_path, times, seconds):
    rows = [f"01,a,{time},{place % 2},{place + 2},1" for place, time in enumerate(times)]
    read = read_shop(tmp_path, interactions="\n".join([INTERACTIONS.splitlines()[0], *rows]) + "\n").interactions[TIME]
    assert read.to_list() == seconds
    assert read.dtype == (pl.Int64 if isinstance(seconds[0], int) else pl.Float64)


@pytest.mark.parametrize(
    ("condition", "flags"),
    [
        ({"column": "hour", "equals": 7}, [1.0, 0.0, None, 1.0]),
        ({"column": "hour", "equals": "7"}, [1.0, 0.0, None, 1.0]),
        ({"column": "clicked", "equals": False}, [0.0, 1.0, None, 0.0]),
        ({"column": "clicked", "equals": True}, [1.0, 0.0, None, 1.0]),
        ({"column": "stars", "at_least": 4.5}, [1.0, 0.0, 0.0, None]),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_label_may_be_any_condition_in_either_format(tmp_path, condition, flags, ending):
    write_shop(tmp_path)
    write_shop_as_parquet(tmp_path)
    views = shop_views(ending, labels=[{"name": "it", **condition}], context=[])
    assert read_tables(views, tmp_path).interactions[label_column("it")].to_list() == flags


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("ns"), pl.Datetime("ms", "Europe/Berlin")])
def test_date_times_of_parquet_become_seconds(tmp_path, dtype):
    write_shop_as_parquet(tmp_path)
    path = tmp_path / "interactions.parquet"
    days = pl.Series("at", [0, 1, 2, 3]).cast(pl.Date).cast(dtype)
    pl.read_parquet(path).with_columns(days).write_parquet(path)
    assert read_tables(shop_views("parquet"), tmp_path).interactions[TIME].to_list() == [0.0, 86_400.0, 172_800.0, 259_200.0]
