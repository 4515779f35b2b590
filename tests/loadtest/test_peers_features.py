"""A peer does the same work as the service: same ids, same rows, of records as our store holds them."""

import json

import msgspec
import numpy as np
import polars as pl
import pytest

from feature_store.encoding.categories import CategoryColumn, VocabularyIds
from feature_store.encoding.encoder import FeatureEncoder, ViewEncoder
from feature_store.keys import KeySpace
from feature_store.records import encode_features, encode_history, feature_record, history_record
from loadtest.peers.features import Asked, Ranking, read_asked, write_answer
from loadtest.peers.item_table import item_table

onnx = pytest.importorskip("onnx", reason="the graph is built with onnx")

LENGTH = 4
ITEMS = [10, 11, 12, 13, 14, 15]
WIDTHS = {"user_categories": 2, "context_categories": 1, "history": LENGTH, "item_categories": 2}
SCALES = {"user_categories": 1, "context_categories": 10, "history": 100, "item_categories": 1000}
WEIGHTS = {name: np.arange(1, width + 1, dtype=np.float32) * SCALES[name] for name, width in WIDTHS.items()}


def column(name, *terms):
    return CategoryColumn(name, VocabularyIds(terms), slots=1, multiple=False)


ENCODER = FeatureEncoder(
    {
        "user": ViewEncoder((column("age", "young", "old"), column("city", "here", "there")), ()),
        "context": ViewEncoder((column("hour", "1", "2"),), ()),
        "item": ViewEncoder((column("item_id", *map(str, ITEMS[:-1])), column("kind", "a", "b")), ()),
        "candidate": ViewEncoder((), ()),
    },
    item_key="item_id",
    history_length=LENGTH,
)
USERS = {1: {"age": "old", "city": "here"}, 2: {"age": "ancient", "city": None}}
HISTORIES = {1: ["10", "11", "99", "12", "13", "14"], 2: ["12"]}


def graph(with_history):
    """score[row] = the weighted sum of the row's ids and of those of its user."""
    helper, kinds = onnx.helper, onnx.TensorProto
    names = [name for name in WIDTHS if with_history or name != "history"]
    inputs = [helper.make_tensor_value_info(name, kinds.INT32, [None, WIDTHS[name]]) for name in names]
    inputs.append(helper.make_tensor_value_info("row_user", kinds.INT32, [None]))
    nodes, constants, users = [], [], []
    for name in names:
        constants.append(onnx.numpy_helper.from_array(WEIGHTS[name], f"w_{name}"))
        nodes.append(helper.make_node("Cast", [name], [f"f_{name}"], to=kinds.FLOAT))
        nodes.append(helper.make_node("MatMul", [f"f_{name}", f"w_{name}"], [f"s_{name}"]))
        if name != "item_categories":
            users.append(f"s_{name}")
    nodes.append(helper.make_node("Sum", users, ["of_users"]))
    nodes.append(helper.make_node("Gather", ["of_users", "row_user"], ["of_rows"]))
    nodes.append(helper.make_node("Add", ["of_rows", "s_item_categories"], ["score"]))
    outputs = [helper.make_tensor_value_info("score", kinds.FLOAT, [None])]
    made = helper.make_graph(nodes, "peer", inputs, outputs, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(params=[True, False], ids=["history", "no history"])
def world(tmp_path, request):
    version = tmp_path / "models/some/1"
    version.mkdir(parents=True)
    (version / "encoder.json").write_text(ENCODER.dumps())
    onnx.save(graph(request.param), version / "model.onnx")
    frame = pl.DataFrame({"item_id": ITEMS, "kind": ["a", "b", None, "c", "a", "b"], "of no use": 1})
    frame.write_parquet(tmp_path / "items.parquet")
    return tmp_path, version, request.param


def stored(users):
    values = []
    for user in users:
        known = user in USERS
        values.append(encode_features(feature_record(str(user), 5.0, USERS[user])) if known else None)
        items = HISTORIES.get(user)
        values.append(encode_history(history_record(str(user), items, range(len(items)))) if items else None)
    return values


def expected(asked, frame, with_history):
    """Our own encoder, one row at a time."""
    user = ENCODER.views["user"].encode_one(USERS.get(asked.user_id) or {}).categories[0]
    context = ENCODER.views["context"].encode_one(asked.context).categories[0]
    base = user @ WEIGHTS["user_categories"] + context @ WEIGHTS["context_categories"]
    if with_history:
        base += ENCODER.encode_history([HISTORIES.get(asked.user_id, [])])[0] @ WEIGHTS["history"]
    scores = []
    for item in asked.candidates:
        record = {"item_id": str(item), "kind": frame.get(item)}
        if item not in frame:
            record = {"item_id": "not an item"}
        scores.append(float(base + ENCODER.views["item"].encode_one(record).categories[0] @ WEIGHTS["item_categories"]))
    return dict(zip(asked.candidates, scores, strict=True))


def test_a_batch_is_answered_as_our_encoder_has_it(world):
    root, version, with_history = world
    table = item_table(root, version, root / "tables")
    ranking = Ranking(version, table)
    batch = [
        Asked(1, [10, 11, 15, 99]),
        Asked(2, [14], context={"hour": "2"}),
        Asked(3, [13, 12, 11], context={"hour": "midnight"}),
        Asked(1, [12], context={"hour": "1"}),
    ]
    answers = ranking.rank(batch, stored([asked.user_id for asked in batch]))
    frame = dict(zip(ITEMS, ["a", "b", None, "c", "a", "b"], strict=True))
    for asked, answer in zip(batch, answers, strict=True):
        assert answer["user_id"] == asked.user_id
        items = {item["id"]: item["score"] for item in answer["items"]}
        assert items == expected(asked, frame, with_history)
        assert list(items.values()) == sorted(items.values(), reverse=True)


def test_only_the_best_are_told_and_ties_stay_in_order(world):
    root, version, _ = world
    ranking = Ranking(version, item_table(root, version, root / "tables"))
    (answer,) = ranking.rank([Asked(1, [98, 10, 99, 14], top_k=3)], stored([1]))
    assert [item["id"] for item in answer["items"]] == [14, 10, 98]
    assert b'"degraded":null' in write_answer(answer)
    assert json.loads(write_answer(answer)) == answer


def test_keys_are_our_stores_keys(world):
    root, version, _ = world
    ranking, ours = Ranking(version, item_table(root, version, root / "tables")), KeySpace("rankline")
    keys = [key.encode() for key in ranking.keys([Asked(7, []), Asked(8, [])])]
    assert keys == [ours.user("7"), ours.history("7"), ours.user("8"), ours.history("8")]


def test_the_table_is_made_once_for_what_it_was_made_of(world):
    root, version, _ = world
    first = item_table(root, version, root / "tables")
    stamp = first.stat().st_mtime_ns
    assert item_table(root, version, root / "tables") == first
    assert first.stat().st_mtime_ns == stamp
    pl.DataFrame({"item_id": ITEMS, "kind": "a"}).write_parquet(root / "items.parquet")
    assert item_table(root, version, root / "tables") != first


def test_a_body_as_our_service_takes_it():
    asked = read_asked(b'{"user_id":5,"candidates":[3,4],"timeout_ms":100,"context":{"hour":"1"},"top_k":2}')
    assert (asked.user_id, asked.candidates, asked.top_k, asked.context) == (5, [3, 4], 2, {"hour": "1"})
    with pytest.raises(msgspec.ValidationError):
        read_asked(b'{"user_id":5}')
