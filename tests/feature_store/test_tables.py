"""The table reader: what canonical tables hold, and how every fault of a team's files is named."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from feature_store.encoding.values import category_text
from feature_store.table_problems import MAX_EXAMPLES, TableProblem, TablesInvalidError
from feature_store.tables import HISTORY_EVENT, ITEM_KEY, REQUEST, TIME, USER_KEY, label_column, read_tables
from tests.feature_store.shop_tables import INTERACTIONS, read_shop, shop_views, write_shop, write_shop_as_parquet


def problems_of(folder, views=None, **texts):
    """Every problem as ``(file, row, column, reason)``."""
    with pytest.raises(TablesInvalidError) as refused:
        read_shop(folder, views, **texts)
    prefix = f"{folder}/"
    return [(each.file.removeprefix(prefix), each.row, each.column, each.reason) for each in refused.value.problems]


def problems_or_none(folder, views=None, **texts):
    """The problems of tables that may as well be sound."""
    try:
        read_tables(views, folder) if views else read_shop(folder, **texts)
    except TablesInvalidError as refused:
        return refused.problems
    return []


def read_column(folder, name, values, **declared):
    """A users table in Parquet with one more field, read back as the field's canonical values."""
    write_shop_as_parquet(folder)
    frame = pl.read_parquet(folder / "users.parquet").with_columns(pl.Series("extra", values))
    frame.write_parquet(folder / "users.parquet")
    field = {"name": name, "column": "extra", **declared}
    return read_tables(shop_views("parquet", user={"key": "user_id", "fields": [field]}), folder).users[name].to_list()


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


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({"users": "user_id,age\n01,3\n"}, ("users.csv", None, "town", "no such column; the file has 'user_id', 'age'")),
        ({"users": "user_id,age,town\n,3,x\n"}, ("users.csv", 1, "user_id", "an empty cell is no key")),
        ({"users": "user_id,age,town\n01,3,x\n01,4,y\n"}, ("users.csv", 2, "user_id", "'01' stands in row 1 already")),
        ({"users": "user_id,age,town\n01,3 ,x\n"}, ("users.csv", 1, "age", "'3 ' is not a number")),
        ({"users": "user_id,age,town\n01,1_000,x\n"}, ("users.csv", 1, "age", "'1_000' is not a number")),
        ({"users": "user_id,age,town\n01,NA,x\n"}, ("users.csv", 1, "age", "'NA' is not a number")),
        ({"users": "user_id,age,town\n01,1e999,x\n"}, ("users.csv", 1, "age", "'1e999' is not finite; leave the cell empty")),
        ({"users": "user_id,age,town\n"}, ("users.csv", None, None, "the table has no rows")),
        ({"users": ""}, ("users.csv", None, None, "the file is empty")),
        ({"users": "user_id,age,town\n01,3\n"}, ("users.csv", 1, None, "2 cells where the header has 3")),
        ({"users": "user_id,age,town\n01,3,x,y\n"}, ("users.csv", 1, None, "4 cells where the header has 3")),
        ({"users": "user_id,age,town\n01,3,x\n\n"}, ("users.csv", 2, None, "the line is empty")),
        ({"users": "user_id,age,age\n01,3,x\n"}, ("users.csv", None, "age", "the header names this column twice")),
        ({"users": "user_id,age,town\n01,3,Köln\n".encode("latin-1")}, ("users.csv", None, None, "line 2 is not UTF-8")),
        ({"users": 'user_id,age,town\n01,3,"x\n'}, ("users.csv", None, None, "line 2: unexpected end of data")),
        ({"users": "user_id,age,town\r01,3,x\r"}, ("users.csv", None, None, "its lines end in \\r alone")),
        ({"users": f"user_id,age,town\n{'x' * 257},3,x\n"}, ("users.csv", 1, "user_id", "is longer than 256 UTF-8 bytes")),
        ({"users": "user_id,age,town\na\x07,3,x\n"}, ("users.csv", 1, "user_id", "'a\\x07' holds control or invisible")),
        ({"items": "item_id,tags,price\n\u200b,x,1\n"}, ("items.csv", 1, "item_id", "'\\u200b' holds control or invisible")),
        ({"interactions": INTERACTIONS.replace("02,a,2", "02,a,")}, ("interactions.csv", 3, "at", "an empty cell is no time")),
        ({"interactions": INTERACTIONS.replace("02,a,2", "02,a,x")}, ("interactions.csv", 3, "at", "'x' is not a time like")),
        ({"interactions": INTERACTIONS.replace("a,2,", "a,nan,")}, ("interactions.csv", 3, "at", "'nan' is not a finite time")),
        (
            {"interactions": INTERACTIONS.replace("c,5", "c,9007199254740993")},
            ("interactions.csv", 4, "at", "'9007199254740993' is beyond 2**53"),
        ),
        (
            {"interactions": INTERACTIONS.replace(",0,3,", ",2,3,")},
            ("interactions.csv", 2, "clicked", "'2' is neither 0/1 nor"),
        ),
        (
            {"interactions": INTERACTIONS.replace(",0,3,", ",1,3,")},
            ("interactions.csv", None, "clicked", "a label must hold both 0 and 1; this one holds only 1 over 4 rows"),
        ),
        (
            {"interactions": "user_id,item_id,at,clicked,stars,hour\n01,a,1,1,,7\n01,b,2,0,,8\n"},
            ("interactions.csv", None, "stars", "a label must hold both 0 and 1; this one holds no value over 2 rows"),
        ),
    ],
)
def test_each_fault_is_named_with_file_row_column_and_reason(tmp_path, texts, problem):
    found = problems_of(tmp_path, **texts)
    assert len(found) == 1
    assert found[0][:3] == problem[:3]
    assert problem[3] in found[0][3]


