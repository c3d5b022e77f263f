"""What the outcomes say of a mutation, and whether the table says the same."""

from typing import NamedTuple

from tests.mutations.child import Outcome
from tests.mutations.mutation import Mutation


class Verdict(NamedTuple):
    """One word for the count, and what is wrong, if anything is."""

    word: str
    problem: str = ""


def verdict_of(
    mutation: Mutation, fast: Outcome, slow: Outcome | None, *, exhaustive: bool
) -> Verdict:
    """Returns the verdict.

    Args:
        mutation: as in the table.
        fast: of the default tests.
        slow: of the exhaustive tests, if they were run.
        exhaustive: whether survivors of the default tests were to meet those.
    """
    name = mutation.name
    if fast.status == "FAILED":
        if mutation.equivalent:
            return Verdict(
                "killed", f"{name}: listed as equivalent, but {fast.by} fails"
            )
        if mutation.only_exhaustive:
            problem = f"{name}: listed as only_exhaustive, but {fast.by} fails"
            return Verdict("killed", problem)
        return Verdict("killed")
    broken = next((o for o in (fast, slow) if o and o.status in _NO_ANSWER), None)
    if broken is not None:
        # A package that cannot be imported says nothing of the tests.
        return Verdict("undecided", f"{name}: {broken.status}, {broken.by}")
    if mutation.equivalent:
        return Verdict("equivalent")
    if slow is not None and slow.status == "FAILED":
        if mutation.only_exhaustive:
            return Verdict("killed by the exhaustive tests alone")
        problem = f"{name}: only {slow.by} fails; list it as only_exhaustive"
        return Verdict("killed by the exhaustive tests alone", problem)
    if mutation.only_exhaustive and not exhaustive:
        return Verdict("left to the exhaustive tests")
    return Verdict("surviving", f"{name}: SURVIVED ({mutation.file})")


_NO_ANSWER = ("BROKEN", "TIMEOUT")
