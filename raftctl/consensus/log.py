"""The log as this node sees it: entries in memory, and how far they are written, committed and handed out.

    start <= applied <= min(commit, durable);   commit <= last;   durable <= last

A snapshot of the leader replaces the whole log; until it is durable and handed out, `applied` lags behind `start`.
Configurations are part of the log: what it appends and truncates decides which one is in force.

Entries move through three steps: appended (in memory), staged (given to the shell to write, under a ticket)
and durable (that ticket was reported). Truncation takes back what a write in flight will have claimed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from raftctl.consensus.membership import Configurations, Membership
from raftctl.consensus.types import Entry, EntryKind, Snapshot


class RaftLog:
    def __init__(self, entries: Sequence[Entry], *, initial: Membership, snapshot: Snapshot | None = None) -> None:
        """`entries` are durable and follow `snapshot`, which the state machine holds already. `initial` is the
        configuration that counts while neither of them has one."""
        self.snapshot = snapshot  # the newest; the log begins after it
        self.start_index = snapshot.index if snapshot else 0
        self.start_term = snapshot.term if snapshot else 0
        self.configurations = Configurations(snapshot.membership if snapshot else initial, base_index=self.start_index)
        self._entries: list[Entry] = []
        for entry in entries:
            self.append(entry)
        self.commit_index = self.start_index
        self.applied_index = self.start_index
        self.durable_index = self.last_index
        self._staged_index = self.last_index
        self._unstaged_snapshot: Snapshot | None = None
        self._in_flight: deque[tuple[int, int]] = deque()  # (ticket, last index that its write makes durable)

    # --- reading ----------------------------------------------------------------------------------

    @property
    def last_index(self) -> int:
        return self.start_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.start_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None when the log does not reach it or no longer holds it."""
        if index == self.start_index:
            return self.start_term
        if self.start_index < index <= self.last_index:
            return self._entries[index - self.start_index - 1].term
        return None

    def is_up_to_date(self, *, last_index: int, last_term: int) -> bool:
        """Whether a log that ends so is at least as up-to-date as this one (paper section 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def batch(self, first: int, *, max_entries: int, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first` on within both limits, but at least one if there is one."""
        begin = first - self.start_index - 1
        assert begin >= 0, f"entry {first} is compacted"
        chosen = self._entries[begin : begin + max_entries]
        size = 0
        for count, entry in enumerate(chosen):
            size += len(entry.data)
            if size > max_bytes and count > 0:
                return tuple(chosen[:count])
        return tuple(chosen)

    def agreement_hint(self, index: int, term: int) -> tuple[int, int]:
        """The greatest (index, term) at or before `index` whose term is at most `term`; an index before the log's
        beginning when there is none in it.

        Another log that holds an entry of `term` at `index` cannot agree with this one above that place: the
        back-off by terms of the paper's section 5.3, end."""
        index = min(index, self.last_index)
        while index >= self.start_index:
            found = self.term_at(index)
            assert found is not None
            if found <= term:
                return index, found
            index -= 1
        return index, 0

    # --- appending --------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        assert entry.index == self.last_index + 1, f"entry {entry.index} after {self.last_index}"
        assert entry.term >= self.last_term, "terms in a log never decrease"
        self._entries.append(entry)
        if entry.kind is EntryKind.CONFIG:
            self.configurations.appended(entry.index, Membership.decode(entry.data))

    def merge(self, entries: Sequence[Entry]) -> int | None:
        """Store `entries` of the leader, whose predecessor is already verified to match (figure 2,
        AppendEntries, points 3 and 4). Returns the index from which entries were cut off, None without conflict.

        Only a real conflict truncates: a delayed message that holds less than the log must not shorten it."""
        truncated: int | None = None
        for position, entry in enumerate(entries):
            if entry.index <= self.start_index or self.term_at(entry.index) == entry.term:
                continue
            if entry.index <= self.last_index:
                truncated = entry.index
                self._truncate(entry.index)
            for missing in entries[position:]:
                self.append(missing)
            break
        return truncated

    def _truncate(self, first: int) -> None:
        """Remove the entries from `first` on, also from what writes in flight will be credited with."""
        assert first > self.commit_index, f"truncating committed entry {first}"
        del self._entries[first - self.start_index - 1 :]
        self.configurations.truncated(first)
        self._keep_claims(first - 1)

    def _keep_claims(self, last: int) -> None:
        """Nothing beyond `last` is written or being written any more."""
        self.durable_index = min(self.durable_index, last)
        self._staged_index = min(self._staged_index, last)
        self._in_flight = deque((ticket, min(claim, last)) for ticket, claim in self._in_flight)

    # --- snapshots --------------------------------------------------------------------------------

    def compact(self, snapshot: Snapshot) -> None:
        """Forget the entries that `snapshot`, taken here and durable, covers."""
        assert snapshot.index <= self.applied_index
        if snapshot.index <= self.start_index:
            return  # a snapshot of the leader was quicker
        assert self.term_at(snapshot.index) == snapshot.term
        del self._entries[: snapshot.index - self.start_index]
        self.configurations.compacted(snapshot.index)
        self._begin_after(snapshot)

    def install(self, snapshot: Snapshot) -> None:
        """Replace the log, which does not match `snapshot`, by it. Everything it covers is committed."""
        assert snapshot.index > self.commit_index
        assert self.term_at(snapshot.index) != snapshot.term
        self._keep_claims(self.commit_index)
        self._entries = []
        self.configurations = Configurations(snapshot.membership, base_index=snapshot.index)
        self._begin_after(snapshot)
        self.commit_index = snapshot.index
        self._unstaged_snapshot = snapshot

    def _begin_after(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.start_index = snapshot.index
        self.start_term = snapshot.term

    def take_restore(self) -> Snapshot | None:
        """The snapshot that the state machine must load, once it is durable here."""
        if self.applied_index >= self.start_index or self.durable_index < self.start_index:
            return None
        self.applied_index = self.start_index
        return self.snapshot

    # --- writing ----------------------------------------------------------------------------------

    @property
    def has_unstaged(self) -> bool:
        return self._unstaged_snapshot is not None or self._staged_index < self.last_index

    def stage(self, ticket: int) -> tuple[Snapshot | None, tuple[Entry, ...]]:
        """What to write under `ticket`: a snapshot that replaces the log on disk, and entries, the first of which may
        replace what stands on disk from there on."""
        snapshot, self._unstaged_snapshot = self._unstaged_snapshot, None
        if snapshot is not None:
            self._staged_index = self.start_index
        entries = tuple(self._entries[self._staged_index - self.start_index :])
        if snapshot is not None or entries:
            self._staged_index = self.last_index
            self._in_flight.append((ticket, self.last_index))
        return snapshot, entries

    def written(self, ticket: int) -> None:
        """Every write up to `ticket` is durable."""
        while self._in_flight and self._in_flight[0][0] <= ticket:
            _, last = self._in_flight.popleft()
            self.durable_index = max(self.durable_index, last)
        assert self.durable_index <= self._staged_index

    # --- committing -------------------------------------------------------------------------------

    def commit_to(self, index: int) -> bool:
        """Raise the commit index to `index`; True if it rose."""
        assert index <= self.last_index, f"commit {index} beyond the log's end {self.last_index}"
        if index <= self.commit_index:
            return False
        self.commit_index = index
        return True

    def take_committed(self) -> tuple[Entry, ...]:
        """The committed entries that were not handed out yet and are durable here."""
        last = min(self.commit_index, self.durable_index)
        if last <= self.applied_index or self.applied_index < self.start_index:
            return ()
        begin = self.applied_index - self.start_index
        entries = tuple(self._entries[begin : last - self.start_index])
        self.applied_index = last
        return entries
