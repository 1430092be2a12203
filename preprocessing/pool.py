"""Many processes, many machines: a pool that outlives its workers, and what the ranks of torchrun have in
common.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from typing import TYPE_CHECKING

from pebble import ProcessPool

if TYPE_CHECKING:
    pass

MAX_BROKEN = 3  # pools in a row that get nothing done


def _start_worker(initializer: Callable, initargs: tuple) -> None:
    """In a new worker: leave Ctrl-C to the parent, but end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    initializer(*initargs)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end: a worker whose start is broken off has nobody to give it
    work or to stop it. And Ctrl-C for good in the threads and processes that are started: these begin by
    importing.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in numbers}
    # both: what this thread does not take, another one may, and then Python calls the handler here all the
    # same
    for number in (number for number in numbers if callable(handlers[number])):
        signal.signal(number, lambda number, _: held.append(number))
    resource_tracker.ensure_running()  # its start lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def run_in_pool(
    function: Callable, tasks: Iterable[tuple], n_workers: int, initializer: Callable, initargs: tuple
) -> Iterator[tuple[tuple, Future] | None]:
    """Call function(*task) for each task in worker processes.

    Yields (task, its future) in order of completion, and None about once a second while nothing completes. A
    worker that dies costs its task only: the future's exception is then `pebble.ProcessExpired`, and a new
    worker takes its place.

    Raises:
        BrokenProcessPool: workers die before they have a task, `MAX_BROKEN` times in a row.
    """

    def start() -> ProcessPool:
        return ProcessPool(
            n_workers,
            initializer=_start_worker,
            initargs=(initializer, initargs),
            context=get_context("spawn"),
        )

    tasks, again, pending = iter(tasks), [], {}
    pool, n_broken = start(), 0
    try:
        while True:
            is_broken = False
            while len(pending) <= n_workers:  # one waits, so that none is idle
                if (task := again.pop(0) if again else next(tasks, None)) is None:
                    break
                try:
                    with _without_interrupt():
                        pending[pool.schedule(function, args=task)] = task
                except (
                    BrokenProcessPool,
                    RuntimeError,
                ):  # the latter once the former has happened in a thread of the pool
                    again.insert(0, task)
                    is_broken = True
                    break
            if not pending and not is_broken:
                break
            done = wait(pending, timeout=0 if is_broken else 1, return_when=FIRST_COMPLETED).done
            for future in done:
                task = pending.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    again.append(task)
                    is_broken = True
                else:
                    n_broken = 0
                    yield task, future
            if (
                is_broken
            ):  # a worker was killed while it started: the pool gives up then, and another one goes on
                n_broken += 1
                if n_broken == MAX_BROKEN:
                    raise BrokenProcessPool("workers die as soon as they start")
                again += pending.values()
                pending.clear()
                pool.stop()
                pool.join()
                pool = start()
            if not done:
                yield None
    finally:
        pool.stop()
        pool.join()
