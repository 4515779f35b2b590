from __future__ import annotations

import pytest

from loadtest.arrivals import read_arrivals
from loadtest.errors import GeneratorFailedError
from loadtest.options import Schedule

HEAD = "metric_name,timestamp,metric_value,error_code,status,extra_tags,metadata\n"
START_MS = 1_700_000_000_000


def request(arrival: int, end_us: int, blocked: float, duration: float, *, status: str = "200", error: str = "") -> str:
    tail = f"{error},{status},,iteration={arrival}\n"
    values = {"http_reqs": 1.0, "http_req_duration": duration, "http_req_blocked": blocked, "http_req_connecting": blocked / 2}
    return "".join(f"{name},{START_MS * 1000 + end_us},{value:f},{tail}" for name, value in values.items())


def samples(tmp_path, *rows: str):
    path = tmp_path / "samples.csv"
    path.write_text(HEAD + f"schedule_start,{START_MS * 1000 + 9},{START_MS:f},,,,iteration=0\n" + "".join(rows))
    return path


def test_latency_counts_from_when_the_arrival_was_due(tmp_path):
    # 10 a second. Arrival 0 is sent on time; arrival 1, due at 100 ms, is sent at 130 ms and ends at 150 ms.
    path = samples(tmp_path, request(1, 150_000, 0.0, 20.0), request(0, 5_000, 1.0, 4.0))
    table = read_arrivals(path, Schedule(10, 0.0, 1.0)).table
    assert table["arrival"].to_list() == [0, 1]
    assert table["latency_ms"].to_list() == pytest.approx([5.0, 50.0])
    assert table["lag_ms"].to_list() == pytest.approx([0.0, 30.0])
    assert table["http_ms"].to_list() == pytest.approx([5.0, 20.0])
    assert table["connected"].to_list() == [True, False]


@pytest.mark.parametrize(("first_sent_us", "start_us"), [(400, 400), (30_000, 1_000), (-50, 0)])
def test_the_start_is_the_told_one_or_up_to_a_millisecond_later_but_never_hides_lateness(tmp_path, first_sent_us, start_us):
    path = samples(tmp_path, request(0, first_sent_us + 4_000, 0.0, 4.0))
    assert read_arrivals(path, Schedule(10, 0.0, 1.0)).start_us - START_MS * 1e3 == pytest.approx(start_us, abs=1e-3)


def test_a_request_without_an_answer_has_its_whole_wait_as_latency_and_no_lag(tmp_path):
    path = samples(tmp_path, request(0, 4_000, 0.0, 4.0), request(1, 1_100_000, 0.0, 0.0, status="0", error="1050"))
    row = read_arrivals(path, Schedule(10, 0.0, 1.0)).table.row(1, named=True)
    assert (row["status"], row["error_code"], row["lag_ms"]) == (0, 1050, None)
    assert row["latency_ms"] == pytest.approx(1000.0)


def test_dropped_arrivals_and_what_answers_said_are_kept(tmp_path):
    said = 'inspected,1,1.000000,,,,"iteration=0 {""fault"":"""",""model"":{""name"":""a=b&c\\nd""}}"\n'
    path = samples(tmp_path, request(0, 4_000, 0.0, 4.0), said, "dropped_iterations,1,1,,,,\n" * 3)
    arrivals = read_arrivals(path, Schedule(10, 0.0, 1.0))
    assert arrivals.dropped == 3
    assert arrivals.inspected == {0: {"fault": "", "model": {"name": "a=b&c\nd"}}}


def test_latency_is_right_after_a_dropped_arrival_too(tmp_path):
    # Of the arrivals due at 0, 100 and 200 ms the second was dropped, so the third is the second one sent.
    drop = f"dropped_iterations,{START_MS * 1000 + 100_100},1,,,,\n"
    path = samples(tmp_path, request(0, 5_000, 0.0, 5.0), drop, request(1, 207_000, 0.0, 5.0))
    table = read_arrivals(path, Schedule(10, 0.0, 1.0)).table
    assert (table["iteration"].to_list(), table["arrival"].to_list()) == ([0, 1], [0, 2])
    assert table["latency_ms"].to_list() == pytest.approx([5.0, 7.0])


def test_a_record_that_is_missing_empty_or_of_another_form_is_an_error(tmp_path):
    path = tmp_path / "samples.csv"
    schedule = Schedule(10, 0.0, 1.0)
    with pytest.raises(GeneratorFailedError, match="cannot be read"):
        read_arrivals(path, schedule)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(GeneratorFailedError, match="cannot be read"):
        read_arrivals(path, schedule)
    with pytest.raises(GeneratorFailedError, match=r"sent no request: its log, .*k6\.log"):
        read_arrivals(samples(tmp_path), schedule)
    with pytest.raises(GeneratorFailedError, match="cannot be read"):
        read_arrivals(samples(tmp_path, request(0, 4_000, 0.0, 4.0) * 2), schedule)
