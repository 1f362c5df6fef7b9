"""Bad bytes have one kind of error, whichever part of the decoder trips over them."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftctl.cluster.codec import from_json, unpack
from raftctl.cluster.state import ClusterState
from raftctl.controller.messages import PeerMessage


@given(st.binary(max_size=200))
@example(b"\x91\xa2\x00\x80")
@example(b"\x81\xa5phase\xa2\x00\x80")
@example(b"\x91" * 4000)
def test_what_is_no_message_is_a_decode_error(data: bytes) -> None:
    for kind in (PeerMessage, ClusterState, list[str]):
        with contextlib.suppress(msgspec.DecodeError):
            unpack(data, kind)


def test_a_string_that_is_no_utf8_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(b"\x91\xa2\x00\x80", list[str])
    with pytest.raises(msgspec.DecodeError):
        from_json(b'["a\x80"]', list[str])


def test_a_gtid_set_that_is_none_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json('{"floor": "no such set"}', ClusterState)
