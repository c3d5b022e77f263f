"""The pages that hold the study's tables: two of its own, and marks in others."""

from collections.abc import Callable
from pathlib import Path

from examples.gan.errors import UserError
from examples.study import tables
from examples.study.alternatives import alternatives
from examples.study.markdown import fill, marks
from examples.study.orderings import orderings
from examples.study.records import Record, read_records
from examples.study.times_file import has_times, read_times

Section = Callable[[list[Record], Record | None], str]


def _time(records: list[Record], times: Record | None) -> str:
    return tables.time(times) if times else "Not measured."


SECTIONS: dict[str, Section] = {
    "runs": tables.runs,
    "scores": lambda records, times: tables.scores(records),
    "settings": lambda records, times: tables.settings(records),
    "spectra": lambda records, times: tables.spectra(records),
    "time": _time,
    "orderings": tables.findings,
    "alternatives": alternatives,
}

_TITLES = {
    "runs": "Runs",
    "scores": "Frechet distance",
    "settings": "Frechet distance over Adam's settings",
    "spectra": "Effective rank of the critic's layers; share above half the largest",
    "time": "Time of an update",
}


def write_tables(folder: Path) -> list[Path]:
    """Writes ``scores.md`` and ``orderings.md`` and returns their paths."""
    scores, found = folder / "scores.md", folder / "orderings.md"
    parts = [
        f"# {words}{title}\n\n{SECTIONS[name](records, times)}\n"
        for words, records, times in _by_network(folder)
        for name, title in _TITLES.items()
    ]
    scores.write_text("\n".join(parts))
    found_parts = [
        f"# {words}Published orderings\n\n{SECTIONS['orderings'](records, times)}\n"
        for words, records, times in _by_network(folder)
    ]
    found.write_text("\n".join(found_parts))
    return [scores, found]


def verdicts(folder: Path) -> list[str]:
    """Returns a sentence for each published ordering."""
    return [
        f"{words}{finding.verdict}: {finding.claim}"
        for words, records, times in _by_network(folder)
        for finding in orderings(records, times)
    ]


def fill_page(path: Path, folder: Path) -> None:
    """Fills in every mark ``DATASET SECTION`` of the page that is of these records.

    Where there are several networks, it is ``DATASET NETWORK SECTION``.

    Raises:
        UserError: the page has no such mark.
    """
    known = {}
    for words, records, times in _by_network(folder):
        dataset = records[0]["config"]["dataset"]
        for name, section in SECTIONS.items():
            mark = " ".join([dataset, *words.rstrip(": ").split(), name])
            known[mark] = (section, records, times)
    there = [mark for mark in marks(path) if mark in known]
    if not there:
        raise UserError(
            f"{path} has no mark of these records: expected one like "
            f"<!-- {next(iter(known))} -->."
        )
    for mark in there:
        section, records, times = known[mark]
        fill(path, mark, section(records, times))


def _by_network(folder: Path) -> list[tuple[str, list[Record], Record | None]]:
    """Returns the words in front of a title, the records and the times, per network."""
    records = read_records(folder)
    times = read_times(folder) if has_times(folder) else None
    networks = sorted({record["network"] for record in records})
    return [
        (
            f"{network}: " if len(networks) > 1 else "",
            [record for record in records if record["network"] == network],
            times if times and times["network"] == network else None,
        )
        for network in networks
    ]
