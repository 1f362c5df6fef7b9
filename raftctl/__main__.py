"""The program `raftctl`, also as `python -m raftctl`.

What systemd starts goes past the command line's library, which takes as long to load as these programs themselves:
mysqld, and a controller that comes back, must not wait for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from raftctl.controller.programs import PROGRAMS


def main() -> None:
    match sys.argv[1:]:
        case ["controller", name, "--config", config] if name in PROGRAMS:
            from raftctl.cli.edge import run_and_exit

            run_and_exit(lambda: PROGRAMS[name](Path(config)))
        case _:
            from raftctl.cli.main import main as command_line

            command_line()


if __name__ == "__main__":
    main()
