"""One mutation: a fault that is put into a copy of the package, and who sees it."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Mutation(NamedTuple):
    """A change of one place in one file, by name.

    Attributes:
        name: what the command line calls it.
        file: of the package, from the root of the checkout.
        old: the text that is replaced; it occurs exactly once in the file.
        new: what is put in its place.
        killers: the tests that must fail, by file or node id, the likeliest first.
        equivalent: why no input can tell, if none can. It must survive then.
        only_exhaustive: whether only the tests marked `exhaustive` in the files of
            the killers see it. It must survive the default ones then.
    """

    name: str
    file: str
    old: str
    new: str
    killers: tuple[str, ...]
    equivalent: str = ""
    only_exhaustive: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the killers."""
        return tuple(dict.fromkeys(killer.split("::")[0] for killer in self.killers))

    def applied(self, text: str) -> str:
        """Returns the file's text with the mutation in it.

        Raises:
            ValueError: if the old text is not there exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {text.count(self.old)} times {self.old}")
        return text.replace(self.old, self.new)
