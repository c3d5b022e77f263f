"""The GAN example as a program of its own, that may kill itself; without its score.

    python gan_program.py STEP [the example's options]

In the update after STEP it gets a real SIGKILL. 0: never; "score": never, and it draws
and scores at the end, with a short classifier.
"""

import os
import signal
import sys
from typing import Any

from examples.gan import __main__ as program
from examples.gan import classifier, loop, score
from examples.gan.data import real_on


def kill_after(step: int) -> None:
    """Sends SIGKILL when the batch after this many is asked for."""
    left = [step]

    def images(*arguments: Any) -> Any:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real_on(*arguments)

    loop.real_on = images


if __name__ == "__main__":
    loop._LOG_EVERY = 1
    classifier._STEPS, score._N_FAKE, score._N_CLASSIFIED = 10, 250, 200
    if sys.argv[1] != "score":
        program._finish = lambda *arguments: None
        kill_after(int(sys.argv[1]) or -1)
    sys.exit(program.main(sys.argv[2:]))
