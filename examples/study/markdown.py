"""Tables in Markdown, and the marks between which a page is filled in."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from examples.gan.errors import UserError


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table whose columns but the first are on the right."""
    bars = ["---", *("---:" for _ in headings[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, bars, *rows))


def texts(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of words, all on the left."""
    bars = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, bars, *rows))


def fill(path: Path, mark: str, content: str) -> None:
    """Puts ``content`` between ``<!-- mark -->`` and ``<!-- end of mark -->``.

    Raises:
        UserError: the page has no such marks.
    """
    begin, end = f"<!-- {mark} -->\n", f"\n<!-- end of {mark} -->"
    try:
        before, rest = path.read_text().split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError):
        raise UserError(
            f"{path} can not be filled in: expected a page with {begin.strip()} and "
            f"{end.strip()} in it, once each."
        ) from None
    path.write_text(f"{before}{begin}{content}{end}{after}")
