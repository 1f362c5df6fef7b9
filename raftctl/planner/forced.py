"""Forced membership (rule R10): may a person go on without the majority, with whom as primary, and what may be lost?

The one thing that cannot be proven from here is that those who do not answer are gone. So nothing is done while one of
them answers in any way, unless its host can be reached to fence it; what is left is the person's word for it.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping
from functools import reduce

import msgspec

from raftctl.cluster.facts import MemberFacts, MySQLState
from raftctl.cluster.gtid import GTIDSet
from raftctl.cluster.observation import MySQLObservation, ReceiverState
from raftctl.cluster.state import ClusterState, Member, MemberRole, Phase


class ForceReason(enum.StrEnum):
    """Why the membership is not forced."""

    NOT_INITIALIZED = "not-initialized"
    MAJORITY_LEFT = "majority-left"
    SURVIVOR_SILENT = "survivor-silent"
    EXCLUDED_ANSWERS = "excluded-answers"
    UNKNOWN_MEMBER = "unknown-member"
    NO_TARGET = "no-target"
    UNSOUND_DATA = "unsound-data"


class ForceRefusal(msgspec.Struct, frozen=True):
    """`member` is "" when it concerns the cluster; `text` is for people."""

    reason: ForceReason
    text: str
    member: str = ""


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What one member's host said when it was asked in every way; an error is one line, "" without one."""

    facts: MemberFacts | None = None  # its controller, by the API
    facts_error: str = ""
    mysql: MySQLObservation | None = None  # its mysqld itself
    mysql_answers: bool = False  # also one that refuses the login
    mysql_error: str = ""
    host_error: str = ""  # the host itself, by SSH

    @property
    def is_half_copied(self) -> bool:
        """Whether a CLONE that did not come to its end left no data there."""
        told = self.facts.report.mysql if self.facts else None
        return told is not None and (told.incomplete or told.state is MySQLState.REBUILDING)

    @property
    def damage(self) -> str:
        """What its InnoDB said about damaged data, "" for nothing."""
        told = self.facts.report.mysql if self.facts else None
        return told.damage if told else ""

    @property
    def answers(self) -> tuple[str, ...]:
        """The ways by which something there answered."""
        ways = {"API": self.facts is not None, "MySQL": self.mysql_answers, "SSH": not self.host_error}
        return tuple(way for way, answered in ways.items() if answered)


class ForcePlan(msgspec.Struct, frozen=True, kw_only=True):
    """`fence` are the excluded members that answer and are fenced first. `losses` say what may be lost, a line each;
    `known_lost` counts the transactions that are known to have existed and that the target lacks."""

    cluster: str
    incarnation: int
    epoch: int
    survivors: tuple[str, ...]
    excluded: tuple[str, ...]
    fence: tuple[str, ...]
    target: str
    certificate: GTIDSet
    known_lost: int
    losses: tuple[str, ...]


def judge_force(
    members: Mapping[str, Member],
    census: Mapping[str, Census],
    *,
    survivors: Collection[str],
    target: str = "",
    may_fence: bool = False,
) -> ForcePlan | list[ForceRefusal]:
    """`members` are those of the inventory, every one of which `census` has. `target` is a person's wish."""
    states = [facts.state for name in survivors if (facts := census[name].facts)]
    newest = max(states, key=lambda state: (state.incarnation, state.version), default=ClusterState())
    members = {**members, **newest.members}
    excluded = tuple(sorted(set(members) - set(survivors)))
    refusals = [
        *_unfit_survivors(census, members, survivors, target),
        *([] if newest.phase is not Phase.UNINITIALIZED else [_uninitialized()]),
        *_strangers(newest, survivors),
        *_majority_left(members, _voters(census, survivors), survivors),
        *_excluded_that_answer(newest, census, survivors, excluded, may_fence=may_fence),
    ]
    eligible = [m for m in sorted(survivors) if _may_become_primary(members, m, target)]
    data = {m: found for m in eligible if (found := census[m]).mysql}
    held = {m: found.mysql.holds for m, found in data.items() if found.mysql and not found.is_half_copied}
    damaged = {m: found.damage for m, found in data.items() if found.damage}
    sound = {m: gtids for m, gtids in held.items() if m not in damaged}
    if target and target not in data:
        refusals.append(ForceRefusal(ForceReason.NO_TARGET, f"{target} is no survivor with data", target))
    elif data and not (target in held if target else sound):
        refusals += _unsound(data, [target] if target else list(data))
    chosen = target or (_choose(newest, members, sound) if sound else "")
    if chosen and not target:
        refusals += _better_but_damaged(chosen, held, damaged)
    if refusals:
        return refusals
    known = _known(newest, census, survivors)
    return ForcePlan(
        cluster=newest.cluster,
        incarnation=newest.incarnation + 1,
        epoch=newest.epoch + 1,
        survivors=tuple(sorted(survivors)),
        excluded=excluded,
        fence=tuple(m for m in excluded if m in census and census[m].answers),
        target=chosen,
        certificate=held[chosen],
        known_lost=(known - held[chosen]).count(),
        losses=(*_losses(newest, chosen, held, known), *_damages(chosen, damaged)),
    )


