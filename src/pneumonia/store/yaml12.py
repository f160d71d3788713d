"""YAML 1.2, read as DVC reads it, and strictly: a repeated key is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from pneumonia.errors import PipelineError

MAX_DEPTH = 50  # of lists and mappings within one another; libyaml's composer ends in a crash


class _Loader(yaml.CSafeLoader):
    """libyaml with the scalars of YAML 1.2, which is what DVC reads and writes.

    `dvc exp run -S finetune.learning_rate=0.00001` writes `1e-05`. YAML 1.1, PyYAML's default,
    wants a dot in a float and returns the text "1e-05".
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys stand once; what `<<` brings in gives way to them, as in DVC."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value
                if key.tag != "tag:yaml.org,2002:merge"]  # fmt: skip
        if len(keys) != len(set(keys)):
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(
                None, None, f"key {repeated!r} stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """PyYAML's own takes 012 for ten, as YAML 1.1 does, and stumbles over 09."""
        text = node.value.replace("_", "").lower()
        return int(text, 0 if text.lstrip("+-")[:2] in ("0b", "0o", "0x") else 10)


# The core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#1032-tag-resolution, and beyond it what
# DVC's reader, ruamel.yaml, takes for a number as well: 0b11 and 1_000; and its `<<`.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
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
        _refuse_depth(text)
        value = yaml.load(text, _Loader)  # a SafeLoader: it builds plain values only
    except (yaml.YAMLError, ValueError, TypeError) as error:  # `!!int x`, a year 0, a `? {}` key
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"{where}: expected YAML that can be read. Received: {reason}"
        ) from error
    if not isinstance(value, dict):
        received = "nothing" if value is None else f"a {type(value).__name__}"
        raise PipelineError(f"{where}: expected sections `name: …`. Received: {received}")
    return value


def _refuse_depth(text: str) -> None:
    """Raise `ValueError` where the text nests deeper than any file of ours could."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"more than {MAX_DEPTH} lists and mappings within one another")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
