"""The pages: every link leads somewhere, and every block of Python runs, in order."""

from pathlib import Path

import pytest

from tests.pages import broken_links, read_page, run_blocks

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): read_page(path)
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
}
WITH_CODE = [name for name, page in PAGES.items() if page.blocks()]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    assert broken_links(PAGES[name], ROOT) == []


@pytest.mark.parametrize("name", WITH_CODE)
def test_python_blocks_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a block writes
    n_done, left_out = run_blocks(PAGES[name])
    assert n_done + len(left_out) == len(PAGES[name].blocks())
    if left_out:
        pytest.skip("; ".join(left_out))  # the others have run


def test_there_is_something_to_check():
    assert {"README.md", "docs/constraints.md", "docs/report.md"} <= set(WITH_CODE)
    assert sum(len(page.blocks()) for page in PAGES.values()) >= 11
    assert sum(len(page.targets) for page in PAGES.values()) >= 40
    assert any("#" in target for page in PAGES.values() for target in page.targets)


def test_exactly_two_commands_to_copy():
    shells = {"bash", "console", "sh", "shell"}
    fences = PAGES["README.md"].fences
    assert [f.language for f in fences if f.language in shells] == ["sh", "sh"]


def page_of(folder, text):
    path = folder / "page.md"
    path.write_text(text)
    return read_page(path)


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("[a](other.md)", ""),
        ("[a](other.md#two-words)", ""),
        ("[a](other.md#two-words-1)", ""),
        ("[a](other.md#a-by-name)", ""),
        ("[a](other.md#by-hand)", ""),
        ("[a](#here-there)", ""),
        ("[a][it]\n\n[it]: other.md", ""),
        ("[a](pictures)", ""),
        ("![a](pictures/a%20b.png)", ""),
        ("[a](https://example.org/nowhere#at-all)", ""),
        ("`[a](no.md)`\n\n```\n[a](no.md)\n```", ""),
        ("[a](no.md)", "no.md: no such file"),
        ("[a][it]\n\n[it]: no.md", "no.md: no such file"),
        ("| a |\n|---|\n| [a](no.md) |", "no.md: no such file"),
        ("[a](other.md#two)", "other.md#two: no such heading"),
        ("[a](other.md#two-words-2)", "other.md#two-words-2: no such heading"),
        ("[a](#there)", "#there: no such heading"),
        ("[a](pictures/a%20b.png#x)", "pictures/a%20b.png#x: an anchor in what is"),
        ("![a](pictures/no.png)", "pictures/no.png: no such file"),
        ('<img src="pictures/no.png">', "pictures/no.png: no such file"),
        ('Text <a href="no.md">a</a>.', "no.md: no such file"),
        ("[a](../outside.md)", "../outside.md: outside of the repository"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(tmp_path, link, reason):
    (tmp_path / "outside.md").touch()
    root = tmp_path / "root"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures" / "a b.png").touch()
    (root / "other.md").write_text(
        "# Two words\n\n## Two `words`\n\n### A, by [name](#by-hand)\n\n"
        '<a id="by-hand"></a>\n'
    )
    page = page_of(root, f"# Here, there\n\n{link}\n")
    expected = [f"{page.path}: {reason}"] if reason else []
    found = broken_links(page, root)
    assert len(found) == len(expected)
    assert all(map(str.startswith, found, expected))


def test_blocks_run_in_order_and_are_counted(tmp_path):
    text = "```python\nx = 1\n```\n\n- item\n\n  ```python\n  x += 1\n  ```\n"
    page = page_of(tmp_path, f"{text}\n```python\n>>> x\n2\n>>> x + 1\n3\n```\n")
    assert run_blocks(page) == (3, [])
    assert len(page.blocks()) == 3


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("```python\n1 / 0\n```", ZeroDivisionError, "division by zero"),
        ("```python\nassert 1 == 2\n```", AssertionError, ""),
        ("```python\nx = (\n```", SyntaxError, "never closed"),
        ("```python\n>>> 1 + 1\n3\n```", AssertionError, "Expected:\n    3"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", UserWarning, "old"),
        ("```py\nx = 1\n```", AssertionError, "line 1: a block of py that is not run"),
        ("```Python\nx = 1\n```", AssertionError, "a block of Python that is not run"),
        ("```python title=x\nx = 1\n```", AssertionError, "a block of python that is"),
        (
            "<!-- skip: next -->\n```python\n1 / 0\n```",
            AssertionError,
            "line 1: a skip without a reason",
        ),
    ],
)
def test_a_block_that_fails_or_is_not_run_is_an_error(tmp_path, text, error, words):
    page = page_of(tmp_path, f"{text}\n")
    with pytest.raises(error) as caught:
        run_blocks(page)
    assert words in str(caught.value)


def test_a_block_with_a_reason_is_left_out(tmp_path):
    fence = "```python\n{}\n```\n"
    comment = '<!-- skip: next "it needs a GPU" -->\n'
    text = fence.format("x = 1") + comment + fence.format("1 / 0") + fence.format("x")
    n_done, left_out = run_blocks(page_of(tmp_path, text))
    assert (n_done, left_out) == (2, ["page.md, line 5: it needs a GPU"])
