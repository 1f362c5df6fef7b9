"""What goes into the next Ready, and which messages must wait for the disk.

A message that depends on durable state is gated by the ticket of the write that it depends on: it leaves when
that ticket was reported. Everything else leaves at once.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from raftctl.consensus.types import AnyMessage, AppendEntriesReply, Event, EventKind, ReadResult


class Outbox:
    def __init__(self) -> None:
        self.messages: list[AnyMessage] = []
        self.reads: list[ReadResult] = []
        self.events: list[Event] = []
        self.issued_ticket = 0
        self.persisted_ticket = 0
        self.hard_state_changed = False  # not yet staged under a ticket
        self._hard_state_ticket = 0  # the ticket that wrote the newest hard state
        self._gated: deque[tuple[int, AnyMessage]] = deque()
        self._writing: deque[tuple[int, float]] = deque()  # tickets that were not reported, and when they were issued

    def send(self, message: AnyMessage) -> None:
        """Send now: `message` promises nothing that is not on disk."""
        self.messages.append(message)

    def send_when_durable(self, message: AnyMessage, *, unstaged: bool) -> None:
        """Send once everything changed so far is on disk; `unstaged` says that the log has entries to write."""
        if unstaged or self.hard_state_changed:
            self._gated.append((self.issued_ticket + 1, message))
        elif self.issued_ticket > self.persisted_ticket:
            self._gated.append((self.issued_ticket, message))
        else:
            self.messages.append(message)

    def report(self, kind: EventKind, **detail: Any) -> None:
        self.events.append(Event(kind, detail))

    @property
    def hard_state_durable(self) -> bool:
        return not self.hard_state_changed and self._hard_state_ticket <= self.persisted_ticket

    def write_hard_state(self) -> None:
        """It changed within the term: what was promised before stands."""
        self.hard_state_changed = True

    def change_hard_state(self) -> None:
        """The term or the vote changed. Acknowledgements of an earlier term that still wait are worthless now,
        and what they claim may be truncated before it is written: they are dropped."""
        self.hard_state_changed = True
        self._gated = deque(
            (ticket, message) for ticket, message in self._gated if not isinstance(message, AppendEntriesReply)
        )

    @property
    def writing_since(self) -> float:
        """When the oldest write that is not durable yet was asked for; math.inf when there is none."""
        return self._writing[0][1] if self._writing else math.inf

    def open_ticket(self, now: float) -> int:
        """Number the write that the next Ready asks for."""
        self.issued_ticket += 1
        self._writing.append((self.issued_ticket, now))
        if self.hard_state_changed:
            self._hard_state_ticket = self.issued_ticket
            self.hard_state_changed = False
        return self.issued_ticket

    def close_ticket(self, ticket: int) -> list[AnyMessage]:
        """`ticket` and all before it are durable. Returns the messages that may leave now."""
        assert self.persisted_ticket <= ticket <= self.issued_ticket, f"ticket {ticket} was not issued"
        self.persisted_ticket = ticket
        while self._writing and self._writing[0][0] <= ticket:
            self._writing.popleft()
        released = []
        while self._gated and self._gated[0][0] <= ticket:
            released.append(self._gated.popleft()[1])
        return released
