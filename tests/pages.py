"""Reads a page of Markdown: where its links lead, and whether its code runs.

markdown-it finds links, anchors and fences, Sybil runs the code; that every block has
run is asked of the first, not of the second.
"""

import functools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from unittest import SkipTest
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.anchors import anchors_plugin
from sybil import Sybil
from sybil.evaluators.skip import Skipper
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

_MARKDOWN = MarkdownIt("commonmark").enable("table").use(anchors_plugin, max_level=6)


class Fence(NamedTuple):
    """A block of code; its lines are counted from 1, fences included."""

    language: str
    lines: range
    code: str


class Page(NamedTuple):
    """What is written on a page.

    Attributes:
        path: of the file.
        fences: blocks of code.
        targets: where links, images and HTML's `href` and `src` lead, as written.
        anchors: what a link to this page may name after a #: GitHub's names of the
            headings, and HTML's `id` and `name`.
    """

    path: Path
    fences: tuple[Fence, ...]
    targets: tuple[str, ...]
    anchors: frozenset[str]

    def blocks(self) -> list[Fence]:
        """Returns the blocks of Python."""
        return [fence for fence in self.fences if fence.language == "python"]


@functools.cache
def read_page(path: Path) -> Page:
    """Reads a page once."""
    tokens = list(_flat(_MARKDOWN.parse(path.read_text())))
    page = _Html("".join(t.content for t in tokens if t.type.startswith("html_")))
    written = [t.attrGet("href") or t.attrGet("src") for t in tokens]
    headings = [t.attrGet("id") for t in tokens if t.type == "heading_open"]
    return Page(
        path,
        tuple(_fence(token) for token in tokens if token.type == "fence"),
        tuple(str(target) for target in [*written, *page.targets] if target),
        frozenset(map(str, [*headings, *page.anchors])),
    )


def broken_links(page: Page, root: Path) -> list[str]:
    """Returns a line for each link inside of the repository that leads nowhere."""
    reasons = ((target, _nowhere(page, target, root)) for target in page.targets)
    return [f"{page.path}: {target}: {reason}" for target, reason in reasons if reason]


def run_blocks(page: Page) -> tuple[int, list[str]]:
    """Runs the blocks of Python in order, in one namespace.

    A block that cannot run says so on the page, in a comment above it:
    ``<!-- skip: next "it needs a GPU" -->``.

    Returns:
        How many blocks have run, and a line for each that was left out.

    Raises:
        AssertionError: if a block has neither run nor given its reason.
    """
    document = Sybil([PythonCodeBlockParser(), SkipParser()]).parse(page.path)
    done, left_out = set(), {}
    for example in document.examples():
        if isinstance(example.region.evaluator, Skipper):
            action, reason = example.parsed
            assert reason or action == "end", (
                f"{page.path}, line {example.line}: a skip without a reason"
            )
        try:
            example.evaluate()
        except SkipTest as skip:
            left_out[example.line] = f"{page.path.name}, line {example.line}: {skip}"
        else:
            done.add(example.line)
    unknown = [f for f in page.fences if re.match("py|ipy", f.language, re.IGNORECASE)]
    for fence in unknown:
        assert {*done, *left_out} & set(fence.lines), (
            f"{page.path}, line {fence.lines[0]}: a block of {fence.language} that is "
            "not run; write python"
        )
    n_done = sum(bool(done & set(block.lines)) for block in page.blocks())
    return n_done, list(left_out.values())


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _fence(token: Token) -> Fence:
    assert token.map
    first, last = token.map
    language = token.info.split()[0] if token.info.split() else ""
    return Fence(language, range(first + 1, last + 1), token.content)


def _nowhere(page: Page, target: str, root: Path) -> str:
    """Returns why a link leads nowhere; nothing if it leads somewhere, or outside."""
    link = urlsplit(target)
    if link.scheme or link.netloc:
        return ""
    path = page.path
    if link.path:
        path = (page.path.parent / unquote(link.path)).resolve()
        if root.resolve() not in (path, *path.parents):
            return "outside of the repository"
        if not path.exists():
            return "no such file"
    if not link.fragment:
        return ""
    if path.suffix != ".md":
        return "an anchor in what is no page"
    return "" if link.fragment in read_page(path).anchors else "no such heading"


class _Html(HTMLParser):
    """Collects where HTML's tags lead, and what may be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.targets.append(value)
            elif value and name in ("id", "name"):
                self.anchors.append(value)
