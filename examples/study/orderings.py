"""Each published ordering, and whether these records reproduce it."""

from examples.study.orderings_of_runs import of_curves, of_spectra, of_time
from examples.study.orderings_of_scores import of_distances, of_settings
from examples.study.records import Record
from examples.study.verdict import Finding


def orderings(records: list[Record], times: Record | None) -> list[Finding]:
    """Returns a finding for each published ordering, of one network's records."""
    return [
        *of_distances(records),
        *of_settings(records),
        *of_spectra(records),
        *of_time(times),
        *of_curves(records),
    ]
