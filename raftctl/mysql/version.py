"""Server versions: which are supported, and the statements whose names changed between them.

From 8.0.26 on, every other statement and variable that raftctl uses has the name it still has in 9.x: `CHANGE
REPLICATION SOURCE TO` (8.0.23), `SHOW REPLICA STATUS` (8.0.22), `rpl_semi_sync_source_*` (8.0.26).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from raftctl.errors import MySQLError

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


class ServerVersion(NamedTuple):
    """A MySQL version, comparable: `ServerVersion.parse("8.4.3-3 Percona") >= (8, 4, 0)`."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> ServerVersion:
        """Read the value of `@@version`. Raises MySQLError for MariaDB and for anything before 8.0.26."""
        match = _VERSION.match(text)
        if match is None or "mariadb" in text.lower():
            raise MySQLError(
                f"server version {text!r} is not MySQL's",
                hint="raftctl needs MySQL or Percona Server 8.0.26 or later; MariaDB's GTIDs are different",
            )
        version = cls(*(int(number) for number in match.groups()))
        if version < MINIMUM:
            raise MySQLError(
                f"MySQL {text} is too old",
                hint=f"upgrade to {MINIMUM} or later: that version named the semi-sync plugins anew",
            )
        return version

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def reset_binary_logs(self) -> str:
        """The statement that deletes all binary logs and the GTID history (renamed in 8.2.0)."""
        return "RESET BINARY LOGS AND GTIDS" if self >= (8, 2, 0) else "RESET MASTER"


MINIMUM = ServerVersion(8, 0, 26)
