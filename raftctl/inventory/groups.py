"""Ansible's groups: who belongs to which, and which value of a variable wins.

The rules are Ansible's ("How variables are merged", "Adding ranges of hosts" in its inventory guide): a
host's own variables win over those of its groups, a group nearer to the host wins over its parents, `all`
comes last, and of two groups on one level the later name wins. A value replaces the other as a whole:
mappings are not merged.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from raftctl.inventory.fields import fault, mapping, suggestion

HOSTS_MAX = 1000  # of one range: a slip like db[1:30000000] must not fill the memory
NESTING_MAX = 50

_RANGE = re.compile(r"\[([^\[\]:]*):([^\[\]:]*)(?::([^\[\]:]*))?\]")
_GROUP_KEYS = ("hosts", "children", "vars")


class Group(msgspec.Struct):
    """One group, after all its mentions in the file were merged. `depth` is its longest way from `all`."""

    name: str
    depth: int = 0
    variables: dict[str, Any] = {}
    children: list[str] = []
    hosts: dict[str, dict[str, Any]] = {}  # name -> the variables that stand at the host in this group


class Origin(msgspec.Struct, frozen=True):
    """A variable's value and the path of the place that it comes from (without the variable's name)."""

    value: Any
    path: tuple[str, ...]


class GroupTree:
    """All groups of an inventory document."""

    def __init__(self, document: Any) -> None:
        """Raises UsageError when the document is not an inventory."""
        self.groups: dict[str, Group] = {"all": Group("all")}
        self._seen: set[tuple[str, int]] = set()
        for name, body in mapping(document, ("the inventory",)).items():
            self._read(name, body, ())
            if name != "all" and name not in self.groups["all"].children:
                self.groups["all"].children.append(name)
        self._measure("all", 0, ())
        self._hosts = {name: self._collect(name) for name in self.groups}

    def hosts_of(self, group: str) -> list[str]:
        """Names of the group's hosts and its descendants', in the order of the file."""
        return list(self._hosts[group])

    def descendants(self, group: str) -> list[str]:
        """The group and all groups below it."""
        found = {group: None}
        queue = [group]
        while queue:
            for child in self.groups[queue.pop(0)].children:
                if child not in found:
                    found[child] = None
                    queue.append(child)
        return list(found)

    def variables_of(self, host: str) -> dict[str, Origin]:
        """The host's variables, each with the place that its winning value comes from."""
        above = [group for name, group in self.groups.items() if host in self._hosts[name]]
        above.sort(key=lambda group: (group.depth, group.name))
        result: dict[str, Origin] = {}
        for group in above:
            result |= {key: Origin(value, (group.name, "vars")) for key, value in group.variables.items()}
        for group in above:
            own = group.hosts.get(host, {})
            result |= {key: Origin(value, (group.name, host)) for key, value in own.items()}
        return result

    def _collect(self, group: str) -> dict[str, None]:
        found: dict[str, None] = {}
        for name in self.descendants(group):
            found.update(dict.fromkeys(self.groups[name].hosts))
        return found

    def _read(self, name: str, body: Any, above: tuple[str, ...]) -> None:
        path = (*above, name)
        if name in above:
            fault(path, "a group cannot be below itself")
        if len(above) > NESTING_MAX:
            fault((name,), f"groups are nested more than {NESTING_MAX} deep")
        group = self.groups.setdefault(name, Group(name))
        if (name, id(body)) in self._seen:  # a YAML alias: read once, however often it is mentioned
            return
        self._seen.add((name, id(body)))
        sections = mapping(body, path)
        for key in sections:
            if key not in _GROUP_KEYS:
                fault(
                    (*path, key),
                    "is not a part of a group",
                    hint=suggestion(key, _GROUP_KEYS) + " (variables stand under vars)",
                )
        group.variables.update(mapping(sections.get("vars"), (*path, "vars")))
        for pattern, own in _named(sections.get("hosts"), (*path, "hosts")).items():
            variables = mapping(own, (*path, pattern))
            for host in expand(pattern, (*path, "hosts")):
                group.hosts.setdefault(host, {}).update(variables)
        for child, child_body in _named(sections.get("children"), (*path, "children")).items():
            if child not in group.children:
                group.children.append(child)
            self._read(child, child_body, path)

    def _measure(self, name: str, depth: int, above: tuple[str, ...]) -> None:
        """Longest paths from `all`; a cycle that several mentions of a group make together ends here."""
        if name in above:
            fault((*above, name), "a group cannot be below itself")
        group = self.groups[name]
        if depth and depth <= group.depth:
            return
        if depth > NESTING_MAX:
            fault((name,), f"groups are nested more than {NESTING_MAX} deep")
        group.depth = depth
        for child in group.children:
            self._measure(child, depth + 1, (*above, name))


def _named(value: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    """Hosts or children: Ansible also takes one bare name instead of a mapping."""
    return {value: None} if isinstance(value, str) else mapping(value, path)


def expand(pattern: str, path: tuple[str, ...]) -> list[str]:
    """The names that a host pattern stands for: db[1:3], db[01:12], db[a:c], db[0:10:2], r[1:2]-db[1:3]."""
    parts: list[list[str]] = []
    end = 0
    for match in _RANGE.finditer(pattern):
        parts += [[pattern[end : match.start()]], list(_range(match, pattern, path))]
        end = match.end()
    parts.append([pattern[end:]])
    total = 1
    for part in parts:
        total *= len(part)
    if total > HOSTS_MAX:
        fault((*path, pattern), f"stands for more than {HOSTS_MAX} hosts")
    return ["".join(pieces) for pieces in itertools.product(*parts)]


def _range(match: re.Match[str], pattern: str, path: tuple[str, ...]) -> Iterator[str]:
    first, last, step_text = match[1] or "0", match[2], match[3] or "1"
    letters = string.ascii_letters
    step = int(step_text) if re.fullmatch(r"[0-9]{1,9}", step_text) else 0
    if step and re.fullmatch(r"[0-9]{1,9}", first) and re.fullmatch(r"[0-9]{1,9}", last):
        numbers = range(int(first), int(last) + 1, step)
        width = len(first) if first.startswith("0") and len(first) > 1 else 0
        if width and len(last) != width:
            fault((*path, pattern), "both ends of a zero-padded range must have the same number of digits")
        names = (str(number).zfill(width) for number in numbers)
    elif step and len(first) == len(last) == 1 and first in letters and last in letters:
        numbers = range(letters.index(first), letters.index(last) + 1, step)
        names = (letters[number] for number in numbers)
    else:
        fault((*path, pattern), "holds a range that cannot be read", hint="write db[1:3], db[01:12] or db[a:c]")
    if len(numbers) == 0:
        fault((*path, pattern), "the range ends before it begins")
    if len(numbers) > HOSTS_MAX:
        fault((*path, pattern), f"stands for more than {HOSTS_MAX} hosts")
    return names
