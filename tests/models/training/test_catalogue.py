"""The catalogue that a run keeps: every known item's row under its id, and nobody's features under the shared ids."""

import numpy as np

from models.training.catalogue import catalogue_of
from models.training.run import start_run
from models.training.run_directory import read_run
from tests.models.tiny_shop import tiny_recipe


def test_each_known_item_has_the_row_that_the_encoder_gives_it(tiny_shop, tmp_path):
    started = start_run(tiny_shop, tiny_recipe("deepfm"), tmp_path)
    encoder, store = started.data.encoder, started.data.test.store
    catalogue = catalogue_of(encoder, store.blocks["item"])
    names = [field.name for field in store.views.item.fields]
    id_of = encoder.item_key_column.ids.id_of
    records = store.items.frame.select(names).to_dicts()
    known = [record for record in records if id_of(record["item_id"]) > 1]
    assert len(known) > 10
    for record in known:
        expected = encoder.views["item"].encode_records([record])
        row = id_of(record["item_id"])
        np.testing.assert_array_equal(catalogue["item_categories"][row], expected.categories[0])
        np.testing.assert_array_equal(catalogue["item_numbers"][row], expected.numbers[0])


def test_the_shared_ids_have_no_items_features(tiny_shop, tmp_path):
    started = start_run(tiny_shop, tiny_recipe("deepfm"), tmp_path)
    encoder, items = started.data.encoder, started.data.test.store.blocks["item"]
    slot = encoder.item_key_slot
    unknown = items.categories.copy()
    unknown[0, slot] = 1
    catalogue = catalogue_of(encoder, type(items)(unknown, items.numbers))
    bare = encoder.views["item"].encode({}, 1)
    for shared in (0, 1):
        expected = bare.categories[0].copy()
        expected[slot] = shared
        np.testing.assert_array_equal(catalogue["item_categories"][shared], expected)
        np.testing.assert_array_equal(catalogue["item_numbers"][shared], bare.numbers[0])


def test_a_finished_run_keeps_it(trained):
    run = read_run(trained("deepfm").directory.root)
    assert set(run.catalogue) == {"item_categories", "item_numbers"}
    assert len(run.catalogue["item_categories"]) == run.inputs.item_cardinality
