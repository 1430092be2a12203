"""Many processes, many machines: a pool that outlives its workers, and what the ranks of torchrun have in common."""

import json
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from typing import TYPE_CHECKING

from pebble import ProcessPool

if TYPE_CHECKING:
    from torch.distributed import Store

MAX_BROKEN = 3  # pools in a row that get nothing done


class OwnStore(dict):
    """What a process without companions needs of torch.distributed's store."""

    set = dict.__setitem__

    def add(self, key: str, n: int) -> int:
        self[key] = self.get(key, 0) + n
        return self[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


class Launch:
    """How this process was started: by torchrun as one of several ranks, or alone."""

    def __init__(self):
        self.rank, self.local_rank = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
        self.size, self.local_size = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.is_launched = "TORCHELASTIC_RUN_ID" in os.environ  # by torchrun
        self.n_restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))

    def store(self) -> "Store":
        """The ranks' common store of torch.distributed."""
        from torch.distributed import PrefixStore, rendezvous

        store, _, _ = next(rendezvous("env://"))
        if self.size == self.local_size:  # one machine's store outlives a restart; several ones get a new store
            store = PrefixStore(f"attempt {self.n_restarts}", store)
        return store


class Group(Launch):
    """This process and its companions, which share counters and values."""

    def __init__(self):
        super().__init__()
        self._store = self.store() if self.size > 1 else OwnStore()

    def add(self, name: str, n: int = 1) -> int:
        """Add to a counter of the group, 0 at first, and return it."""
        return self._store.add(name, n)

    def share(self, name: str, value: object) -> None:
        """Make a value, anything that JSON holds, known to the group."""
        self._store.set(name, zlib.compress(json.dumps(value).encode()))

    def get(self, name: str) -> object:
        """A value that some member shares, or will: waits for it."""
        while not self._store.check([name]):  # and not in the store's own wait, which no signal ends
            time.sleep(0.2)
        return json.loads(zlib.decompress(self._store.get(name)))


def _start_worker(initializer: Callable, initargs: tuple) -> None:
    """In a new worker: leave Ctrl-C to the parent, but end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()
    initializer(*initargs)


@contextmanager
def _without_interrupt() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the end: a worker whose start is broken off has nobody to give it work or to stop it.
    And Ctrl-C for good in the threads and processes that are started: these begin by importing.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in numbers}
    # both: what this thread does not take, another one may, and then Python calls the handler here all the same
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

    Yields (task, its future) in order of completion, and None about once a second while nothing completes. A worker that dies
    costs its task only: the future's exception is then `pebble.ProcessExpired`, and a new worker takes its place.

    Raises:
        BrokenProcessPool: workers die before they have a task, `MAX_BROKEN` times in a row.
    """

    def start() -> ProcessPool:
        return ProcessPool(n_workers, initializer=_start_worker, initargs=(initializer, initargs), context=get_context("spawn"))

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
                except (BrokenProcessPool, RuntimeError):  # the latter once the former has happened in a thread of the pool
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
            if is_broken:  # a worker was killed while it started: the pool gives up then, and another one goes on
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
