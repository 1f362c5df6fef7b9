"""Damages a table of a stopped server in the way of an interrupted copy: a page of a later state than the redo log."""

from __future__ import annotations

from pathlib import Path

PAGE_BYTES = 16384
_NO_CHECKSUM = 0xDEADBEEF.to_bytes(4, "big")  # BUF_NO_CHECKSUM_MAGIC, which innodb_checksum_algorithm=crc32 accepts
_LSN_AT, _CHECKSUM_AT, _TRAILER_AT = 16, 0, PAGE_BYTES - 8
_FUTURE = (1 << 50).to_bytes(8, "big")


def has_pages(tablespace: Path) -> bool:
    """Whether the server wrote any page of `tablespace` (`database/table.ibd`) to disk, with rows or not."""
    return tablespace.exists() and _last_page(tablespace.read_bytes()) is not None


def age_last_page(tablespace: Path) -> None:
    """Give the last page in use an LSN that was not reached yet. The server is down."""
    contents = bytearray(tablespace.read_bytes())
    begin = _last_page(contents)
    assert begin is not None, f"{tablespace} has no page in use"
    contents[begin + _CHECKSUM_AT : begin + 4] = _NO_CHECKSUM
    contents[begin + _LSN_AT : begin + _LSN_AT + 8] = _FUTURE
    contents[begin + _TRAILER_AT : begin + PAGE_BYTES] = _NO_CHECKSUM + _FUTURE[4:]
    tablespace.write_bytes(contents)


def _last_page(contents: bytes | bytearray) -> int | None:
    begins = range(len(contents) - PAGE_BYTES, 3 * PAGE_BYTES, -PAGE_BYTES)  # the first four describe the space
    return next((b for b in begins if any(contents[b + _LSN_AT : b + _LSN_AT + 8])), None)
