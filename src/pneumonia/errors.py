"""What a person at the keyboard can put right, and how a stage says it."""

import logging
import sys
from collections.abc import Callable


class PipelineError(Exception):
    """Something the user can mend: what is wrong, where, what was received, what is accepted."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage; a `PipelineError` becomes one line and exit status 1, a bug keeps its traceback.

    Ctrl-C ends with one line and status 130.

    Log lines go to standard error, one a message, as `stage: text`.
    """
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    # Only our own loggers speak at INFO.
    for chatty in ("absl", "aiobotocore", "dvc", "dvclive", "matplotlib", "PIL", "tensorflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)  # 128 and the number of SIGINT, as shells have it
    except PipelineError as error:
        sys.exit(f"error: {error}")
