"""Encoding of the domain's types with msgspec: MessagePack in the log and between controllers, JSON at the API."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from raftctl.cluster.gtid import GTIDSet

T = TypeVar("T")


def enc_hook(value: object) -> Any:
    if isinstance(value, GTIDSet):
        return str(value)
    raise NotImplementedError(f"no encoding for {type(value).__name__}")


def dec_hook(kind: type, value: Any) -> Any:
    if kind is GTIDSet:
        if not isinstance(value, str):
            raise TypeError(f"a GTID set is a string, not {type(value).__name__}")
        return GTIDSet.parse(value)
    raise NotImplementedError(f"no decoding for {kind.__name__}")


_msgpack = msgspec.msgpack.Encoder(enc_hook=enc_hook)
_json = msgspec.json.Encoder(enc_hook=enc_hook)


def pack(value: object) -> bytes:
    return _msgpack.encode(value)


def unpack(data: bytes, kind: type[T] | Any) -> T:
    """Raises msgspec.ValidationError (with the path to the fault) or msgspec.DecodeError on bad bytes."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=dec_hook)


def to_json(value: object) -> bytes:
    return _json.encode(value)


def from_json(data: bytes | str, kind: type[T] | Any) -> T:
    return msgspec.json.decode(data, type=kind, dec_hook=dec_hook)
