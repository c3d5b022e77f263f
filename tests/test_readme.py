"""The README's code runs, in order, and its file names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 3
    namespace = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_links_lead_to_files(target):
    assert (ROOT / target).exists()


def test_exactly_two_commands_to_copy():
    assert len(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)) == 2
