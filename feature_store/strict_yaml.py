"""YAML that cannot surprise: one document, no aliases, no duplicate keys, bounded size and depth, plain scalars only.

Plain ``yaml.safe_load`` turns ``no`` into False, ``012`` into 10, ``12:30`` into 750, keeps the last of two equal keys and
expands aliases without bound. A plan or a view definition must mean what its reader sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
MAX_DEPTH = 50


class StrictYamlError(ValueError):
    """The text is not the plain YAML this project accepts; the message gives line and reason."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's core scalars and refusals in place of surprises."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML reads a class attribute

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.line + 1
            raise StrictYamlError(f"line {line} or before: aliases are not accepted")
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise StrictYamlError(f"line {event.start_mark.line + 1}: tags are not accepted, found {event.tag}")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise StrictYamlError(f"nested deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise StrictYamlError(f"line {key.start_mark.line + 1}: a key must be plain text")
            if key.value in seen:
                raise StrictYamlError(f"line {key.start_mark.line + 1}: key {key.value!r} stands twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _core_resolvers() -> None:
    import re

    core = {
        "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        "tag:yaml.org,2002:int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
        "tag:yaml.org,2002:float": (
            r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
            list("-+.0123456789"),
        ),
    }
    for tag, (pattern, first) in core.items():
        _StrictLoader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), first)


_core_resolvers()


def load_strict_yaml(text: str | bytes) -> Any:
    """Parse one YAML document into dicts, lists and scalars.

    Raises:
        StrictYamlError: not UTF-8, too large or deep, broken, with aliases, duplicate or non-text keys, or tags.
    """
    if len(text) > MAX_BYTES:
        raise StrictYamlError(f"longer than {MAX_BYTES} bytes")
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        loader = _StrictLoader(decoded)
    except UnicodeDecodeError as error:
        raise StrictYamlError(f"not UTF-8 at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise StrictYamlError(str(error).replace("\n", " ")) from None
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise StrictYamlError(str(error).replace("\n", " ")) from None
    except RecursionError:
        raise StrictYamlError("nested too deeply") from None
    except (ValueError, OverflowError, TypeError) as error:
        if isinstance(error, StrictYamlError):
            raise
        raise StrictYamlError(f"a value cannot be read: {error}") from None
    finally:
        loader.dispose()


def read_strict_yaml(path: Path) -> Any:
    """``load_strict_yaml`` of a file; the error names the file."""
    try:
        with path.open("rb") as file:
            return load_strict_yaml(file.read(MAX_BYTES + 1))
    except StrictYamlError as error:
        raise StrictYamlError(f"{path}: {error}") from None
    except OSError as error:
        raise StrictYamlError(f"{path}: {error.strerror or error}") from None
