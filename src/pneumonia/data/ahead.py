"""Results in order, computed on all cores a few items ahead of the reader."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def ahead(
    work: Callable[..., Result],
    items: Iterable[tuple[object, ...]],
    n_ahead: int | None = None,
    pool: Executor | None = None,
) -> Iterator[Result]:
    """`work(*item)` of each item, in order, while the pool works on the next ones.

    At most `n_ahead` (twice the number of cores if left out) wait for the reader, so memory does
    not grow with the number of items. If `work` raises, or the reader stops, the rest is dropped.

    The pool is one thread a core if left out: Pillow lets go of the interpreter while it decodes
    and resizes, so threads are as fast as processes and cannot outlive a killed stage.
    """
    n_cores = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with pool or ThreadPoolExecutor(n_cores) as workers:
        try:
            for item in items:
                waiting.append(workers.submit(work, *item))
                if len(waiting) > (n_ahead or 2 * n_cores):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            workers.shutdown(wait=False, cancel_futures=True)
