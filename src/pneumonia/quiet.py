"""Start Keras without the lines that TensorFlow, oneDNN, CUDA and absl write while they start.

No environment variable takes all of them: some are written before logging is configured. So file
descriptor 2 is held back for that while, and what was held is written out where the start fails.
"""

import faulthandler
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@functools.cache
def start_keras() -> Any:
    """The module `keras`, its backend loaded, its devices found, one operation done."""
    # Of later lines, as that of the first batch of a `PyDataset`, only warnings and errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with held_back(2):
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()
        keras.ops.convert_to_numpy(keras.ops.add(1.0, 1.0))
    return keras


@contextmanager
def held_back(*descriptors: int, expected: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Within the block, output to these file descriptors is held back.

    It is shown if the block ends with an error that is not `expected`.
    """
    _flush()
    kept = {number: os.dup(number) for number in descriptors}
    # A crash of the process itself must still be seen.
    crashes_shown = faulthandler.is_enabled()
    if not crashes_shown:
        faulthandler.enable(kept[2])
    try:
        with tempfile.TemporaryFile() as held:
            for number in descriptors:
                os.dup2(held.fileno(), number)
            try:
                yield
            except Exception as error:
                if not isinstance(error, expected):
                    _flush()
                    held.seek(0)
                    os.write(kept[2], held.read())
                raise
            finally:
                _flush()
                for number, place in kept.items():
                    os.dup2(place, number)
    finally:
        if not crashes_shown:
            faulthandler.disable()
        for place in kept.values():
            os.close(place)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
