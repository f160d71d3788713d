"""JSON schemas of params.yaml, gate.yaml and recipes, for editors that complete and check them.

`python -m pneumonia.schemas` writes them from the sections' own models; with `--check` it only
tells whether they are up to date.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pneumonia.errors import PipelineError, run_stage
from pneumonia.store.files import write_text

FOLDER = Path("schemas")


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each kind of file, by the name of its own file."""
    from pneumonia.gate.policy import GateFile
    from pneumonia.recipes import section_types

    sections = {
        name: TypeAdapter(into).json_schema(ref_template="#/$defs/{model}")
        for name, into in section_types().items()
    }
    for section in sections.values():
        if section.get("type") == "object":
            section["required"] = list(section["properties"])
    overrides = {
        name: {key: value for key, value in section.items() if key != "required"}
        for name, section in sections.items()
    }
    return {
        "params.json": _file("params.yaml", sections, required=list(sections)),
        "recipe.json": _file("A recipe: overrides of params.yaml", overrides, required=[]),
        "gate.json": {
            **GateFile.model_json_schema(),
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "gate.yaml",
        },
    }


def _file(title: str, sections: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": sections,
        "required": required,
        "additionalProperties": False,
    }


def main(root: Path = Path(), *, check: bool = False) -> None:
    """Write the schemas into `root`, or see that those there are the ones that would be written.

    Raises:
        PipelineError: `check` is set and one is missing or differs.
    """
    for name, schema in schemas().items():
        path, text = root / FOLDER / name, json.dumps(schema, indent=2) + "\n"
        if not check:
            write_text(path, text)
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise PipelineError(
                f"{path} does not follow from the models; `python -m pneumonia.schemas` writes it"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    arguments = parser.parse_args()
    run_stage(lambda: main(check=arguments.check))