def test_all_faults_of_all_files_are_named_at_once(tmp_path):
    users = "user_id,age,town\n01,x,a\n01,nan,b\n"
    interactions = INTERACTIONS.replace("02,a,2", ",a,soon").replace("01,b,2,0", "01,b,2,no")
    found = problems_of(tmp_path, users=users, items=b"\xff", interactions=interactions)
    assert [each[:3] for each in found] == [
        ("users.csv", 2, "user_id"),
        ("users.csv", 1, "age"),
        ("users.csv", 2, "age"),
        ("items.csv", None, None),
        ("interactions.csv", 3, "user_id"),
        ("interactions.csv", 3, "at"),
        ("interactions.csv", 2, "clicked"),
    ]


def test_a_fault_of_every_row_is_shown_for_some_and_counted_for_all(tmp_path):
    rows = "".join(f"{row},old,x\n" for row in range(1_500))
    found = problems_of(tmp_path, users=f"user_id,age,town\n{rows}")
    assert [each[1] for each in found] == [*range(1, MAX_EXAMPLES + 1), None]
    assert found[-1][3] == "1,480 more rows (1,500 in all): is not a number"


def test_a_column_read_twice_is_faulted_once(tmp_path):
    views = shop_views(history={"where": {"column": "stars", "at_least": 3}})
    found = problems_of(tmp_path, views, interactions=INTERACTIONS.replace("0,3,8", "0,three,8"))
    assert found == [("interactions.csv", 2, "stars", "'three' is not a number")]


