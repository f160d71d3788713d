"""The file of a weights record: from a mirror or from the internet, and checked.

Apart from the records, so that a change of how files are downloaded does not run `finetune` again.
"""

import os
from pathlib import Path

from pneumonia.data.downloads import obtain
from pneumonia.training.weights import WEIGHTS

WAYS_OUT = (
    "download the file elsewhere and name its folder in PNEUMONIA_MIRROR, or set `model.weights: "
    "none`, or run `make demo`, which needs no weights"
)


def obtain_weights(backbone: str, weights: str) -> Path | None:
    """The verified file of a weights record; None for `none`, which means random weights.

    Raises:
        PipelineError: it is in no mirror and cannot be downloaded, or is not the file recorded.
    """
    if weights == "none":
        return None
    remote = WEIGHTS[backbone][weights].remote
    # The folder that Keras itself downloads to, so that a file it has already fetched serves.
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    destination = home / "models" / remote.file
    obtain(remote, destination, WAYS_OUT)
    return destination
