"""Typed reading of a YAML mapping: every fault becomes a UsageError with the path to it.

    orders -> db2 -> raftctl_role: must be data, witness or async

A reader names each key that it knows; `done()` refuses what is left over, and suggests the nearest known key.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, TypeVar

from raftctl.errors import UsageError
from raftctl.inventory.yaml_file import VaultText

E = TypeVar("E", bound=enum.StrEnum)

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def fault(path: tuple[str, ...], what: str, *, hint: str = "") -> NoReturn:
    """Raise the UsageError that says what is wrong at `path`."""
    raise UsageError(f"{' -> '.join(path)}: {what}", hint=hint)


def mapping(value: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    """`value` as a mapping with text keys; nothing (`key:` alone) is an empty one. Raises UsageError."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        fault(path, f"must be a mapping (`key: value` lines), not {_kind(value)}")
    for key in value:
        if not isinstance(key, str):
            fault(path, f"the key {key!r} must be a text", hint=f"put it in quotes: '{key}'")
    return value


def parse_duration(text: str) -> float:
    """Seconds of "100ms", "1s", "1.5s", "2m" or "1h". Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration")
    return round(float(match[1]) * _SECONDS[match[2]], 6)


def format_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back: 0.1 is "100ms", 60 is "1m"."""
    for unit in ("h", "m", "s"):
        if seconds >= _SECONDS[unit] and (seconds / _SECONDS[unit]).is_integer():
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    if seconds >= 1:
        return f"{seconds:g}s"
    return f"{seconds * 1000:g}ms"


class Fields:
    """The values under `path`. Every getter returns its default when the key is absent or empty."""

    def __init__(
        self,
        values: Mapping[str, Any],
        path: tuple[str, ...],
        *,
        prefix: str = "",
        origins: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """Only keys that begin with `prefix` count (the others are Ansible's); getters are called without it.
        `origins` has the paths of the keys that come from elsewhere than `path`."""
        self._values = {key.removeprefix(prefix): v for key, v in values.items() if key.startswith(prefix)}
        self._path = path
        self._prefix = prefix
        self._origins = origins or {}
        self._known: list[str] = []

    def path(self, key: str) -> tuple[str, ...]:
        name = self._prefix + key
        return (*self._origins.get(name, self._path), name)

    def fault(self, key: str, what: str, *, hint: str = "") -> NoReturn:
        fault(self.path(key), what, hint=hint)

    def raw(self, key: str) -> Any:
        """The value as YAML gives it, None when it is absent. Raises UsageError for what only Ansible can
        read."""
        self._known.append(key)
        value = self._values.get(key)
        if isinstance(value, str) and "{{" in value:
            self.fault(key, "is a template, which raftctl does not evaluate", hint="write the value itself")
        if isinstance(value, VaultText):
            self.fault(
                key,
                "is encrypted with Ansible Vault, which raftctl does not decrypt",
                hint="give secrets by environment variable or by a file of mode 0600",
            )
        return value

    def text(self, key: str, default: str, *, pattern: str = r"[^\x00-\x1f\x7f]+", form: str = "a text") -> str:
        """A text that matches `pattern`, which `form` describes. Numbers count as texts: YAML reads `zone: 1`
        so."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            self.fault(key, f"must be {form}, not {_kind(value)}")
        return value

    def absolute_path(self, key: str, default: str) -> str:
        return self.text(key, default, pattern=r"/[^\x00-\x1f\x7f]*", form="an absolute path")

    def integer(self, key: str, default: int, *, low: int, high: int) -> int:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.fault(key, f"must be a whole number, not {_kind(value)}")
        if not low <= value <= high:
            self.fault(key, f"must be {low} to {high}, not {value}")
        return value

    def port(self, key: str, default: int) -> int:
        return self.integer(key, default, low=1, high=65535)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(key, f"must be true or false, not {_kind(value)}")
        return value

    def duration(self, key: str, default: float, *, low: float) -> float:
        """Seconds, at least `low`."""
        value = self.raw(key)
        if value is None:
            return default
        try:
            seconds = parse_duration(value if isinstance(value, str) else "")
        except ValueError:
            self.fault(key, f"must be a duration, not {_kind(value)}", hint="write 100ms, 1s, 2m or 1h")
        if seconds < low:
            self.fault(key, f"must be at least {format_duration(low)}, not {value}")
        return seconds

    def choice(self, key: str, default: E) -> E:
        value = self.raw(key)
        if value is None:
            return default
        kind = type(default)
        if not isinstance(value, str) or value not in [word.value for word in kind]:
            self.fault(key, f"must be {one_of([word.value for word in kind])}")
        return kind(value)

    def section(self, key: str) -> Fields:
        self._known.append(key)
        path = self.path(key)
        return Fields(mapping(self._values.get(key), path), path)

    def done(self) -> None:
        """Raise UsageError when a key is left that no getter asked for."""
        for key in self._values:
            if key not in self._known:
                self.fault(key, "is not a setting", hint=suggestion(key, self._known, prefix=self._prefix))


def suggestion(word: str, known: Collection[str], *, prefix: str = "") -> str:
    """`did you mean ...?` when one of `known` is near, else all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean {prefix}{near[0]}?"
    return f"it can be {one_of([prefix + name for name in known])}"


def one_of(words: Collection[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _kind(value: Any) -> str:
    """The value for a message: short values as they are, others by their kind."""
    if isinstance(value, VaultText):
        return "a value encrypted with Ansible Vault"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
