"""Decoding is safe from several threads, also for a type's first use: msgspec's own first look at a type is not."""

from __future__ import annotations

import subprocess
import sys
import threading

from raftctl.cluster.codec import first_look
from raftctl.controller.config import dump, parse_config
from tests.support.bootstrap_builders import configuration

PROGRAM = """
import sys, threading, time
import msgspec
from raftctl.cluster.codec import from_json, unpack
from raftctl.cluster.status_model import ClusterStatus

DATA = {"members": [{"mysql": {}, "raft": {}}], "quorum": {}}  # reaches into nested types, then is refused
JSON, PACKED = msgspec.json.encode(DATA), msgspec.msgpack.encode(DATA)
sys.setswitchinterval(1e-6)
start = threading.Barrier(3)

def decode(number):
    start.wait()
    time.sleep(number * 0.0005)  # into the middle of the first one's look
    try:
        unpack(PACKED, ClusterStatus) if number == 2 else from_json(JSON, ClusterStatus)
    except msgspec.DecodeError:
        pass

threads = [threading.Thread(target=decode, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_decoding_of_a_type_may_happen_in_several_threads_at_once() -> None:
    for _ in range(5):
        run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
        assert (run.returncode, run.stderr) == (0, "")


def test_configurations_of_several_hosts_are_not_looked_at_at_once() -> None:
    data, parsed = dump(configuration()), threading.Event()

    def parse() -> None:
        parse_config(data, name="controller.yaml")
        parsed.set()

    thread = threading.Thread(target=parse)
    with first_look:
        thread.start()
        assert not parsed.wait(0.3)
    thread.join()
    assert parsed.is_set()
