"""Tables in Markdown, and the marks between which a page is filled in."""

import re
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
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    try:
        before, rest = path.read_text().split(begin)
        _, after = rest.split(end)
    except (OSError, ValueError):
        raise UserError(
            f"{path} can not be filled in: expected a page with {begin.strip()} and "
            f"{end} in it, once each."
        ) from None
    path.write_text(f"{before}{begin}\n{content}\n\n{end}{after}")


def marks(path: Path) -> list[str]:
    """Returns the names of all marks of a page.

    Raises:
        UserError: it can not be read.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(
            f"{path} can not be read ({error.strerror}): expected a page with marks."
        ) from None
    return re.findall(r"<!-- end of (.+?) -->", text)
