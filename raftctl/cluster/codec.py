"""Encoding of the domain's types with msgspec: MessagePack in the log and between controllers, JSON at the API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from raftctl.cluster.gtid import GTIDSet

T = TypeVar("T")
D = TypeVar("D")


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
_msgpack_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}
_json_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
# msgspec 0.22 crashes the interpreter, or never ends, when two threads look at a type for the first time at once:
# whoever decodes or converts by msgspec's own functions where several threads may do so holds this.
first_look = threading.Lock()


def pack(value: object) -> bytes:
    return _msgpack.encode(value)


def unpack(data: bytes, kind: type[T] | Any) -> T:
    """Raises msgspec.ValidationError (with the path to the fault) or msgspec.DecodeError on bad bytes."""
    value: T = _decode(_decoder(_msgpack_decoders, msgspec.msgpack.Decoder, kind).decode, data)
    return value


def to_json(value: object) -> bytes:
    return _json.encode(value)


def from_json(data: bytes | str, kind: type[T] | Any) -> T:
    """Raises as `unpack`."""
    value: T = _decode(_decoder(_json_decoders, msgspec.json.Decoder, kind).decode, data)
    return value


def _decode(decode: Callable[[Any], Any], data: bytes | str) -> Any:
    try:
        return decode(data)
    except (UnicodeDecodeError, RecursionError) as error:  # bad text, nested too deep: not msgspec's own errors
        raise msgspec.DecodeError(str(error)) from error


def _decoder(known: dict[Any, D], make: Callable[..., D], kind: Any) -> D:
    decoder = known.get(kind)
    if decoder is None:
        with first_look:
            decoder = known.setdefault(kind, make(kind, dec_hook=dec_hook))
    return decoder
