"""A pool of processes that outlives its workers."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker

from pebble import ProcessPool

MAX_BROKEN = 3  # pools in a row that get nothing done


def _begin_work(initializer: Callable, initargs: tuple) -> None:
    """In a new worker: leave Ctrl-C to the parent, but end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    initializer(*initargs)


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


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


class _Workers:
    """Worker processes with the tasks that they have in hand; `restart` puts others in their place."""

    def __init__(self, function: Callable, n_workers: int, initializer: Callable, initargs: tuple):
        self.pending: dict[Future, tuple] = {}  # task by its future
        self.again: list[tuple] = []  # tasks that are to be done first, since a pool broke that had them
        self._function = function
        self._n_workers = n_workers
        self._initargs = (initializer, initargs)
        self.n_broken = 0  # pools in a row that got nothing done
        self._pool = self._start()

    def _start(self) -> ProcessPool:
        context = get_context("spawn")
        return ProcessPool(self._n_workers, initializer=_begin_work, initargs=self._initargs, context=context)

    def give(self, tasks: Iterator[tuple]) -> bool:
        """Give out tasks until one waits, so that no worker is idle; False if the pool turns out broken."""
        while len(self.pending) <= self._n_workers:
            if (task := self.again.pop(0) if self.again else next(tasks, None)) is None:
                break
            try:
                with _without_interrupt():
                    self.pending[self._pool.schedule(self._function, args=task)] = task
            # RuntimeError once the pool has found out, in a thread of its own, that it is broken
            except (BrokenProcessPool, RuntimeError):
                self.again.insert(0, task)
                return False
        return True

    def done(self, timeout_s: float) -> list[tuple[tuple, Future]]:
        """The tasks that are done by now, with their futures; waits for the first one for so long."""
        futures = wait(self.pending, timeout=timeout_s, return_when=FIRST_COMPLETED).done
        return [(self.pending.pop(future), future) for future in futures]

    def restart(self) -> None:
        """A worker was killed while it started, and the pool gives up then: begin another one."""
        self.n_broken += 1
        if self.n_broken == MAX_BROKEN:
            raise BrokenProcessPool("workers die as soon as they start")
        self.again += self.pending.values()
        self.pending.clear()
        self.stop()
        self._pool = self._start()

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()


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
    tasks, workers = iter(tasks), _Workers(function, n_workers, initializer, initargs)
    try:
        while not (is_whole := workers.give(tasks)) or workers.pending:
            done = workers.done(timeout_s=1 if is_whole else 0)
            for task, future in done:
                if isinstance(future.exception(), BrokenProcessPool):
                    workers.again.append(task)
                    is_whole = False
                else:
                    workers.n_broken = 0
                    yield task, future
            if not is_whole:
                workers.restart()
            if not done:
                yield None
    finally:
        workers.stop()
