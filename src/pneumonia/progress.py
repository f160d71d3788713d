"""Progress of slow work: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

_EVERY_S = 10.0


def reported(items: Iterable[Item], n_items: int, what: str, log: logging.Logger) -> Iterator[Item]:
    """The same items, with a bar on a terminal, or else a line to `log` every ten seconds.

    Args:
        items: each made when it is asked for.
        n_items: how many there are.
        what: the words after their number, "images decoded".
        log: where the lines go.
    """
    said_at = time.monotonic()
    with tqdm(total=n_items, desc=what, disable=not sys.stderr.isatty()) as bar:
        for n_done, item in enumerate(items):
            if bar.disable and time.monotonic() - said_at >= _EVERY_S:
                said_at = time.monotonic()
                log.info("%d of %d %s", n_done, n_items, what)
            yield item
            bar.update()
