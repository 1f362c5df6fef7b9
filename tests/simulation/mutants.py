"""Rules of Raft broken on purpose: each must be noticed, by the simulation or by a test.

`python -m tests.simulation.mutants [NAME...]` copies the package, breaks one rule at a time and says who noticed: the
first seed of RAFT_SEEDS (a range) that fails, and the first test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = os.environ.get("RAFT_SEEDS", "0:200")
DEADLINE = 600.0
UNFINISHED = "-"  # nobody noticed in time, which is no proof


@dataclass(frozen=True)
class Mutant:
    name: str
    module: str  # in raftctl
    old: str
    new: str


MUTANTS = [
    Mutant(
        "commit entries of earlier terms by counting (figure 8)",
        "consensus/replication.py",
        "if state.log.term_at(index) == state.term and state.log.commit_to(index):",
        "if state.log.commit_to(index):",
    ),
    Mutant(
        "count acknowledgements of an earlier term",
        "consensus/raft.py",
        "if message.term < state.term:",
        "if message.term < state.term and not isinstance(message, AppendEntriesReply):",
    ),
    Mutant(
        "acknowledge before the disk has it",
        "consensus/follower.py",
        "state.send_when_durable(_reply(state, message, success=True, match_index=verified))",
        "state.outbox.send(_reply(state, message, success=True, match_index=verified))",
    ),
    Mutant(
        "grant a vote before the disk has it",
        "consensus/election.py",
        "state.send_when_durable(RequestVoteReply(sender=state.id, to=message.sender",
        "state.outbox.send(RequestVoteReply(sender=state.id, to=message.sender",
    ),
    Mutant(
        "ask for votes before the own vote is on disk",
        "consensus/election.py",
        "        state.send_when_durable(\n            RequestVote(",
        "        state.outbox.send(\n            RequestVote(",
    ),
    Mutant(
        "vote twice in a term",
        "consensus/election.py",
        'if message.term == state.term and state.voted_for not in ("", message.sender):',
        "if False:",
    ),
    Mutant(
        "vote for a log that is behind",
        "consensus/election.py",
        "if not state.log.is_up_to_date(",
        "if False and not state.log.is_up_to_date(",
    ),
    Mutant(
        "a majority of half the voters",
        "consensus/membership.py",
        "return voters // 2 + 1",
        "return (voters + 1) // 2",
    ),
    Mutant(
        "commit past what is verified",
        "consensus/follower.py",
        "log.commit_to(min(message.commit_index, verified))",
        "log.commit_to(min(message.commit_index, log.last_index))",
    ),
    Mutant(
        "acknowledge everything in the log",
        "consensus/follower.py",
        "return end if log.term_at(message.prev_log_index)",
        "return log.last_index if log.term_at(message.prev_log_index)",
    ),
    Mutant(
        "truncate without a conflict",
        "consensus/log.py",
        "or self.term_at(entry.index) == entry.term:",
        "or (self.term_at(entry.index) == entry.term and entry.index <= self.commit_index):",
    ),
    Mutant(
        "credit truncated entries to a write in flight",
        "consensus/log.py",
        "self._in_flight = deque((ticket, min(claim, last)) for ticket, claim in self._in_flight)",
        "pass",
    ),
    Mutant(
        "skip the check of the predecessor",
        "consensus/follower.py",
        "return end if log.term_at(message.prev_log_index) == message.prev_log_term else None",
        "return end if message.prev_log_index <= log.last_index else None",
    ),
    Mutant(
        "the leader counts itself before its disk",
        "consensus/replication.py",
        "return state.log.durable_index if node == state.id",
        "return state.log.last_index if node == state.id",
    ),
    Mutant(
        "answer reads without a heartbeat round",
        "consensus/reads.py",
        "PendingRead(request_id, leadership.round + 1)",
        "PendingRead(request_id, 0)",
    ),
    Mutant(
        "answer reads from a round that began before the request",
        "consensus/reads.py",
        "PendingRead(request_id, leadership.round + 1)",
        "PendingRead(request_id, leadership.round)",
    ),
    Mutant(
        "answer reads before a commit of the own term",
        "consensus/reads.py",
        "or state.log.commit_index < leadership.first_index",
        "",
    ),
    Mutant(
        "hand out entries that are not durable here",
        "consensus/log.py",
        "last = min(self.commit_index, self.durable_index)",
        "last = self.commit_index",
    ),
    Mutant(
        "forget to yield to rivals and to retry soon",
        "consensus/election.py",
        "    state.election_deadline = min(state.election_deadline, retry)",
        "    del retry",
    ),
    Mutant(
        "no check-quorum",
        "consensus/replication.py",
        "if state.now >= check_quorum_deadline(state):",
        "if state.now >= check_quorum_deadline(state) and False:",
    ),
    Mutant(
        "no stickiness",
        "consensus/state.py",
        "return not self.leader_lost and self.now - self.heard_leader_at < self.config.election_timeout",
        "return False",
    ),
    Mutant(
        "never back off",
        "consensus/progress.py",
        "max(self.match_index + 1, min(self.next_index, agreed_index + 1))",
        "self.next_index",
    ),
    Mutant(
        "no heartbeats while idle",
        "consensus/replication.py",
        "    if state.now >= leadership.heartbeat_deadline:",
        "    if state.now >= leadership.heartbeat_deadline and state.log.commit_index < state.log.last_index:",
    ),
    Mutant(
        "grant pre-votes without looking at the log or the leader",
        "consensus/election.py",
        "    refusal = _pre_vote_refusal(state, message)",
        '    refusal = ""',
    ),
    Mutant(
        "pre-vote enters the term",
        "consensus/raft.py",
        "return isinstance(message, PreVote) or (",
        "return (",
    ),
    Mutant(
        "keep the vote in a new term",
        "consensus/state.py",
        '        self._enter_term(term, voted_for="")',
        "        self._enter_term(term, voted_for=self.voted_for)",
    ),
    Mutant(
        "lose interest in the transfer deadline",
        "consensus/transfer.py",
        'leadership.transfer_target = ""',
        "pass",
    ),
    Mutant(
        "change the membership before a commit of the own term",
        "consensus/membership_change.py",
        "if state.log.commit_index < leadership.first_index:",
        "if False:",
    ),
    Mutant(
        "several membership changes at a time",
        "consensus/membership_change.py",
        "if state.log.commit_index < state.log.configurations.current_index:",
        "if False:",
    ),
    Mutant(
        "several voters in one change",
        "consensus/membership_change.py",
        "if len(different) > 1:",
        "if len(different) > 9:",
    ),
    Mutant(
        "count learners",
        "consensus/membership.py",
        "values = sorted((value_of(voter) for voter in self.voters), reverse=True)\n"
        "        return values[majority(len(values)) - 1]",
        "values = sorted((value_of(node) for node in self.nodes), reverse=True)\n"
        "        return values[majority(len(self.voters)) - 1]",
    ),
    Mutant(
        "keep a configuration whose entry is truncated",
        "consensus/log.py",
        "self.configurations.truncated(first)",
        "pass",
    ),
    Mutant(
        "acknowledge a snapshot before the disk has it",
        "consensus/follower.py",
        "state.send_when_durable(_reply(state, message, success=True, match_index=snapshot.index))",
        "state.outbox.send(_reply(state, message, success=True, match_index=snapshot.index))",
    ),
    Mutant(
        "load a snapshot before the disk has it",
        "consensus/log.py",
        "if self.applied_index >= self.start_index or self.durable_index < self.start_index:",
        "if self.applied_index >= self.start_index:",
    ),
    Mutant(
        "credit a replaced log to a write in flight",
        "consensus/log.py",
        "        self._keep_claims(self.commit_index)\n        self._entries = []",
        "        self._entries = []",
    ),
    Mutant(
        "a removed leader stays",
        "consensus/replication.py",
        "if not state.is_voter and state.log.commit_index >=",
        "if False and state.log.commit_index >=",
    ),
    Mutant(
        "tell nobody of a commit alone",
        "consensus/replication.py",
        "if state.now >= leadership.notice_deadline:",
        "if False:",
    ),
    Mutant(
        "let newcomers vote by a configuration of old times",
        "consensus/state.py",
        "return self.log.last_index < self.floor or (not self.config.voters and self.log.last_index == 0)",
        "return False",
    ),
    Mutant(
        "do not sync the log",
        "raftnode/wal.py",
        "            os.fdatasync(self._fd)\n",
        "",
    ),
    Mutant(
        "forget term and vote when the log is compacted",
        "raftnode/wal.py",
        "Recovered(hard_state=found.hard_state, snapshot=snapshot, entries=kept)",
        "Recovered(snapshot=snapshot, entries=kept)",
    ),
    Mutant(
        "read a damaged record as good",
        "raftnode/wal_records.py",
        "if _payload_crc(payload, self.crc) != crc:",
        "if False:",
    ),
    Mutant(
        "take every damage for a torn write",
        "raftnode/wal_records.py",
        "if end < self._data_end or not unwritten or self._intact_record_after(self.offset + 1):",
        "if False:",
    ),
    Mutant(
        "take every torn write for damage",
        "raftnode/wal_records.py",
        "if end < self._data_end or not unwritten or self._intact_record_after(self.offset + 1):",
        "if True:",
    ),
    Mutant(
        "write together what a later write replaced",
        "raftnode/wal_writer.py",
        "entries = entries[: max(keep, 0)] + list(write.entries)",
        "entries = entries + list(write.entries)",
    ),
    Mutant(
        "force a membership without a term of its own",
        "raftnode/forced_membership.py",
        "term = max(recovered.hard_state.term, last.last_term) + 1",
        "term = max(recovered.hard_state.term, last.last_term)",
    ),
]
POWER_CUT = (
    "tests/integration/raft/test_raft_power_cut.py"  # as root; elsewhere nobody notices a log that is not synced
)


def break_rule(mutant: Mutant, copy: Path) -> None:
    shutil.copytree(ROOT / "raftctl", copy / "raftctl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    path = copy / "raftctl" / mutant.module
    text = path.read_text()
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: the text to break stands {text.count(mutant.old)} times in {path.name}")
    path.write_text(text.replace(mutant.old, mutant.new))


def run(copy: Path, *arguments: str) -> str:
    """The last line of output when the run fails, "" when it passes."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", *arguments]
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return UNFINISHED
    return "" if done.returncode == 0 else (done.stdout.strip() or done.stderr.strip())


