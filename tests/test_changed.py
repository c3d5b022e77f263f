"""The command for the tests of what has changed."""

import subprocess

import pytest

from tests import changed
from tests.mutations.table import TABLE


def test_a_source_file_has_the_tests_that_kill_its_mutations():
    for mutation in TABLE:
        files = {killer.split("::")[0] for killer in mutation.killers}
        assert files <= set(changed.tests_of([mutation.file])), mutation.name


def test_every_source_file_has_some_tests():
    listed = subprocess.run(
        ("git", "ls-files", "specjax/*.py", "examples/*.py", "*.md"),
        cwd=changed.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip(f"git says: {listed.stderr}")
    paths = listed.stdout.split()
    assert len(paths) > 100
    for path in paths:
        tests = changed.tests_of([path])
        assert tests, path
        assert [test for test in tests if not (changed.ROOT / test).is_file()] == []


def test_a_test_file_is_its_own_test_and_none_is_run_twice():
    paths = ["tests/test_nnx.py", "specjax/nnx.py", "pyproject.toml"]
    tests = changed.tests_of(paths)
    assert "tests/test_nnx.py" in tests
    assert len(tests) == len(set(tests))
    assert changed.tests_of(["pyproject.toml"]) == []


def test_new_and_changed_files_of_a_commit_are_found(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(("git", *who, *words), cwd=tmp_path, check=True)

    git("init", "--quiet")
    (tmp_path / "kept.py").write_text("1")
    (tmp_path / "gone.py").write_text("1")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    monkeypatch.setattr(changed, "ROOT", tmp_path)
    assert changed.changed("HEAD") == []
    (tmp_path / "kept.py").write_text("2")
    (tmp_path / "gone.py").unlink()
    (tmp_path / "new.py").write_text("1")
    assert changed.changed("HEAD") == ["kept.py", "new.py"]


def test_without_a_change_nothing_is_run(monkeypatch, capsys):
    monkeypatch.setattr(changed, "changed", lambda since: ["LICENSE"])
    assert changed.main([]) == 0
    assert "No test is near LICENSE" in capsys.readouterr().err
