"""Without metrics the process still says what it is, and everything else is told in vain."""

from prometheus_client.parser import text_string_to_metric_families

from service.quiet_telemetry import QuietTelemetry
from tests.service.direct_telemetry import use


def test_a_scrape_shows_the_process_and_its_build_whatever_was_told():
    telemetry = QuietTelemetry()
    use(telemetry, seed=1)
    telemetry.looked_up("hit", 5)
    telemetry.state_changed([("din", "1", "d", "cpu")], 1, stale=False)
    telemetry.carry()
    names = {family.name for family in text_string_to_metric_families(telemetry.render().decode())}
    assert {"python_info", "process_resident_memory_bytes"} <= names
    assert all(name.startswith(("process_", "python_")) for name in names)


def test_nothing_of_the_hot_path_is_counted_aside():
    telemetry = QuietTelemetry()
    use(telemetry, seed=1)
    telemetry.carry()
    counted = {sample.name: sample.value for family in telemetry.registry.collect() for sample in family.samples}
    assert not any(
        value for name, value in counted.items() if name.startswith("rankline_") and name.endswith(("_count", "_total"))
    )
