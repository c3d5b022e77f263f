"""What is shipped: the sdist and the wheel hold what git tracks, and no less."""

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[1]


def git_files(*options):
    """Returns the names of files that are there, as git lists them."""
    command = ["git", "ls-files", "-z", *options]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    names = listed.stdout.decode().split("\0")[:-1]
    return {name for name in names if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("needs a clone: git's list of files")
    return git_files("--cached")


@pytest.fixture(scope="module")
def not_ignored(tracked):
    """Returns what git tracks, and files that are not added yet."""
    return tracked | git_files("--others", "--exclude-standard")


@pytest.fixture(scope="module")
def wheel_files():
    path = ROOT / ".ci" / "wheel_files.py"
    if not path.exists():
        pytest.skip("needs a clone or the sdist: .ci/wheel_files.py")
    spec = importlib.util.spec_from_file_location("wheel_files", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if not (ROOT / "specjax").exists():
        pytest.skip("needs the source: a wheel is built from it")
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(
        directory=str(folder), versions=["standard"]
    )
    return Path(path)


def test_the_sdist_holds_what_git_tracks(tracked, not_ignored, tmp_path):
    builder = SdistBuilder(str(ROOT))
    (path,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
    assert len(tracked) > 400
    assert sorted(tracked - set(names)) == []
    assert sorted(set(names) - not_ignored) == ["PKG-INFO"]


def test_the_wheel_holds_the_package_as_git_tracks_it(
    tracked, not_ignored, wheel, wheel_files
):
    members = zipfile.ZipFile(wheel).namelist()
    package = {name for name in tracked if name.startswith("specjax/")}
    assert {"specjax/py.typed", "specjax/__init__.py"} <= package
    assert wheel_files.differences(members, package & set(members)) == []
    assert sorted(package - set(members)) == []


def test_the_check_of_a_wheel_refuses_another_list_of_files(wheel, wheel_files):
    members = zipfile.ZipFile(wheel).namelist()
    package = [name for name in members if ".dist-info/" not in name]
    assert wheel_files.differences(members, package) == []
    less = [name for name in members if name != "specjax/py.typed"]
    assert wheel_files.differences(less, package) == ["lacks specjax/py.typed"]
    more = [*members, "specjax/notes.txt"]
    wrong = wheel_files.differences(more, package)
    assert wrong == ["has specjax/notes.txt, which git does not track"]
    bare = [name for name in members if not name.endswith("/RECORD")]
    assert wheel_files.differences(bare, package) == ["lacks its RECORD"]
    names = wheel_files.modules_of(members)
    assert {"specjax", "specjax.__main__", "specjax.bounds._upper"} <= set(names)
    assert len(names) == sum(name.endswith(".py") for name in members)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("", ""),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
        ("import no_such_module", "No module named 'no_such_module'"),
    ],
)
def test_the_check_of_a_wheel_imports_its_modules(
    wheel_files, monkeypatch, tmp_path, capfd, code, sentence
):
    """A package of two modules, on the path of this very Python."""
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "__init__.py").touch()
    (tmp_path / "small" / "part.py").write_text(code)
    path = tmp_path / "small.whl"
    metadata = [f"small.dist-info/{name}" for name in wheel_files._METADATA]
    files = ["small/__init__.py", "small/part.py"]
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*files, *metadata]:
            archive.writestr(name, "")
    monkeypatch.setattr(wheel_files, "tracked", lambda: files)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    if not code:
        wheel_files.main([str(path), sys.executable])
        assert "2 modules" in capfd.readouterr().out
        return
    with pytest.raises(SystemExit, match="a module does not import"):
        wheel_files.main([str(path), sys.executable])
    assert sentence in capfd.readouterr().err
