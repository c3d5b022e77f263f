"""The ways in which a run ends early, each told in one sentence."""


class UserError(Exception):
    """A wrong option, file or folder; the command line prints it and exits with 2."""


class Diverged(Exception):  # noqa: N818  (an outcome of training, not a mistake)
    """The losses are no longer finite; the command line prints it and exits with 1."""