def noticed_by_simulation(copy: Path) -> str:
    output = run(copy, "tests.simulation", "--seeds", SEEDS)
    return next((line for line in output.splitlines() if line.startswith("seed ")), _last(output))


def noticed_by_tests(copy: Path, mutant: Mutant) -> str:
    places = ["tests/unit/consensus", "tests/scenarios/raft"]
    if mutant.module.startswith("raftnode/"):
        places = ["tests/unit/raftnode", POWER_CUT]
    output = run(copy, "pytest", "-q", "-x", *places)
    failed = next((line for line in output.splitlines() if line.startswith("FAILED")), _last(output))
    return failed.removeprefix("FAILED ").partition(" - ")[0].rpartition("/")[2]


def _last(output: str) -> str:
    return output.splitlines()[-1] if output else ""


def main() -> int:
    unnoticed = []
    print(f"| broken on purpose | simulation, seeds {SEEDS} | tests |\n|---|---|---|")
    for mutant in MUTANTS:
        if sys.argv[1:] and not any(words in mutant.name for words in sys.argv[1:]):
            continue
        with tempfile.TemporaryDirectory(prefix="raft-mutant-") as folder:
            copy = Path(folder)
            break_rule(mutant, copy)
            simulation, tests = noticed_by_simulation(copy), noticed_by_tests(copy, mutant)
            print(f"| {mutant.name} | {simulation[:80] or UNFINISHED} | {tests or UNFINISHED} |", flush=True)
            if {simulation, tests} <= {"", UNFINISHED}:
                unnoticed.append(mutant.name)
    print(f"not noticed: {', '.join(unnoticed) or 'none'}")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
