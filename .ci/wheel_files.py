"""A wheel holds the package's files, all and no other, and each module of it imports.

    python .ci/wheel_files.py WHEEL PYTHON

WHEEL is the built file; PYTHON is that of an environment where it is installed with its
extras. Without PYTHON nothing is imported. What should be there is what git tracks.
"""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "specjax"
_METADATA = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}
# A folder that has no source is the working directory; a warning is an error.
_IMPORT_ALL = """
import importlib, pathlib, sys
for name in sys.argv[2:]:
    module = importlib.import_module(name)
    if pathlib.Path(sys.argv[1]) in pathlib.Path(module.__file__).parents:
        sys.exit(f"{name} is that of the source: {module.__file__}")
"""


def main(arguments: list[str]) -> None:
    """Compares, imports, and ends with a sentence for what is wrong."""
    wheel, *pythons = arguments
    members = zipfile.ZipFile(wheel).namelist()
    wrong = differences(members, tracked())
    if wrong:
        sys.exit("\n".join([f"{wheel}:", *wrong]))
    modules = modules_of(members)
    for python in pythons:
        source = str(ROOT / PACKAGE)
        command = [python, "-W", "error", "-c", _IMPORT_ALL, source, *modules]
        with tempfile.TemporaryDirectory() as elsewhere:
            if subprocess.run(command, cwd=elsewhere, check=False).returncode:
                sys.exit(f"{wheel}: a module does not import without a warning.")
    print(f"{len(members)} files, {len(modules)} modules: as git has them.")


def tracked() -> list[str]:
    """Returns the package's files in git."""
    command = ["git", "ls-files", "-z", PACKAGE]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split("\0")[:-1]


def differences(members: Iterable[str], files: Iterable[str]) -> list[str]:
    """Returns a line for each file that a wheel lacks, or should not have."""
    metadata = {name for name in members if ".dist-info/" in name}
    package, files = set(members) - metadata, set(files)
    metadata = {name.split("/", 1)[1] for name in metadata}
    return [
        *(f"lacks {name}" for name in sorted(files - package)),
        *(f"lacks its {name}" for name in sorted(_METADATA - metadata)),
        *(f"has {name}, which git does not track" for name in sorted(package - files)),
    ]


def modules_of(members: Iterable[str]) -> list[str]:
    """Returns the names of the modules among the files."""
    files = [Path(name) for name in members if name.endswith(".py")]
    parts = (file.with_suffix("").parts for file in files)
    return sorted(
        ".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts
    )


if __name__ == "__main__":
    main(sys.argv[1:])
