"""Reading a YAML file strictly: a repeated key, a tag or a runaway document is an error with its line, never
a guess.

Plain PyYAML keeps the last of two equal keys and turns `2026-01-01` into a date; both hide a user's mistake.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from raftctl.errors import UsageError

SIZE_MAX = 1 << 20  # bytes; the pure Python parser reads about 100 kB a second


class VaultText:
    """A value that Ansible Vault encrypted (`!vault |`). Kept opaque."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "<encrypted by Ansible Vault>"


class _Loader(yaml.SafeLoader):
    """Python's own loader, not libyaml's: deep nesting raises RecursionError there instead of ending the
    process."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)  # merge keys: `<<: *defaults`
    result: dict[Any, Any] = {}
    own_keys: set[Any] = set()
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key_node.start_mark)
        written_here = node.start_mark.index <= key_node.start_mark.index < node.end_mark.index
        if written_here and key in own_keys:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here twice", key_node.start_mark
            )
        if written_here:
            own_keys.add(key)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _vault_text(loader: _Loader, node: yaml.ScalarNode) -> VaultText:
    return VaultText(_text(loader, node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("!unsafe", _text)  # Ansible's mark for "no template in here"
_Loader.add_constructor("!vault", _vault_text)
# A date or a sexagesimal number (`1:30`) is never meant in these files: such words stay text.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Any:
    """The document in the file, None when it is empty.

    Raises UsageError, with the line where there is one, when the file cannot be read or is not one YAML
    document.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}", hint="run this as a user who may read it"
        ) from None
    return parse_yaml(data, name=str(path))


def parse_yaml(data: bytes, *, name: str) -> Any:
    """The document in `data`; `name` stands for it in errors. Raises UsageError."""
    if len(data) > SIZE_MAX:
        raise UsageError(f"{name}: is larger than {SIZE_MAX // 1024} KiB")
    try:
        return yaml.load(data.decode(), Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: is not UTF-8 text (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UsageError(f"{name}: {where}{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise UsageError(f"{name}: holds a character that YAML does not allow: {error.reason}") from None
    except RecursionError:
        raise UsageError(f"{name}: is nested too deeply") from None
    except (ValueError, KeyError, OverflowError, AttributeError, TypeError) as error:
        # PyYAML's scalar constructors let these out: `0x_`, numbers of 5,000 digits, `!!bool maybe`.
        raise UsageError(f"{name}: holds a value that cannot be read: {error}") from None
