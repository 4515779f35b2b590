"""Every fault of a team's files is named: file, row, column and reason; and nothing makes the reader fall over."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.exceptions import PanicException

from feature_store.table_problems import MAX_EXAMPLES, TableProblem, TablesInvalidError
from feature_store.tables import read_tables
from tests.feature_store.shop_tables import INTERACTIONS, shop_views, write_shop, write_shop_as_parquet
from tests.feature_store.table_problems_of import problems_of, problems_or_none, read_column


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


def test_a_panic_inside_polars_is_a_problem_of_the_file(tmp_path, monkeypatch):
    def panic(*_, **__):
        raise PanicException("range end index 9 out of range\nnote: more")

    write_shop_as_parquet(tmp_path)
    monkeypatch.setattr(pl, "read_parquet", panic)
    problems = problems_or_none(tmp_path, shop_views("parquet"))
    assert {problem.reason for problem in problems} == {"cannot be read as .parquet: range end index 9 out of range"}


@given(place=st.integers(0, 10_000))
@settings(max_examples=80)
def test_a_parquet_file_that_ends_early_is_a_problem_of_that_file(tmp_path_factory, place):
    folder = tmp_path_factory.mktemp("damage")
    write_shop_as_parquet(folder)
    content = (folder / "items.parquet").read_bytes()
    (folder / "items.parquet").write_bytes(content[: place % len(content)])
    problems = problems_or_none(folder, shop_views("parquet"))
    assert {problem.file for problem in problems} == {str(folder / "items.parquet")}
