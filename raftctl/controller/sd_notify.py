"""Words to systemd: one datagram each, and none when nobody asked for them.

Manual: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import NoReturn


def notify(state: str) -> None:
    """Send `state`, such as READY=1. A failure is left to systemd's own deadline."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as out:
        out.sendto(state.encode(), address)


async def keep_alive() -> NoReturn:
    """Tell the watchdog that the event loop turns, at half its deadline. Waits for ever when there is none."""
    seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    if not seconds:
        await asyncio.Event().wait()
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 2)
