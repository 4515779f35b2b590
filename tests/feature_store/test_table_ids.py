"""Served histories in the interactions table: what is read, and every fault named."""

import re

import polars as pl
import pytest

from feature_store.table_checks import MAX_IDS
from feature_store.table_problems import TablesInvalidError
from feature_store.tables import SERVED, read_tables
from tests.feature_store.shop_tables import INTERACTIONS, read_shop, shop_views, write_shop_as_parquet


def views(ending="csv"):
    return shop_views(ending, interactions={"time": "at", "served_history": "shown"})


def csv_with(*cells):
    head, *rows = INTERACTIONS.splitlines()
    return "\n".join([f"{head},shown", *(f"{row},{cell}" for row, cell in zip(rows, cells, strict=True))]) + "\n"


def parquet_with(folder, values):
    write_shop_as_parquet(folder)
    path = folder / "interactions.parquet"
    pl.read_parquet(path).with_columns(pl.Series("shown", values)).write_parquet(path)
    return read_tables(views("parquet"), folder)


def test_text_is_split_and_a_lone_separator_is_the_empty_history(tmp_path):
    tables = read_shop(tmp_path, views(), interactions=csv_with("b|a|b", "", "|", "007"))
    assert tables.interactions[SERVED].to_list() == [["b", "a", "b"], None, [], ["007"]]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([["a|b"], [], None, ["c", "c"]], [["a|b"], [], None, ["c", "c"]]),
        ([[7, 8], None, [], [-1]], [["7", "8"], None, [], ["-1"]]),
        (pl.Series([["a"], [], None, None], dtype=pl.List(pl.Categorical)), [["a"], [], None, None]),
        (pl.Series([[1, 2]] * 4, dtype=pl.Array(pl.Int16, 2)), [["1", "2"]] * 4),
        (pl.Series([None] * 4, dtype=pl.Null), [None] * 4),
        ([[], [], [], []], [[], [], [], []]),
    ],
)
def test_lists_of_ids_are_read_and_an_empty_one_is_not_a_missing_one(tmp_path, values, read):
    series = parquet_with(tmp_path, values).interactions[SERVED]
    assert series.dtype == pl.List(pl.String)
    assert series.to_list() == read


@pytest.mark.parametrize(
    ("values", "row", "reason"),
    [
        ([["a"], ["a", None], None, []], 2, "holds an empty id"),
        ([[""], ["a"], None, []], 1, "holds an empty id"),
        ([["a"], [], None, ["b"] * (MAX_IDS + 1)], 4, "holds more than 10,000 ids"),
        ([["a"], ["x" * 257], None, []], 2, "holds an id longer than 256 UTF-8 bytes"),
        ([["a"], ["a\u200b"], None, []], 2, "holds an id with control or invisible characters"),
        ([[1.0], [2.0], None, []], None, "List(Float64) cannot be lists of ids"),
        ([1, 2, 3, 4], None, "Int64 cannot be lists of ids"),
        ([[["a"]], [], [], []], None, "cannot be lists of ids"),
    ],
)
def test_each_fault_is_named(tmp_path, values, row, reason):
    with pytest.raises(TablesInvalidError) as refused:
        parquet_with(tmp_path, values)
    (problem,) = refused.value.problems
    assert (problem.row, problem.column) == (row, "shown")
    assert reason in problem.reason


def test_an_empty_part_and_an_absent_column_are_faults_too(tmp_path):
    with pytest.raises(TablesInvalidError, match=re.escape("row 2, column shown: 'a||b' holds an empty id")):
        read_shop(tmp_path, views(), interactions=csv_with("a", "a||b", "", ""))
    with pytest.raises(TablesInvalidError, match="column shown: no such column"):
        read_shop(tmp_path, views())


def test_without_a_declared_column_there_is_none(tmp_path):
    assert SERVED not in read_shop(tmp_path).interactions.columns
