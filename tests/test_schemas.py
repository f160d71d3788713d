"""The JSON schemas follow from the models, the files name theirs, and editors can rely on them."""

import json
from pathlib import Path

import jsonschema
import pytest
from dvc.utils.hydra import apply_overrides

from pneumonia.errors import PipelineError
from pneumonia.schemas import FOLDER, main, schemas
from pneumonia.store.yaml12 import load_yaml, parse_yaml

ROOT = Path(__file__).parents[1]
FILES = {
    "params.yaml": "params.json",
    "examples/params.yaml": "params.json",
    "gate.yaml": "gate.json",
    "examples/gate.yaml": "gate.json",
    **{f"recipes/{path.name}": "recipe.json" for path in (ROOT / "recipes").glob("*.yaml")},
}


def errors(schema: str, value: object) -> list[str]:
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / FOLDER / schema).read_text()))
    return [error.message for error in validator.iter_errors(value)]


def test_the_schemas_in_the_repository_are_those_of_the_models(tmp_path):
    main(ROOT, check=True)
    with pytest.raises(PipelineError, match="does not follow from the models"):
        main(tmp_path, check=True)
    main(tmp_path)
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == sorted(schemas())
    main(tmp_path, check=True)


@pytest.mark.parametrize(("file", "schema"), FILES.items())
def test_each_file_names_its_schema_first_and_follows_it(file, schema):
    first = (ROOT / file).read_text(encoding="utf-8").splitlines()[0]
    mark, _, named = first.partition("=")
    assert mark == "# yaml-language-server: $schema"
    assert ((ROOT / file).parent / named).resolve() == (ROOT / FOLDER / schema).resolve()
    assert errors(schema, load_yaml(ROOT / file)) == []


@pytest.mark.parametrize(
    ("schema", "text", "message"),
    [
        ("recipe.json", "finetune: {epochs: -1}", "-1 is less than the minimum of 0"),
        ("recipe.json", "finetune: {epoch: 1}", "'epoch' was unexpected"),
        ("recipe.json", "finetun: {}", "'finetun' was unexpected"),
        ("recipe.json", "model: {backbone: vgg}", "'vgg' is not one of"),
        ("recipe.json", "seed: many", "'many' is not of type 'integer'"),
        ("params.json", "seed: 1", "'finetune' is a required property"),
        ("gate.json", "schema: 2", "2 is greater than the maximum of 1"),
        ("gate.json", "floors: {recall: 1.0}", "1.0 is greater than or equal to the maximum"),
    ],
)
def test_what_a_file_may_not_say_an_editor_marks(schema, text, message):
    assert [m for m in errors(schema, parse_yaml(text, "it")) if message in m]


def test_dvc_keeps_the_first_line_when_it_writes_a_parameter(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    apply_overrides(path, ["finetune.learning_rate=0.00001"])  # as `dvc exp run -S` does
    first, *_ = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=schemas/params.json"
    assert load_yaml(path)["finetune"]["learning_rate"] == 0.00001
