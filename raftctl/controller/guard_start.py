"""`raftctl controller guard`: reads the controller's configuration and becomes the guard."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from raftctl.controller import guard
from raftctl.controller.config import load
from raftctl.errors import UsageError


def become_guard(config_path: Path) -> NoReturn:
    """Replaces this process by the guard's: what read the configuration takes memory that the guard must not need.

    Raises UsageError, for a witness too."""
    config = load(config_path)
    if config.mysql is None:
        raise UsageError(f"{config.node} is a witness: it has no mysqld to guard")
    settings = guard.Settings(
        node=config.node,
        directory=config.directory,
        secrets_file=config.secrets_file,
        mysql_socket=config.mysql.socket,
        mysql_user=config.mysql.user,
        services_socket=config.services.socket,
        mysqld_unit=config.services.mysqld_unit,
    )
    command = [sys.executable, "-m", guard.__name__, json.dumps(dataclasses.asdict(settings))]
    os.execv(sys.executable, command)  # noqa: S606 (no shell is wanted)
