"""As `raft_process`, on a system that forgot how to sync a file: to show that a test of durability can fail."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from tests.support.raft_process import Process

if __name__ == "__main__":
    os.fdatasync = lambda _fd: None
    asyncio.run(Process(json.loads(Path(sys.argv[1]).read_text())).run())
