"""params.yaml, read as DVC reads it and checked strictly: every key, no other key, exact types."""

import dataclasses
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pneumonia.errors import PipelineError

Section = TypeVar("Section")


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2, which is what DVC reads and writes.

    `dvc exp run -S finetune.learning_rate=0.00001` writes `1e-05`. YAML 1.1, PyYAML's default,
    wants a dot in a float and returns the text "1e-05".
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        repeated = sorted({str(key) for key in keys if keys.count(key) > 1})
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {repeated[0]!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """PyYAML's own takes 012 for ten, as YAML 1.1 does, and stumbles over 09."""
        text = node.value.replace("_", "").lower()
        return int(text, 0 if text.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)


# The core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#1032-tag-resolution, and beyond it what
# DVC's reader, ruamel.yaml, takes for a number as well: 0b11 and 1_000.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "int",
        r"[-+]?(?:[0-9][0-9_]*|0b[01][01_]*|0o[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*)",
        "-+0123456789",
    ),
    (
        "float",
        r"[-+]?(?:\.[0-9_]*[0-9][0-9_]*(?:[eE][-+][0-9]+)?"  # .5e5 is text to ruamel.yaml
        r"|[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?)"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
]:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML 1.2 file.

    Raises:
        PipelineError: the file is missing, is not YAML, repeats a key, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: expected YAML that can be read. Received: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in the text of a YAML 1.2 file; `where` starts the error.

    Raises:
        PipelineError: the text is not YAML, repeats a key, or is no mapping.
    """
    try:
        value = yaml.load(text, _Loader)  # a SafeLoader: it builds plain values only
    except (yaml.YAMLError, ValueError) as error:  # ValueError: `!!int x`, a year 0
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{where}: expected YAML that can be read. Received: {reason}"
        ) from error
    if not isinstance(value, dict):
        raise PipelineError(f"{where}: expected sections `name: …`. Received: {value!r}")
    return value


def load_section(path: Path, name: str, into: type[Section]) -> Section:
    """Section `name` of a parameter file as the frozen dataclass `into` (or a plain int, float …).

    A dotted name, `fetch.source`, is one leaf of a section, as dvc.yaml declares it.

    Raises:
        PipelineError: the section or a key is missing, a key is unknown, a type or value is wrong.
    """
    value: Any = load_yaml(path)
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            received = sorted(map(str, value)) if isinstance(value, dict) else repr(value)
            raise PipelineError(f"{path}: section `{name}` is missing. Received: {received}")
        value = value[key]
    return as_section(value, f"{path}: {name}", into)


def as_section(value: Any, where: str, into: type[Section]) -> Section:
    """`value`, as read from YAML, as the dataclass or plain type `into`; `where` starts the error.

    Raises:
        PipelineError: as `load_section`.
    """
    if not dataclasses.is_dataclass(into):
        return typing.cast(Section, _exact(value, into, where))
    if not isinstance(value, dict):
        raise PipelineError(f"{where}: expected keys with values. Received: {value!r}")
    hints = typing.get_type_hints(into)
    missing = [key for key in hints if key not in value]
    unknown = [str(key) for key in value if key not in hints]
    if missing or unknown:
        raise PipelineError(
            f"{where}: "
            + "; ".join(
                part
                for part in (
                    f"missing {', '.join(missing)}" if missing else "",
                    f"unknown {', '.join(unknown)}" if unknown else "",
                )
                if part
            )
            + f". Accepted: {', '.join(hints)}"
        )
    fields = {key: _exact(value[key], hint, f"{where}.{key}") for key, hint in hints.items()}
    try:
        return into(**fields)
    except PipelineError as error:  # a rule of __post_init__, which does not know the file
        raise PipelineError(f"{where}.{error}") from error


def _exact(value: Any, hint: Any, where: str) -> Any:
    """`value` if it is of the hinted type; an int is accepted as float, a bool is no int."""
    if typing.get_origin(hint) is typing.Literal:
        accepted = typing.get_args(hint)
        if value not in accepted or isinstance(value, bool):
            raise PipelineError(
                f"{where} must be one of {', '.join(map(str, accepted))}. Received: {value!r}"
            )
        return value
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    if type(value) in options:
        # NaN and infinity pass every comparison of the rules or none.
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise PipelineError(f"{where} must be a finite number. Received: {value!r}")
        return value
    if type(value) is int and float in options:
        return float(value)
    names = " or ".join("null" if option is type(None) else option.__name__ for option in options)
    raise PipelineError(f"{where} must be {names}. Received: {value!r}")


def check(holds: bool, field: str, rule: str, received: object) -> None:
    """One rule of a parameter dataclass, for its `__post_init__`.

    Raises:
        PipelineError: `holds` is false; says `field must rule. Received: received`.
    """
    if not holds:
        raise PipelineError(f"{field} must {rule}. Received: {received!r}")
