"""params.yaml, read as DVC reads it and checked strictly: every key, no other key, exact types."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from pneumonia.errors import PipelineError
from pneumonia.store.yaml12 import load_yaml

Section = TypeVar("Section")


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