def _may_become_primary(members: Mapping[str, Member], name: str, target: str) -> bool:
    """An async member only when a person names it: it never acknowledged anything."""
    role = members[name].role
    return role is MemberRole.DATA or (name == target and role is MemberRole.ASYNC)


def _uninitialized() -> ForceRefusal:
    return ForceRefusal(ForceReason.NOT_INITIALIZED, "the survivors know of no cluster: `raftctl bootstrap` makes one")


def _unfit_survivors(
    census: Mapping[str, Census], members: Mapping[str, Member], survivors: Collection[str], target: str
) -> Iterable[ForceRefusal]:
    eligible = [name for name in sorted(survivors) if _may_become_primary(members, name, target)]
    for name in sorted(survivors):
        found = census[name]
        if found.facts is None:
            yield ForceRefusal(
                ForceReason.SURVIVOR_SILENT, f"the controller of {name} does not answer: {found.facts_error}", name
            )
        if found.host_error:
            yield ForceRefusal(
                ForceReason.SURVIVOR_SILENT, f"the host of {name} does not answer: {found.host_error}", name
            )
        if name in eligible and found.mysql is None:
            yield ForceRefusal(
                ForceReason.SURVIVOR_SILENT, f"mysqld of {name} does not answer: {found.mysql_error}", name
            )
    if not eligible:
        text = "none of the survivors is a data member"
        if replicas := [name for name in sorted(survivors) if members[name].role is MemberRole.ASYNC]:
            text += f"; {' or '.join(f'`--to {name}`' for name in replicas)} makes an async one the primary"
        yield ForceRefusal(ForceReason.NO_TARGET, text)


def _unsound(data: Mapping[str, Census], names: Iterable[str]) -> Iterable[ForceRefusal]:
    """Nobody is left whom to choose: half copied data are none, damaged ones are only a person's choice."""
    for name in names:
        why = f"InnoDB of {name} reports damaged data: {data[name].damage}; `--to {name}` goes on all the same"
        if data[name].is_half_copied:
            why = f"{name} has no data: a CLONE that began there did not come to its end"
        yield ForceRefusal(ForceReason.UNSOUND_DATA, why, name)


def _better_but_damaged(chosen: str, held: Mapping[str, GTIDSet], damaged: Iterable[str]) -> Iterable[ForceRefusal]:
    """Sound data, or all of them: that is for a person to say."""
    for name in damaged:
        if name in held and (alone := held[name] - held[chosen]):
            why = (
                f"{chosen} lacks {alone.count()} transactions of {name}, whose InnoDB reports damaged data: "
                f"`--to {chosen}` goes on without them, `--to {name}` with the damage"
            )
            yield ForceRefusal(ForceReason.UNSOUND_DATA, why, name)


def _damages(target: str, damaged: Mapping[str, str]) -> Iterable[str]:
    for name, said in damaged.items():
        what = "what cannot be read there is lost" if name == target else f"it is rebuilt from {target}"
        yield f"InnoDB of {name} reports damaged data ({said}): {what}"


def _strangers(state: ClusterState, survivors: Collection[str]) -> Iterable[ForceRefusal]:
    """What the inventory says makes nobody a member: the log would reject the decision."""
    for name in sorted(set(survivors) - set(state.members)) if state.members else ():
        yield ForceRefusal(ForceReason.UNKNOWN_MEMBER, f"{name} is not a member of {state.cluster}", name)


