"""The mutations still fit the code, and their runner sees what a test sees."""

import ast
import functools
import subprocess
import sys

import pytest

from tests.mutations.__main__ import CHECKS
from tests.mutations.mutation import ROOT
from tests.mutations.table import TABLE

# 56 of the core, bounds, wrappers and constraints, and 40 where the tests are weakest.
AT_LEAST = 96


@functools.cache
def text_of(file):
    return (ROOT / file).read_text()


@functools.cache
def functions_of(file):
    return {
        node.name
        for node in ast.parse(text_of(file)).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_mutation_fits_the_code():
    assert len(TABLE) >= AT_LEAST
    for mutation in (*TABLE, *CHECKS):
        mutated = mutation.applied(text_of(mutation.file))
        compile(mutated, mutation.file, "exec")
        assert mutated != text_of(mutation.file), mutation.name


def test_names_and_faults_are_unique():
    names = [mutation.name for mutation in (*TABLE, *CHECKS)]
    assert len(set(names)) == len(names)
    faults = [mutation[1:4] for mutation in TABLE]
    assert len(set(faults)) == len(faults)


def test_the_tests_that_are_to_kill_are_there():
    for mutation in (*TABLE, *CHECKS):
        assert mutation.killers, mutation.name
        for killer in mutation.killers:
            file, _, name = killer.partition("::")
            assert (ROOT / file).is_file(), (mutation.name, file)
            if name and file.startswith("tests/"):
                assert name.split("[")[0] in functions_of(file), (mutation.name, killer)


def test_what_is_equivalent_has_a_reason():
    for mutation in TABLE:
        assert not (mutation.equivalent and mutation.only_exhaustive), mutation.name
        assert not mutation.equivalent or len(mutation.equivalent) > 40, mutation.name


@pytest.mark.exhaustive
def test_the_runner_tells_a_fault_from_a_changed_comment(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.mutations", "--jobs", "1"),
            *("--work", str(tmp_path), "check-killed", "check-survives"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "2 mutations: 1 killed, 1 surviving." in done.stdout
    assert "check-survives: SURVIVED (specjax/_tree.py)" in done.stdout
    assert "check-killed: SURVIVED" not in done.stdout
