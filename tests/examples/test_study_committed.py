"""The records in docs/study: all of the plan, from the same start, and its pages."""

import itertools
import shutil
from pathlib import Path

import pytest

from examples.study.pages import fill_page
from examples.study.plan import FULL, plan
from examples.study.records import read_records

DOCS = Path(__file__).parents[2] / "docs"
FOLDER = DOCS / "study" / "mnist"


@pytest.fixture(scope="module")
def records():
    return read_records(FOLDER)


def test_the_full_run_was_made(records):
    jobs = plan(("mlp",), FULL, None)
    assert {record["name"] for record in records} == {job.name for job in jobs}
    assert {record["config"]["steps"] for record in records} == {FULL.steps}
    assert min(record["score"]["judge_accuracy"] for record in records) >= 0.99


def test_methods_differ_in_nothing_but_the_constraint(records):
    """Weights and latent vectors are the seed's, batches those of n_dis, too."""

    def by(*keys):
        def key(record):
            return tuple(str(record[name]) for name in keys)

        for _, group in itertools.groupby(sorted(records, key=key), key):
            yield [record["checksums"] for record in group]

    for sums in by("seed"):
        assert len({(one["generator"], one["critic"]) for one in sums}) == 1
        assert len({one["latents"] for one in sums}) <= 2  # one, or five, of the critic
    for sums in by("seed", "setting"):
        assert len({tuple(one.values()) for one in sums}) == 1
    seeds = {record["checksums"]["critic"] for record in records}
    assert len(seeds) == FULL.seeds


@pytest.mark.parametrize("name", ["study/README.md", "which-constraint.md"])
def test_the_pages_hold_what_the_records_give(name, tmp_path):
    page = shutil.copy(DOCS / name, tmp_path / "page.md")
    fill_page(page, FOLDER)
    assert page.read_text() == (DOCS / name).read_text()
    assert page.read_text().count("| spectral norm") > 0
