"""How this process was started, and what it shares with its companions: without PyTorch, unless torchrun
started it.
"""

import json
import os
import time
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed import Store


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
        self.rank = int(os.environ.get("RANK", 0))
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        self.size = int(os.environ.get("WORLD_SIZE", 1))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self.is_launched = "TORCHELASTIC_RUN_ID" in os.environ  # by torchrun
        self.n_restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))

    def store(self) -> "Store":
        """The ranks' common store of torch.distributed."""
        from torch.distributed import PrefixStore, rendezvous

        store, _, _ = next(rendezvous("env://"))
        # one machine's store outlives a restart; several ones get a new store
        if self.size == self.local_size:
            store = PrefixStore(f"attempt {self.n_restarts}", store)
        return store


class Group(Launch):
    """This process and its companions, which share counters and values."""

    def __init__(self):
        super().__init__()
        self._store: Any = self.store() if self.size > 1 else OwnStore()

    def add(self, name: str, n: int = 1) -> int:
        """Add to a counter of the group, 0 at first, and return it."""
        return self._store.add(name, n)

    def share(self, name: str, value: object) -> None:
        """Make a value, anything that JSON holds, known to the group."""
        self._store.set(name, zlib.compress(json.dumps(value).encode()))

    def get(self, name: str) -> Any:
        """A value that some member shares, or will: waits for it."""
        while not self._store.check([name]):  # and not in the store's own wait, which no signal ends
            time.sleep(0.2)
        return json.loads(zlib.decompress(self._store.get(name)))
