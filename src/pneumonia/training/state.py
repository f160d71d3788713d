"""The resumable state of one phase: one file, replaced whole after every epoch.

Keras' own callbacks do not resume a training: `EarlyStopping` forgets its wait and its best
weights, and `BackupAndRestore` writes weights and epoch one after the other.
"""

import fcntl
import hashlib
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pneumonia.errors import PipelineError
from pneumonia.store.files import replacing, sha256_of


@dataclass
class Progress:
    """What a phase knows after an epoch.

    Attributes:
        epoch: epochs finished.
        wait: epochs since the best one.
        best_epoch: the best epoch, from 0, as `select` has it; -1 before the first.
        history: a row an epoch: metric name to value.
    """

    epoch: int = 0
    wait: int = 0
    best_epoch: int = -1
    history: list[dict[str, float]] = field(default_factory=list)


class StateFile:
    """The resumable state of one phase: weights, optimiser, best weights, wait and history.

    It belongs to a fingerprint of parameters, inputs and code; a state of another fingerprint is
    no state.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint

    def save(self, variables: list[Any], progress: Progress, best: list[NDArray[Any]]) -> None:
        """Replace the file, whole, by the state after an epoch."""
        about = {"fingerprint": self._fingerprint, **asdict(progress)}
        arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
        arrays |= {f"variable{i}": np.asarray(v) for i, v in enumerate(variables)}
        arrays |= {f"best{i}": v for i, v in enumerate(best)}
        with replacing(self._path) as partial:
            np.savez(partial, **arrays)

    def load(self, variables: list[Any]) -> tuple[Progress, list[NDArray[Any]]]:
        """Fill the variables from the file and return progress and best weights.

        A missing file, or one of another fingerprint, leaves the variables as they are.

        Raises:
            PipelineError: the file is damaged.
        """
        if not self._path.exists():
            return Progress(), []
        try:
            with np.load(self._path, allow_pickle=False) as saved:
                about = json.loads(str(saved["about"]))
                if about.pop("fingerprint") != self._fingerprint:
                    return Progress(), []
                # All is read before anything is set.
                values = [saved[f"variable{i}"] for i in range(len(variables))]
                n_best = sum(name.startswith("best") for name in saved.files)
                best = [saved[f"best{i}"] for i in range(n_best)]
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
            raise PipelineError(
                f"{self._path}: expected the state of a training that was broken off. Received: a "
                f"damaged file; delete it, and the phase starts from its beginning"
            ) from error
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return Progress(**about), best


def fingerprint(params: Iterable[object], files: Iterable[Path]) -> str:
    """A hash of parameters, of the bytes of files, and of the code and backend that train.

    The code is that of the packages `store` and `training` and the running stage.
    """
    import keras

    package = Path(__file__).parents[1]
    code = {*package.glob("store/*.py"), *package.glob("training/*.py")}
    code.add(package / "data" / "remote_file.py")
    main = getattr(sys.modules["__main__"], "__file__", None)
    if main is not None:
        code.add(Path(main))
    parts = [repr(value) for value in params]
    parts += [sha256_of(path) for path in files]
    parts += sorted(sha256_of(path) for path in code)
    parts += [keras.__version__, keras.backend.backend()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a scratch folder within the block.

    `dvc repro` that is killed leaves its stage running; the next one must not become a second
    writer of the same state.

    Raises:
        PipelineError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise PipelineError(
                f"{folder}: another training ({file.read().strip() or 'unknown'}) works here. "
                f"Wait until it ends, or stop it, and start again"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()}\n")
        file.flush()
        yield
