"""Binary log files made to order, in the format of a server that writes GTIDs and checksums."""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path

from raftctl.cluster.gtid import GTIDSet, Interval
from raftctl.mysql.binlog import MAGIC
from raftctl.mysql.binlog_events import EventType
from raftctl.mysql.tail import ServerFiles

IN_USE = 1
HEADER_BYTES = 19
XID_BODY = (7).to_bytes(8, "little")
TABLE_MAP = 19  # stands for what changes rows; nobody looks into it


def event(kind: int, body: bytes, *, flags: int = 0) -> bytes:
    size = HEADER_BYTES + len(body) + 4
    head = struct.pack("<IBIIIH", 0, kind, 1, size, 0, flags & ~IN_USE)
    checksum = zlib.crc32(head + body)
    return struct.pack("<IBIIIH", 0, kind, 1, size, 0, flags) + body + checksum.to_bytes(4, "little")


def description(*, in_use: bool) -> bytes:
    body = struct.pack("<H50sIB", 4, b"8.4.0", 0, HEADER_BYTES) + bytes(42) + b"\x01"
    return event(EventType.FORMAT_DESCRIPTION, body, flags=IN_USE if in_use else 0)


def previous_gtids(gtids: GTIDSet) -> bytes:
    """Without tags."""
    body = len(gtids.uuids()).to_bytes(8, "little")
    for source in gtids.uuids():
        intervals = list(gtids.restrict(source).intervals())
        body += uuid.UUID(source).bytes + len(intervals).to_bytes(8, "little")
        body += b"".join(struct.pack("<QQ", i.first, i.last + 1) for i in intervals)
    return event(EventType.PREVIOUS_GTIDS, body)


def transaction(gtid: Interval, *, rows: bytes = b"rows", end: bytes = b"") -> bytes:
    """`end` is the last event: an XID unless given."""
    contents = event(TABLE_MAP, rows) + (end or event(EventType.XID, XID_BODY))
    head = struct.pack("<B16sQBqq", 0, uuid.UUID(gtid.uuid).bytes, gtid.first, 2, 0, 1) + bytes(7)
    length = HEADER_BYTES + len(head) + 9 + 4 + len(contents)
    return event(EventType.GTID, head + b"\xfe" + length.to_bytes(8, "little")) + contents


def ddl(gtid: Interval, *, atomic: bool) -> bytes:
    variables = b"\x00\x00\x00\x00\x00" + (b"\x11" + bytes(8) if atomic else b"")
    query = struct.pack("<IIBHH", 1, 0, 0, 0, len(variables)) + variables + b"\0DROP TABLE t"
    return transaction(gtid, end=event(EventType.QUERY, query))


def binlog(previous: GTIDSet, transactions: Iterable[bytes], *, in_use: bool = True) -> bytes:
    return MAGIC + description(in_use=in_use) + previous_gtids(previous) + b"".join(transactions)


def data_directory(path: Path, contents: bytes, *, name: str = "binlog.000002") -> ServerFiles:
    """A data directory whose server wrote `contents` last."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "binlog.index").write_text(f"./binlog.000001\n./{name}\n")
    (path / name).write_bytes(contents)
    (path / "auto.cnf").write_text("[auto]\nserver-uuid=...\n")
    (path / "ibdata1").touch()
    return ServerFiles(
        datadir=str(path), binlog_index=str(path / "binlog.index"), system_tablespace=str(path / "ibdata1")
    )
