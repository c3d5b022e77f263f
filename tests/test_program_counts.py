"""What counts the programs of each test file, and what marks a part of the tests."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests.exhaustive import sampled
from tests.program_counts import RECORD, Counter, complaints, shared_by_files

ROOT = Path(__file__).parents[1]


def test_a_quarter_more_is_a_complaint():
    recorded = {"a.py": 100, "b.py": 2}
    assert complaints({"a.py": 128, "b.py": 6}, recorded) == []
    assert complaints({"a.py": 50}, recorded) == []
    (grown,) = complaints({"a.py": 130, "b.py": 2}, recorded)
    assert grown.startswith("a.py compiled 130 programs, and 100 are recorded. Try: ")
    (new,) = complaints({"c.py": 5}, recorded)
    assert "c.py compiled 5 programs, and 0 are recorded" in new


def test_a_program_in_the_cache_counts_as_well(pytestconfig, request):
    counter = Counter(pytestconfig)
    counter._listen()

    x = jnp.ones(3)
    least = "jax_persistent_cache_min_compile_time_secs"
    kept = getattr(jax.config, least)
    request.addfinalizer(lambda: jax.config.update(least, kept))
    jax.config.update(least, 0)

    def compiled():
        before = counter._n_compiled
        function = jax.jit(lambda x: jnp.sin(x) * 12)
        for _ in range(3):
            function(x)
        return counter._n_compiled - before

    assert compiled() == 1
    assert compiled() == 1  # in jax's cache now
    with shared_by_files():
        assert compiled() == 0
    assert compiled() == 1


def test_every_file_that_is_recorded_exists():
    names = json.loads(RECORD.read_text())["programs"]
    assert len(names) > 30
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_what_is_not_sampled_is_marked():
    marked = sampled(["a", "b", "c"], ["b"])
    assert [bool(param.marks) for param in marked] == [True, False, True]
    assert [param.id for param in marked] == ["a", "b", "c"]
    pairs = sampled(
        [("a", 1), ("b", 2)], ["one"], name=lambda pair: ["one", "two"][pair[1] - 1]
    )
    assert [(param.values, bool(param.marks)) for param in pairs] == [
        (("a", 1), False),
        (("b", 2), True),
    ]
    with pytest.raises(AssertionError, match=r"'d'.* are not among"):
        sampled(["a"], ["d"])
