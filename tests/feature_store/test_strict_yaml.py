"""A YAML means what its reader sees, or it is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.strict_yaml import MAX_BYTES, StrictYamlError, load_strict_yaml, read_strict_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("012", "012"),
        ("0o17", "0o17"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("'1'", "1"),
        ("-12", -12),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("", None),
        (".inf", ".inf"),
        (".nan", ".nan"),
    ],
)
def test_a_scalar_is_what_it_looks_like(text, value):
    assert load_strict_yaml(f"key: {text}") == {"key": value}
    assert type(load_strict_yaml(f"key: {text}")["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x", "line 2 or before: aliases are not accepted"),
        ("a: 1\nb: 2\na: 3", "line 3: key 'a' stands twice"),
        ("a: {b: 1, b: 2}", "key 'b' stands twice"),
        ("1: a\n'1': b", "key '1' stands twice"),
        ("? [a, b]\n: 1", "line 1: a key must be plain text"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: tags are not accepted"),
        ("a: !!str 1", "line 1: tags are not accepted"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a: [1, 2", "expected ',' or ']'"),
        ("[" * 60 + "]" * 60, "nested deeper than 50 levels"),
        ("a: " + "9" * 5_000, "a value cannot be read"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_what_could_surprise_is_refused_with_its_line(text, reason):
    with pytest.raises(StrictYamlError) as refused:
        load_strict_yaml(text)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_not_utf8_are_refused_with_their_place():
    with pytest.raises(StrictYamlError, match="not UTF-8 at byte 3"):
        load_strict_yaml("a: é".encode("latin-1"))


def test_a_merge_key_is_plain_text():
    assert load_strict_yaml("<<: {a: 1}") == {"<<": {"a": 1}}


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(StrictYamlError, match=r"large\.yaml: longer than 1000000 bytes"):
        read_strict_yaml(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(StrictYamlError, match=r"none\.yaml: No such file"):
        read_strict_yaml(tmp_path / "none.yaml")
    with pytest.raises(StrictYamlError, match="Is a directory"):
        read_strict_yaml(tmp_path)


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60), st.text(alphabet="ab:[]{}&*!?-\n '\"|>%#", max_size=40)))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(StrictYamlError):
        load_strict_yaml(text)
