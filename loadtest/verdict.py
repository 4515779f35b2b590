"""Whether a run's figures may be believed, and whether they are good enough."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.cpu import CoresBusy
from loadtest.machine import Machine
from loadtest.measures import Measures
from loadtest.options import LoadOptions, Thresholds

EXIT_OK, EXIT_MISSED, EXIT_REFUSED, EXIT_INVALID = 0, 1, 2, 3

_LATE_MS = 5.0
_KEPT_UP_SHARE = 0.98
_NEW_CONNECTIONS_SHARE = 0.01
_SATURATED_SHARE = 0.95
# Fewer answers than this beyond a percentile make it an anecdote.
_TAIL_ANSWERS = 10


@dataclass(frozen=True, slots=True)
class Verdict:
    """``invalid``: why the figures must not be used. ``missed``: what they fall short of. ``notes``: what to read them with."""

    invalid: list[str]
    missed: list[str]
    notes: list[str]

    @property
    def exit_code(self) -> int:
        """0 good, 1 a threshold missed or a wrong answer, 3 an invalid run."""
        if self.invalid:
            return EXIT_INVALID
        return EXIT_MISSED if self.missed else EXIT_OK

    @property
    def word(self) -> str:
        """The verdict in one word."""
        return {EXIT_OK: "valid", EXIT_MISSED: "missed", EXIT_INVALID: "INVALID"}[self.exit_code]


def judge(options: LoadOptions, measures: Measures, machine: Machine, busy: CoresBusy | None) -> Verdict:
    """Judge one run."""
    return Verdict(
        invalid=_invalid(options, measures),
        missed=_missed(options.thresholds, measures),
        notes=[*_service_notes(options, measures), *_generator_notes(options, measures), *_machine_notes(machine, busy)],
    )


def _invalid(options: LoadOptions, measures: Measures) -> list[str]:
    traffic, reasons = measures.traffic, []
    if traffic.dropped:
        reasons.append(
            f"{traffic.dropped} arrivals were dropped, since all {options.vus_max} virtual users waited for answers: what these"
            " arrivals would have waited is missing from the latencies; lower --rate or raise --vus-max"
        )
    if traffic.unrecorded:
        reasons.append(f"{traffic.unrecorded} of {traffic.arrivals} measured arrivals left no record")
    if not traffic.answered_200:
        reasons.append("no measured arrival was answered with status 200")
    return reasons


def _missed(asked: Thresholds, measures: Measures) -> list[str]:
    traffic, inspection, missed = measures.traffic, measures.inspection, []
    for name, found in (("answers with status 200", measures.ok_ms), ("all arrivals", measures.all_ms)):
        if asked.max_p99_ms is not None and found is not None and found.p99 > asked.max_p99_ms:
            missed.append(f"p99 of {name} is {found.p99:.1f} ms, asked at most {asked.max_p99_ms:g} ms")
    if asked.max_error_share is not None and traffic.error_share > asked.max_error_share:
        missed.append(f"{traffic.error_share:.2%} of the arrivals failed, asked at most {asked.max_error_share:.2%}")
    if asked.max_degraded_share is not None:
        missed.extend(_missed_degraded(asked.max_degraded_share, inspection.degraded_share))
    missed.extend(
        f"{number} of {inspection.answers} answers that were read: {fault}" for fault, number in inspection.faults.items()
    )
    return missed


def _missed_degraded(most: float, found: float | None) -> list[str]:
    if found is None:
        return ["no answer was read, so their degraded share is not known: lower --inspect-every"]
    return [f"{found:.2%} of the answers are degraded, asked at most {most:.2%}"] if found > most else []


def _service_notes(options: LoadOptions, measures: Measures) -> list[str]:
    notes, traffic, rate = [], measures.traffic, options.schedule.rate_per_s
    if traffic.answers_per_s < _KEPT_UP_SHARE * rate * (1.0 - traffic.error_share):
        notes.append(
            f"{traffic.answers_per_s:.1f} of {rate} asked answers per second, more missing than failed: it fell behind"
        )
    if measures.ok_ms is not None and measures.ok_ms.count < _TAIL_ANSWERS * 1000:
        share = "p99 and p99.9" if measures.ok_ms.count < _TAIL_ANSWERS * 100 else "p99.9"
        notes.append(
            f"fewer than {_TAIL_ANSWERS} of {measures.ok_ms.count} answers lie beyond {share}: a longer run tells more"
        )
    return notes


def _generator_notes(options: LoadOptions, measures: Measures) -> list[str]:
    notes, traffic = [], measures.traffic
    if measures.lag_ms is not None and measures.lag_ms.p99 > _LATE_MS:
        notes.append(
            f"the generator itself was late (p99 {measures.lag_ms.p99:.1f} ms after an arrival was due): latency includes this"
        )
    if traffic.connections_opened > _NEW_CONNECTIONS_SHARE * traffic.arrivals:
        notes.append(
            f"{traffic.connections_opened} arrivals opened a connection: warm up for at least"
            f" {options.vus_max / options.schedule.rate_per_s:.1f} s (--vus-max / --rate)"
        )
    return notes


def _machine_notes(machine: Machine, busy: CoresBusy | None) -> list[str]:
    notes = []
    if busy is not None and machine.cores and busy.machine > _SATURATED_SHARE * machine.cores:
        notes.append(f"the machine was full ({busy.machine:.2f} of {machine.cores} cores busy): generator and service compete")
    if machine.service_cores is not None and set(machine.service_cores) & set(machine.generator_cores):
        notes.append("generator and service may run on the same cores: --pin and a pinned service tell them apart")
    return notes
