"""Plans as text: each file opens with the claim that it proves, then a state, a view, and what is decided on them.

    # db2 has errant transactions and is not promoted, although it has the most.
    state: failover epoch=2 previous=db1 floor=A:1-90
    view: db1 silent
    view: db2 fenced executed=A:1-100,B:1 errant=B:1
    do: decide
    ----
    promote ...

A member without a `view:` line is healthy. `raft:` names the voters. RAFTCTL_REWRITE_SCENARIOS=1 writes what is decided
now below the line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from raftctl.cluster.commands import Decision
from raftctl.cluster.facts import MemberReport, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.state import ClusterState, Pause, Phase, Settings
from raftctl.planner.failover import choose, consider_failover
from raftctl.planner.leader import decide
from raftctl.planner.membership import Reshape, request_rebuild, request_removal
from raftctl.planner.refusal import Refusal
from raftctl.planner.switchover import request_failover, request_switchover
from raftctl.planner.view import ClusterView
from tests.support.planner_builders import (
    HEALTHY,
    UUIDS,
    a_channel,
    a_member,
    a_replica,
    a_report,
    a_semi_sync,
    a_source,
    a_state,
    a_view,
    gtids,
)

DIRECTORY = Path(__file__).parent
SEPARATOR = "----\n"
WORDS = {word.value: word for word in MySQLState}


def _tokens(line: str) -> tuple[list[str], dict[str, str]]:
    words = line.split()
    return [w for w in words if "=" not in w], dict(w.split("=", 1) for w in words if "=" in w)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _state(line: str) -> ClusterState:
    (phase, *flags), values = _tokens(line)
    data = int(values.get("data", "3"))
    durability = values.get("durability", "majority")
    changing = phase in ("failover", "switchover")
    members = [a_member(f"db{i + 1}", priority=int(values.get(f"db{i + 1}.priority", "0"))) for i in range(data)]
    changes: dict[str, Any] = {
        "phase": Phase(phase),
        "epoch": int(values.get("epoch", "1")),
        "primary": "" if changing else values.get("primary", "db1"),
        "previous_primary": values.get("previous", "db1" if changing else ""),
        "target": values.get("target", ""),
        "floor": gtids(values.get("floor", "A:1-50")),
        "locked": _names(values.get("locked", "")),
        "leaving": values.get("leaving", ""),
        "settings": Settings(durability=durability, failover_automatic="manual" not in flags),
        "paused": Pause("maintenance", "ann", 0) if "paused" in flags else None,
    }
    if "sync_set" in values:
        changes["sync_set"] = _names(values["sync_set"])
    if "k" in values or durability == "async":
        changes["required_acks"] = int(values.get("k", "0"))
    return a_state(members=members, **changes)


def _report(state: ClusterState, member: str, flags: list[str], values: dict[str, str]) -> MemberReport:
    executed, received = values.get("executed", HEALTHY), values.get("received", "")
    owned = values.get("owned", "")
    if state.primary == member:
        seen = a_source(acks=state.required_acks, executed=executed, owned=owned)
    else:
        channel = a_channel(
            source=values.get("from", state.primary or state.previous_primary),
            receiver=values.get("receiver", "OFF" if "fenced" in flags else "ON"),
            apply_lag_seconds=float(values.get("lag", "0")),
        )
        semi_sync = a_semi_sync(replica_enabled="silent-acks" not in flags)
        seen = a_replica(executed=executed, received=received, owned=owned, channel=channel, semi_sync=semi_sync)
    word = next((WORDS[f] for f in flags if f in WORDS), None)
    version = int(values.get("version", state.version))
    errant = values.get("errant", "")
    return a_report(
        member, state=state, seen=seen, mysql=word, errant=errant, fenced="fenced" in flags, version=version
    )


def _view(state: ClusterState, lines: list[str], timing: dict[str, str], voters: str) -> ClusterView:
    reports, missing, receiving = [], [], {}
    for line in lines:
        (member, *flags), values = _tokens(line)
        if "silent" in flags:
            missing.append(member)
            continue
        reports.append(_report(state, member, flags, values))
        if "not_receiving_for" in values:
            receiving[member] = float(values["not_receiving_for"])
    made = a_view(
        state,
        reports=reports,
        missing=missing,
        receiving_ages=receiving,
        version_seconds=float(timing.get("state_age", "60")),
        listening=float(timing.get("listening", "3600")),
    )
    return msgspec.structs.replace(made, voters=_names(voters))


def _do(state: ClusterState, view: ClusterView, words: list[str]) -> list[Decision | Reshape | Refusal]:
    verb, *arguments = words
    target = arguments[0] if arguments else ""
    match verb:
        case "decide":
            verdict = decide(state, view)
            decided = [verdict.command, verdict.reshape]
            return [*(step for step in decided if step), *verdict.refusals]
        case "choose":
            result: object = choose(state, view)
        case "diagnose":
            result = consider_failover(state, view)
        case "remove":
            result = request_removal(state, view, target, by="ann")
        case "rebuild":
            result = request_rebuild(state, view, target, by="ann")
        case "switchover":
            result = request_switchover(state, view, target=target, by="ann")
        case "failover":
            result = request_failover(state, view, target=target, by="ann")
        case _:
            raise AssertionError(f"unknown: {verb}")
    return result if isinstance(result, list) else [result] if result else []  # type: ignore[list-item]


def _text(value: object) -> str:
    if isinstance(value, GTIDSet):
        text = str(value)
        for letter, uuid in UUIDS.items():
            text = text.replace(uuid, letter)
        return text
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _lines(result: Decision | Reshape | Refusal) -> list[str]:
    if isinstance(result, Reshape):
        return [f"raft voters={_text(result.voters)} learners={_text(result.learners)}"]
    if isinstance(result, Refusal):
        who = f" {result.member}" if result.member else ""
        text = result.text
        for letter, uuid in UUIDS.items():
            text = text.replace(uuid, letter)
        return [f"refused{who}: {result.reason.value}: {text}"]
    tag = type(result).__struct_config__.tag
    fields = {f: _text(v) for f, v in msgspec.structs.asdict(result).items() if f not in ("based_on", "at_ms", "by")}
    why = fields.pop("why", "")
    line = " ".join([str(tag), *(f"{f}={v}" for f, v in fields.items() if v)])
    return [line, *([f"  because {why}"] if why else [])]


def _run(script: str) -> str:
    said: dict[str, list[str]] = {"state": [], "view": [], "time": [], "raft": [], "do": []}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            key, _, rest = line.partition(": ")
            said[key].append(rest)
    state = _state(said["state"][0])
    timing = _tokens(said["time"][0])[1] if said["time"] else {}
    view = _view(state, said["view"], timing, "".join(said["raft"]))
    results = [r for words in said["do"] for r in _do(state, view, words.split())]
    return "\n".join(line for r in results for line in _lines(r)) + "\n" if results else "nothing\n"


FILES = sorted(DIRECTORY.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_scenario(path: Path) -> None:
    script, _, expected = path.read_text().partition(SEPARATOR)
    assert script.startswith("# "), "a scenario opens with the claim that it proves"
    found = _run(script)
    if os.environ.get("RAFTCTL_REWRITE_SCENARIOS"):
        path.write_text(script + SEPARATOR + found)
        return
    assert found == expected
