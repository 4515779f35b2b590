"""The data fingerprint: equal for equal content, whatever file it came in, and for nothing else."""

import dataclasses

import polars as pl
import pytest

from feature_store.tables import TIME, read_tables
from models.training.fingerprint import data_fingerprint
from tests.feature_store.shop_tables import INTERACTIONS, read_shop, shop_views, write_shop_as_parquet


def test_csv_and_parquet_of_one_content_have_one_fingerprint(tmp_path):
    write_shop_as_parquet(tmp_path)
    of_csv = data_fingerprint(shop_views(), read_shop(tmp_path))
    of_parquet = data_fingerprint(shop_views("parquet"), read_tables(shop_views("parquet"), tmp_path))
    assert of_csv == of_parquet


def test_the_fingerprint_never_changes(tmp_path):
    known = "d6d04ec4d873fb1efe609d8e1a5389c9ab1ce5f46233522298767683c5256149"
    assert data_fingerprint(shop_views(), read_shop(tmp_path)) == known


@pytest.mark.parametrize(
    "texts",
    [
        {"interactions": INTERACTIONS.replace("01,a,1,", "01,a,0,")},
        {"interactions": INTERACTIONS.replace("02,a,2,,4", "02,a,2,0,4")},
        {"users": "user_id,age,town\n01,30,Bonn\n02,,Köln\n03,41.5,x\n"},
        {"users": "user_id,age,town\n01,30,BonnK\n02,,öln\n03,41.5,\n"},
        {"items": "item_id,tags,price\na,xy,1.5\nb,,2\nc,|z||x|,\n"},
        {"items": "item_id,tags,price\nb,,2\na,x|y,1.5\nc,|z||x|,\n"},
    ],
)
def test_any_other_content_has_another_fingerprint(tmp_path, texts):
    whole = data_fingerprint(shop_views(), read_shop(tmp_path))
    assert data_fingerprint(shop_views(), read_shop(tmp_path, **texts)) != whole


def test_other_views_and_other_types_have_another_fingerprint(tmp_path):
    tables = read_shop(tmp_path)
    floats = dataclasses.replace(tables, interactions=tables.interactions.with_columns(pl.col(TIME).cast(pl.Float64)))
    prints = {
        data_fingerprint(shop_views(), tables),
        data_fingerprint(shop_views(), floats),
        data_fingerprint(shop_views(history={"length": 6}), tables),
    }
    assert len(prints) == 3
