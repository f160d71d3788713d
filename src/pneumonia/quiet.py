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
    with standard_error_held_back():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow

            tensorflow.config.list_physical_devices()
        keras.ops.convert_to_numpy(keras.ops.add(1.0, 1.0))
    return keras


@contextmanager
def standard_error_held_back() -> Iterator[None]:
    """Within the block, what is written to file descriptor 2 is shown only if the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    # A crash of the process itself must still be seen.
    crashes_shown = faulthandler.is_enabled()
    if not crashes_shown:
        faulthandler.enable(kept)
    try:
        with tempfile.TemporaryFile() as held:
            os.dup2(held.fileno(), 2)
            try:
                yield
            except Exception:
                held.seek(0)
                os.write(kept, held.read())
                raise
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
    finally:
        if not crashes_shown:
            faulthandler.disable()
        os.close(kept)
