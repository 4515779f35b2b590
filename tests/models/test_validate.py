"""The summary of sound data, checked by counting by hand."""

import pytest

from feature_store.table_problems import TablesInvalidError
from feature_store.views import ViewsError
from models.training.split import SplitEmptyError
from models.validate import summarize, summary_text, validate_data
from tests.models.training.logs import Event, log_tables, log_views

LOG = [Event("u1" if time % 2 else "u3", "i1", time, time < 8, None, "7", 1.0) for time in range(19)]
LOG.append(Event("u2", "i4", 30, True, 1.0, None, None))


def test_a_summary_counts_what_the_tables_hold():
    summary = summarize(log_views(length=2), log_tables(LOG))
    assert (summary.interactions, summary.first_time, summary.last_time) == (20, 0, 30)
    assert (summary.users.rows, summary.users.named, summary.users.absent) == (3, 2, ("u3",))
    assert (summary.items.rows, summary.items.named, summary.items.absent) == (4, 1, ("i4",))
    assert summary.parts == {"train": 12, "valid": 4, "test": 4}
    assert [(label.name, label.known, label.rate) for label in summary.labels] == [("click", 20, 0.45), ("buy", 1, 1.0)]
    assert (summary.history.events, summary.history.empty) == (9, 3 / 20)
    assert summary.history.lengths == (0, 2, 2, 2)


def test_fields_tell_distinct_values_missing_shares_and_ranges():
    fields = {field.name: field for field in summarize(log_views(), log_tables(LOG)).fields}
    assert (fields["town"].view, fields["town"].distinct, fields["town"].missing) == ("user", 2, 1 / 3)
    assert (fields["age"].smallest, fields["age"].largest, fields["age"].missing) == (20.0, 40.0, 1 / 3)
    assert (fields["tags"].distinct, fields["tags"].missing) == (3, 1 / 4)
    assert (fields["hour"].view, fields["hour"].missing) == ("context", 1 / 20)
    assert fields["place"].view == "candidate"


def test_the_text_says_what_is_right_and_what_is_odd():
    text = summary_text(summarize(log_views(), log_tables(LOG)))
    for part in (
        "log: the data can be used",
        "20 rows, time 0 to 30",
        "by time: train 12, valid 4, test 4",
        "buy: 1 in 100.00% of 1 rows; 19 rows without it",
        "1 users of the interactions are not in the users table, such as 'u3'",
        "place has one value only",
    ):
        assert part in text


def test_a_field_that_is_missing_everywhere_is_noted():
    tables = log_tables([Event(event.user, event.item, event.time, event.click, None, None, None) for event in LOG[:-1]])
    summary = summarize(log_views(labels=[{"name": "click", "column": "click"}]), tables)
    assert "hour is missing everywhere" in summary_text(summary)


def test_an_empty_part_of_the_split_is_refused():
    with pytest.raises(SplitEmptyError, match="leaves no rows"):
        summarize(log_views(), log_tables([LOG[0]] * 5))


def test_faults_come_from_the_file_that_has_them(tiny_shop, tmp_path):
    assert validate_data(tiny_shop).views.name == "tiny-shop"
    (tmp_path / "views.yaml").write_text(tiny_shop.read_text())
    with pytest.raises(TablesInvalidError, match=r"users\.csv: no such file"):
        validate_data(tmp_path / "views.yaml")
    with pytest.raises(ViewsError, match="No such file"):
        validate_data(tmp_path / "none.yaml")
