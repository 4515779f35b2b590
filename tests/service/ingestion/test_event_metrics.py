"""The metrics that operators watch for live events."""

from service.telemetry import Telemetry


def test_what_happens_to_events_is_shown():
    telemetry = Telemetry()
    telemetry.events.events_accepted("click", count=2, duplicates=1)
    telemetry.events.event_refused(None, "ancient")
    telemetry.events.spool_depth(records=3, bytes_=300)
    telemetry.events.events_applied(3, [45.0, -1.0])
    telemetry.events.spool_opened(is_open=True)
    telemetry.events.spools_foreign(folders=6, records=7)
    telemetry.events.spool_damaged(4)
    telemetry.events.events_unrecoverable(5)
    telemetry.events.store_rewound()
    telemetry.events.applying_failed("timeout")
    telemetry.events.histories_reset(1)
    telemetry.events.event_request_refused("spool_full")
    shown = telemetry.render().decode().splitlines()
    for line in (
        'rankline_events_total{outcome="accepted",type="click"} 2.0',
        'rankline_events_total{outcome="duplicate",type="click"} 1.0',
        'rankline_events_total{outcome="refused",type="other"} 1.0',
        'rankline_event_refusals_total{reason="ancient"} 1.0',
        "rankline_spool_pending_records 3.0",
        "rankline_spool_pending_bytes 300.0",
        "rankline_events_applied_total 3.0",
        "rankline_spool_open 1.0",
        "rankline_spool_foreign_folders 6.0",
        "rankline_spool_foreign_records 7.0",
        "rankline_spool_damaged_records_total 4.0",
        "rankline_events_unrecoverable_total 5.0",
        "rankline_history_resets_total 1.0",
        'rankline_event_requests_refused_total{reason="spool_full"} 1.0',
        "rankline_event_lag_seconds_count 2.0",
        'rankline_event_lag_seconds_bucket{le="0.001"} 1.0',
        'rankline_event_lag_seconds_bucket{le="30.0"} 1.0',
        "rankline_store_rewinds_total 1.0",
        'rankline_event_apply_failures_total{reason="timeout"} 1.0',
    ):
        assert line in shown