@pytest.mark.parametrize(
    ("values", "declared", "reason"),
    [
        ([1.0, None, 2.0], {"kind": "category"}, "Float64 cannot be a key or a category: write integers or text"),
        ([[1], [2], []], {"kind": "category"}, "List(Int64) cannot be a key or a category"),
        (pl.Series([0, 1, 2]).cast(pl.Date), {"kind": "category"}, "Date cannot be a key or a category"),
        (["a", "b", "c"], {"kind": "categories"}, "text needs a separator in the views"),
        ([[1.5], [2.0], []], {"kind": "categories"}, "List(Float64) cannot be categories"),
        ([[[1]], [], []], {"kind": "categories"}, "cannot be categories"),
        (pl.Series([0, 1, 2]).cast(pl.Datetime), {"kind": "number"}, "cannot be a number: write integers or floats"),
        ([float("nan"), 1.0, 2.0], {"kind": "number"}, "nan is not finite; leave the cell empty (null)"),
        ([b"a", b"b", b"c"], {"kind": "number"}, "Binary cannot be a number"),
    ],
)
def test_a_type_that_cannot_serve_is_refused_with_advice(tmp_path, values, declared, reason):
    with pytest.raises(TablesInvalidError) as refused:
        read_column(tmp_path, "field", values, **declared)
    (problem,) = refused.value.problems
    assert problem.column == "extra"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        (pl.Series([1.7e9] * 4, dtype=pl.Float32), "is rounded by its type Float32"),
        (pl.Series([True] * 4), "Boolean cannot be a time"),
        (pl.Series([1.0, None, 2.0, 3.0]), "an empty cell is no time"),
        (pl.Series([1.0, float("inf"), 2.0, 3.0]), "inf is not a finite time"),
        (pl.Series([1 << 63] * 4, dtype=pl.UInt64), "is beyond 2**53"),
    ],
)
def test_a_time_that_would_be_lost_is_refused(tmp_path, times, reason):
    write_shop_as_parquet(tmp_path)
    path = tmp_path / "interactions.parquet"
    pl.read_parquet(path).with_columns(times.alias("at")).write_parquet(path)
    with pytest.raises(TablesInvalidError, match=reason.replace("*", r"\*")):
        read_tables(shop_views("parquet"), tmp_path)


@pytest.mark.parametrize("dtype", [pl.Date, pl.Datetime("ns"), pl.Datetime("ms", "Europe/Berlin")])
def test_date_times_of_parquet_become_seconds(tmp_path, dtype):
    write_shop_as_parquet(tmp_path)
    path = tmp_path / "interactions.parquet"
    days = pl.Series("at", [0, 1, 2, 3]).cast(pl.Date).cast(dtype)
    pl.read_parquet(path).with_columns(days).write_parquet(path)
    assert read_tables(shop_views("parquet"), tmp_path).interactions[TIME].to_list() == [0.0, 86_400.0, 172_800.0, 259_200.0]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.csv", "no such file"),
        ("folder.csv", "is not a file"),
        ("users.xlsx", "the name must end in .csv or .parquet"),
        ("", "the name must end in .csv or .parquet"),
        ("a\x00.csv", "no such file"),
        (f"{'x' * 300}.csv", "File name too long"),
        ("broken.parquet", "cannot be read as .parquet"),
    ],
)
def test_a_path_that_leads_nowhere_is_named(tmp_path, name, reason):
    write_shop(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1" + b"\x15" * 50 + b"PAR1")
    views = shop_views(tables={"users": name, "items": "items.csv", "interactions": "interactions.csv"})
    with pytest.raises(TablesInvalidError) as refused:
        read_tables(views, tmp_path)
    assert [reason in problem.reason for problem in refused.value.problems] == [True]


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='a,\n\r"\t1.é', max_size=60).map(str.encode)))
@settings(max_examples=60, deadline=None)
def test_no_bytes_make_the_csv_reader_fall_over(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for users in (content, b"user_id,age,town\n" + content):
        assert all(isinstance(problem, TableProblem) for problem in problems_or_none(folder, users=users))


@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_damage_makes_the_parquet_reader_fall_over(tmp_path_factory, place, byte, cut):
    folder = tmp_path_factory.mktemp("damage")
    write_shop_as_parquet(folder)
    content = bytearray((folder / "items.parquet").read_bytes())
    place %= len(content)
    content[place] = byte
    (folder / "items.parquet").write_bytes(content[:place] if cut else content)
    problems = problems_or_none(folder, shop_views("parquet"))
    assert {problem.file for problem in problems} <= {str(folder / "items.parquet")}