def _voters(census: Mapping[str, Census], survivors: Collection[str]) -> tuple[str, ...]:
    """Raft's voters by the newest of the survivors' logs, () when none of them says."""
    told = [facts for name in survivors if (facts := census[name].facts) and facts.raft.voters]
    newest = max(told, key=lambda f: (f.state.incarnation, f.raft.term, f.raft.log_index), default=None)
    return newest.raft.voters if newest else ()


def _majority_left(
    members: Mapping[str, Member], voters: Collection[str], survivors: Collection[str]
) -> Iterable[ForceRefusal]:
    """Of the members and of those among them that vote already: new ones do not yet, and cannot elect anybody."""
    without_a_vote = voters and len(set(survivors) & set(voters)) <= len(voters) // 2
    if len(survivors) > len(members) // 2 and not without_a_vote:
        text = f"{', '.join(sorted(survivors))} are a majority of the {len(members)} members: no force is needed"
        yield ForceRefusal(ForceReason.MAJORITY_LEFT, text)


def _excluded_that_answer(
    state: ClusterState,
    census: Mapping[str, Census],
    survivors: Collection[str],
    excluded: Collection[str],
    *,
    may_fence: bool,
) -> Iterable[ForceRefusal]:
    for name in excluded:
        found = census.get(name, Census(host_error="not in the inventory"))
        if found.answers and (found.host_error or not may_fence):
            fenceable = "its host can be reached to fence it" if not found.host_error else found.host_error
            ways = " and ".join(found.answers)
            yield ForceRefusal(ForceReason.EXCLUDED_ANSWERS, f"{name} answers by {ways} ({fenceable})", name)
            continue
        if found.answers:
            continue  # it is fenced first
        for survivor in sorted(survivors):
            if why := _hears(state, census[survivor], name):
                yield ForceRefusal(
                    ForceReason.EXCLUDED_ANSWERS, f"{name} does not answer here, but {survivor} {why}", name
                )


def _hears(state: ClusterState, survivor: Census, name: str) -> str:
    if survivor.facts is not None and name in survivor.facts.connected:
        return "hears its controller"
    channel = survivor.mysql.channel if survivor.mysql else None
    receives = channel is not None and channel.receiver is ReceiverState.ON
    if channel and receives and f"{channel.source_host}:{channel.source_port}" == state.members[name].mysql:
        return "receives from its mysqld"
    return ""


def _choose(state: ClusterState, members: Mapping[str, Member], held: Mapping[str, GTIDSet]) -> str:
    """Who has everything that the other survivors have; else the primary, else who has most."""
    primary = state.primary or state.previous_primary
    complete = [m for m in held if all(other <= held[m] for other in held.values())]
    if complete:
        return min(complete, key=lambda m: (m != primary, -members[m].priority, m))
    return max(held, key=lambda m: (m == primary, held[m].count(), m))


def _known(state: ClusterState, census: Mapping[str, Census], survivors: Collection[str]) -> GTIDSet:
    """Every transaction that the survivors know to have existed in the cluster."""
    sets = [state.floor]
    sets += [facts.primary_held for name in survivors if (facts := census[name].facts)]
    sets += [seen.holds for found in census.values() if (seen := found.mysql)]
    return reduce(GTIDSet.__or__, sets)


def _losses(state: ClusterState, target: str, held: Mapping[str, GTIDSet], known: GTIDSet) -> Iterable[str]:
    if missing := known - held[target]:
        yield f"{target} lacks {missing.count()} transactions that are known to have existed: {missing}"
    for other in held:
        if other != target and (alone := held[other] - held[target]):
            yield f"{alone.count()} transactions of {other} that {target} lacks: {other} is rebuilt without them"
    primary = state.primary or state.previous_primary
    reporters = [m for m in state.sync_set if m in held and m != primary]
    if target == primary:
        yield (
            f"{target} was the primary of epoch {state.epoch} and has all that it acknowledged; "
            "what another one acknowledged since, if the lost members went on without it, is lost"
        )
    elif (
        state.required_acks
        and len(reporters) >= state.fence_quorum()
        and target in reporters
        and state.floor <= held[target]  # what was acknowledged before may only be where the primary had it
        and all(held[m] <= held[target] for m in reporters)
    ):
        yield f"the survivors have all that was acknowledged in epoch {state.epoch}; what came in a later one is lost"
    else:
        yield f"what {primary} acknowledged and the survivors never received is lost; nobody can tell how much it is"
