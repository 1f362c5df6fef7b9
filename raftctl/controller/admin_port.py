"""Where the controller and its guard get in when `max_connections` is used up. Standard library only."""

from __future__ import annotations

import json
from pathlib import Path

FILES = "mysqld.json"  # mysql.tail.ServerFiles, as the running server told them


def remembered(directory: str | Path) -> int:
    """mysqld's administrative port as a controller saw it last, 0 when none is known."""
    try:
        return int(json.loads((Path(directory) / FILES).read_bytes()).get("admin_port", 0))
    except (OSError, ValueError):
        return 0
