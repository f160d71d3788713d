"""params.yaml, read as DVC reads it and checked strictly: every key, no other key, exact types."""

import reprlib
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from pneumonia.errors import PipelineError
from pneumonia.store.yaml12 import load_yaml

if TYPE_CHECKING:
    Seed: TypeAlias = int
else:
    # NumPy takes no negative seed, and Keras none above.
    Seed = Annotated[int, Field(ge=0, le=2**32 - 1, description="of all random numbers")]


class Section(BaseModel):
    """Base of a section: bounds stand on the fields, rules between fields in a validator."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )


Into = TypeVar("Into")


def load_section(path: Path, name: str, into: type[Into]) -> Into:
    """Section `name` of a parameter file as the `Section` `into` (or a plain int, float …).

    A dotted name, `fetch.source`, is one leaf of a section, as dvc.yaml declares it.

    Raises:
        PipelineError: the section or a key is missing, a key is unknown, a type or value is wrong.
    """
    value: Any = load_yaml(path)
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            found = list(value) if isinstance(value, dict) else value
            raise PipelineError(f"{path}: section `{name}` is missing. Received: {short(found)}")
        value = value[key]
    return as_section(value, f"{path}: {name}", into)


def as_section(value: Any, where: str, into: type[Into]) -> Into:
    """`value`, as read from YAML, as the `Section` or plain type `into`; `where` starts the error.

    Raises:
        PipelineError: as `load_section`.
    """
    section = isinstance(into, type) and issubclass(into, Section)
    config = None if section else Section.model_config
    try:
        return TypeAdapter(into, config=config).validate_python(value)
    except ValidationError as error:
        raise PipelineError(_sentence(error, where, into)) from error


def require(holds: bool, field: str, rule: str, received: object) -> None:
    """One rule between fields, for the validator of a `Section`.

    Raises:
        ValueError: `holds` is false; `as_section` adds the place.
    """
    if not holds:
        raise ValueError(f"{field} must {rule}. Received: {short(received)}")


def short(value: object) -> str:
    """The value for an error: one line of a bounded length, however large the value is."""
    shortened = reprlib.Repr()
    shortened.maxlevel, shortened.maxlist, shortened.maxdict = 3, 12, 12
    shortened.maxstring = shortened.maxother = 200
    try:
        text = shortened.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 300 else f"{text[:300]} …"


def _sentence(error: ValidationError, where: str, into: Any) -> str:
    """What is wrong, in one line: first the keys of a section, then the first of its values."""
    errors = error.errors(include_url=False)
    keys = [e for e in errors if e["type"] in ("missing", "extra_forbidden")]
    if keys:
        path = keys[0]["loc"][:-1]
        beside = [e for e in keys if e["loc"][:-1] == path]
        missing = [str(e["loc"][-1]) for e in beside if e["type"] == "missing"]
        unknown = [short(e["loc"][-1]).strip("'") for e in beside if e["type"] != "missing"]
        parts = [f"missing {', '.join(missing)}"] * bool(missing)
        parts += [f"unknown {', '.join(unknown)}"] * bool(unknown)
        accepted = ", ".join(_fields(_hint(into, path)[0]))
        return f"{_place(where, path)}: {'; '.join(parts)}. Accepted: {accepted}"
    first = errors[0]
    place = _place(where, first["loc"])
    if first["type"] in ("model_type", "model_attributes_type"):
        return f"{place}: expected keys with values. Received: {short(first['input'])}"
    if first["type"] == "value_error":  # of `require`, which names the field itself
        return _place(where, (*first["loc"], str(first["ctx"]["error"])))
    rule = _rule(first["type"], *_hint(into, first["loc"]))
    return f"{place} must {rule}. Received: {short(first['input'])}"


def _place(where: str, path: tuple[int | str, ...]) -> str:
    """`params.yaml: split.strategy`, `gate.yaml: waivers[0].rule`."""
    for key in path:
        joint = "." if ": " in where or ("/" not in where and ".yaml" not in where) else ": "
        where += f"[{key}]" if isinstance(key, int) else f"{joint}{key}"
    return where


def _fields(section: Any) -> dict[str, FieldInfo]:
    """The fields of a section by the key that the file has for them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _hint(into: Any, path: tuple[int | str, ...]) -> tuple[Any, list[Any]]:
    """Type and bounds of what stands at `path` within `into`."""
    field = FieldInfo.from_annotation(into)
    for key in path:
        within: Any = field.annotation
        field = (
            FieldInfo.from_annotation(typing.get_args(within)[0])
            if isinstance(key, int)
            else _fields(within)[key]
        )
    return field.annotation, field.metadata


def _rule(kind: str, hint: Any, bounds: list[Any]) -> str:
    """What a value must be: `be int or null`, `be one of a, b`, `be in [0, 1)`, `be above 0`."""
    if kind == "finite_number":
        return "be a finite number"
    if kind.startswith(("greater_than", "less_than")):
        limit = {name: getattr(b, name) for b in bounds for name in ("ge", "gt", "le", "lt")
                 if hasattr(b, name)}  # fmt: skip
        lower = next((n for n in ("ge", "gt") if n in limit), "")
        upper = next((n for n in ("le", "lt") if n in limit), "")
        if lower and upper:
            if limit[lower] == limit[upper]:
                return f"be {limit[lower]}"
            ends = {"ge": "[", "gt": "(", "le": "]", "lt": ")"}
            return f"be in {ends[lower]}{limit[lower]}, {limit[upper]}{ends[upper]}"
        words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
        return f"be {words[lower or upper]} {limit[lower or upper]}"
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    names = []
    for option in options:
        if typing.get_origin(option) is typing.Literal:
            accepted = typing.get_args(option)
            names.append("one of " * (len(accepted) > 1) + ", ".join(map(str, accepted)))
        elif typing.get_origin(option) is list:
            names.append("a list")
        else:
            names.append("null" if option is type(None) else option.__name__)
    return f"be {' or '.join(names)}"
