from __future__ import annotations

import pytest

from loadtest.command_line import parse_options
from loadtest.errors import OptionRefusedError
from loadtest.options import Schedule

NEEDED = ["--url", "http://127.0.0.1:8000", "--users", "data/users.csv:id", "--items", "C:/items.parquet:item_id"]


def test_options_become_a_schedule_and_a_recipe():
    options = parse_options([*NEEDED, "--rate", "40", "--duration", "1m", "--warmup", "500ms", "--pin", "0,2-3"])
    assert (options.schedule.first, options.schedule.count, options.schedule.total_s) == (20, 2400, 60.75)
    assert (options.items.path.as_posix(), options.items.column) == ("C:/items.parquet", "item_id")
    assert (options.recipe.candidates_min, options.recipe.candidates_max) == (100, 100)
    assert options.pin == {0, 2, 3}
    assert options.vus_max == 40


def test_no_more_bodies_are_made_than_arrivals_are_sent():
    assert parse_options([*NEEDED, "--rate", "10", "--duration", "2s", "--warmup", "1s"]).recipe.count == 30


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--rate", "0"], "--rate is 0: it must be between 1 and 10000"),
        (["--rate", "10001"], "--rate"),
        (["--duration", "16m"], "--duration is 960: it must be between 1 and 900"),
        (["--duration", "20"], "'20' is no length of time"),
        (["--duration=-5s"], "no length of time"),
        (["--rate", "10000", "--duration", "10m"], "the limit is 600000"),
        (["--duration", "900ms"], "--duration is 0.9"),
        (["--warmup", "3m"], "--warmup"),
        (["--timeout", "0s"], "--timeout"),
        (["--candidates", "0"], "--candidates is 0"),
        (["--candidates", "50", "--candidates-max", "20"], "--candidates-max is 20: it must be between 50"),
        (["--top-k", "0"], "--top-k"),
        (["--seed", "-1"], "--seed"),
        (["--user-skew", "nan"], "--user-skew is nan"),
        (["--unknown-items", "1.1"], "--unknown-items"),
        (["--max-error-share", "2"], "--max-error-share"),
        (["--vus-max", "0"], "--vus-max"),
        (["--inspect-every", "0"], "--inspect-every"),
        (["--pin", "3-1"], "'3-1' is no list of cores"),
        (["--pin", ""], "no list of cores"),
        (["--users", "users.csv"], "'users.csv' names no id column"),
        (["--users", ":id"], "names no id column"),
        (["--extra-fields", "[1]"], "must be a JSON object"),
        (["--extra-fields", "{"], "--extra-fields is not JSON"),
        (["--extra-fields", '{"timeout_ms": NaN}'], "NaN is no JSON number"),
        (["--extra-fields", '{"user_id": 1}'], "may not set user_id"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_its_name(extra, said):
    with pytest.raises(OptionRefusedError) as refusal:
        parse_options([*NEEDED, *extra])
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("rate", "warmup", "duration", "expected"), [(3, 2.5, 2.0, (8, 6)), (1, 0.0, 1.0, (0, 1)), (7, 0.1, 1.5, (1, 10))]
)
def test_the_warm_up_is_rounded_up_and_the_measured_part_down_to_whole_arrivals(rate, warmup, duration, expected):
    schedule = Schedule(rate, warmup, duration)
    assert (schedule.first, schedule.count) == expected
