"""The option file that makes a server a member: raftctl's settings, and what the server keeps of its own. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

from raftctl.inventory.model import InventoryHost
from raftctl.mysql.server_config import member_settings, render
from raftctl.mysql.version import ServerVersion

FILE_NAME: Final = "zz-raftctl.cnf"  # an include directory is read in alphabetical order, the last value counts
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADER: Final = "# Written by `raftctl bootstrap`, and overwritten by it. mysqld reads it last.\n"


def option_file(host: InventoryHost, cluster_id: str, *, version: str, variables: Mapping[str, str]) -> bytes:
    """`version` and `variables` are the running server's. Written again from what it then says, it is the same."""
    parsed = ServerVersion.parse(version)
    settings = member_settings(
        version=(parsed.major, parsed.minor, parsed.patch),
        server_id=server_id(cluster_id, host.name),
        report_host=host.address,
        report_port=host.mysql_port,
        admin_port=int(variables.get("admin_port", "33062")),
    )
    return (_HEADER + render(settings, _kept(host, variables))).encode()


def server_id(cluster_id: str, member: str) -> int:
    """1 to 2**32 - 1, the same whenever it is asked for, different for each member (preflight checks that)."""
    return zlib.crc32(f"{cluster_id}/{member}".encode()) or 1


def _kept(host: InventoryHost, variables: Mapping[str, str]) -> dict[str, str]:
    """Log files under other names would hide the present ones, and with them transactions, from the server."""
    kept = {"port": str(host.mysql_port), "socket": host.mysql_socket}
    if binlog := variables.get("log_bin_basename", ""):
        kept["log_bin"] = binlog
    if relay_log := variables.get("relay_log_basename", ""):
        kept["relay_log"] = relay_log
    bound = variables.get("bind_address", "*")
    kept["bind_address"] = "*" if bound in _LOOPBACK else bound
    return kept
