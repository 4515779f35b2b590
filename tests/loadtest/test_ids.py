from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from loadtest.errors import IdsUnreadableError
from loadtest.ids import read_ids
from loadtest.options import IdColumn


def ids_of(path: Path, content: str) -> list[int] | list[str]:
    path.write_text(content)
    return read_ids(IdColumn(path, "id"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("1\n2\n-3\n0", [1, 2, -3, 0]),
        ("007\n8", ["007", "8"]),
        ("1\n1.5", ["1", "1.5"]),
        ("+7", ["+7"]),
        ("99999999999999999999", ["99999999999999999999"]),
        ("9223372036854775807\n9223372036854775808", ["9223372036854775807", "9223372036854775808"]),
        ('"a,b"\né\né', ["a,b", "é"]),
    ],
)
def test_a_csv_column_is_integers_only_if_each_value_is_written_as_one(tmp_path, rows, expected):
    lines = ["other,id", *(f"x,{row}" for row in rows.splitlines())]
    assert ids_of(tmp_path / "t.csv", "\n".join(lines)) == expected


def test_parquet_ids_keep_their_type_and_order_and_lose_their_duplicates(tmp_path):
    path = tmp_path / "t.parquet"
    pl.DataFrame({"number": [5, 3, 5], "text": ["007", "b", "007"]}).write_parquet(path)
    assert read_ids(IdColumn(path, "number")) == [5, 3]
    assert read_ids(IdColumn(path, "text")) == ["007", "b"]


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "t.csv").write_text("user,age\n1,2\n")
    with pytest.raises(IdsUnreadableError, match=r"t\.csv has no column 'id'; it has: user, age"):
        read_ids(IdColumn(tmp_path / "t.csv", "id"))


def test_a_row_without_an_id_is_named(tmp_path):
    with pytest.raises(IdsUnreadableError, match="'id' has no id in 2 rows, first in row 2"):
        ids_of(tmp_path / "t.csv", "id,x\n1,a\n,b\n3,c\n,d\n")


@pytest.mark.parametrize(("content", "said"), [("id\n", "no rows"), ("", "is empty")])
def test_a_table_without_rows_is_refused(tmp_path, content, said):
    with pytest.raises(IdsUnreadableError, match=said):
        ids_of(tmp_path / "t.csv", content)


def test_ids_that_are_neither_text_nor_integers_are_refused(tmp_path):
    pl.DataFrame({"id": [1.5]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(IdsUnreadableError, match="is Float64, ids are text or integers"):
        read_ids(IdColumn(tmp_path / "t.parquet", "id"))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    (tmp_path / "t.json").write_text("[]")
    for name, said in (("t.parquet", "cannot be read"), ("t.json", "only .csv and .parquet"), ("no.csv", "there is no table")):
        with pytest.raises(IdsUnreadableError, match=said):
            read_ids(IdColumn(tmp_path / name, "id"))
