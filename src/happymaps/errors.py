"""The one error a user is meant to read, and how a program ends on it."""

import gc
import sys
from collections.abc import Callable


class InputError(Exception):
    """Something given from outside is wrong: the message says what, where, and what is right."""


def exit_on_error(main: Callable[[], None]) -> None:
    """Run `main`; an `InputError` becomes one line on standard error and exit code 1.

    Interrupted, it ends without a word and as a shell says it, with code 130.
    """
    # What is imported is no garbage, and to search PyTorch for some at the end takes half a second.
    gc.freeze()
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
