"""Files of other libraries, read for the command line: nothing is unpickled."""

__all__: list[str] = []
