"""A client that never stops proposing, and remembers what it was told."""

from __future__ import annotations

import random
import threading
import time

from tests.support.raft_cluster import RaftCluster, Unreachable


class Writer(threading.Thread):
    """Proposes w.0, w.1, ... to any member that leads."""

    def __init__(self, cluster: RaftCluster, name: str, rng: random.Random) -> None:
        super().__init__(name=name)
        self.acknowledged: list[str] = []
        self.denied: list[str] = []  # certainly never took effect
        self.ended = threading.Event()
        self._members = list(cluster.members.values())
        self._rng = rng

    def run(self) -> None:
        number = 0
        while not self.ended.is_set():
            value = f"{self.name}.{number}"
            try:
                answer = self._rng.choice(self._members).ask("propose", data=value, timeout=1.0, wait=2.0)
            except Unreachable:
                number += 1  # unknown: it may have been accepted before the process died
                continue
            if "ok" in answer:
                self.acknowledged.append(value)
            elif answer["error"] == "not-leader":
                time.sleep(0.002)
                continue
            elif answer["error"] == "lost":
                self.denied.append(value)
            number += 1
