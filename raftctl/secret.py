"""A password or key that cannot end up in a log, an error or a table by accident."""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn


class Secret:
    """Text that renders as `***` everywhere; `reveal()` is the only way to read it, easy to search for."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled")


def fingerprint(secrets_file: bytes) -> str:
    """Tells whether two files of secrets are the same, and nothing of what is in them: the cluster key in every one, of
    256 random bits, keeps anybody from trying out passwords by it."""
    return hashlib.sha256(b"raftctl secrets\0" + secrets_file).hexdigest()[:32]
