"""Stage `split`, through its main: the manifest and the audit, as files."""

import hashlib
import logging
from pathlib import Path

import pandas as pd
import pytest

from pneumonia.data.archive import write_archive
from pneumonia.errors import PipelineError
from pneumonia.store.files import read_table
from stages.split import main

PARAMS = "seed: 1\nsplit: {strategy: paper, validation_share: 0.5, block_start: 0}\n"
# The bytes are not decoded here, so any will do.
FILES = {
    "chest_xray/.DS_Store": b"litter",
    "chest_xray/test/NORMAL/IM-0001-0001.jpeg": b"a",
    "chest_xray/test/PNEUMONIA/person1_virus_6.jpeg": b"b",
    "chest_xray/train/NORMAL/IM-0115-0001.jpeg": b"c",
    "chest_xray/train/NORMAL/IM-0117-0001.jpeg": b"d",
    "chest_xray/train/PNEUMONIA/person3_bacteria_10.jpeg": b"e",
    "chest_xray/train/PNEUMONIA/person4_bacteria_11.jpeg": b"a",  # the bytes of a test image
}


def prepare(root: Path, files: dict[str, bytes], params: str = PARAMS) -> None:
    (root / "data/raw").mkdir(parents=True)
    (root / "params.yaml").write_text(params)
    write_archive(root / "data/raw/radiographs.zip", sorted(files.items()))


def test_manifest_and_audit_are_written_as_promised(tmp_path, caplog):
    prepare(tmp_path, FILES)
    with caplog.at_level(logging.INFO):
        main(tmp_path)
    digest = {letter: hashlib.sha256(letter.encode()).hexdigest() for letter in "abcde"}
    assert (tmp_path / "data/split/manifest.csv").read_text().splitlines() == [
        "name,member,label,kind,patient_id,split,sha256",
        *(
            f"{name},chest_xray/{name},{label},{kind},{patient},{split},{digest[letter]}"
            for name, label, kind, patient, split, letter in [
                ("test/NORMAL/IM-0001-0001.jpeg", 0, "normal", "IM-0001", "test", "a"),
                ("test/PNEUMONIA/person1_virus_6.jpeg", 1, "viral", "person1_virus", "test", "b"),
                ("train/NORMAL/IM-0115-0001.jpeg", 0, "normal", "IM-0115", "validation", "c"),
                ("train/NORMAL/IM-0117-0001.jpeg", 0, "normal", "IM-0117", "train", "d"),
                *[
                    (
                        f"train/PNEUMONIA/{patient}_{film}.jpeg",
                        1,
                        "bacterial",
                        patient,
                        split,
                        letter,
                    )
                    for patient, film, split, letter in [
                        ("person3_bacteria", 10, "validation", "e"),
                        ("person4_bacteria", 11, "train", "a"),
                    ]
                ],
            ]
        ),
    ]
    audit = read_table(tmp_path / "data/split/duplicates.csv", text=("name", "split"))
    assert audit["name"].tolist() == [
        "test/NORMAL/IM-0001-0001.jpeg",
        "train/PNEUMONIA/person4_bacteria_11.jpeg",
    ]
    # The leak between splits, the contradiction of labels and the two patients are said aloud.
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 3
    for what, line in zip(("split", "label", "patient_id"), warned, strict=True):
        assert f"more than one {what}: test/NORMAL/IM-0001-0001.jpeg, train/PNEUMONIA" in line
    assert "validation: 2 images: {'normal': 1, 'bacterial': 1}" in caplog.text


def test_the_block_that_was_found_is_reported(tmp_path, caplog):
    pair = "chest_xray/train/NORMAL/IM-0115-0002.jpeg"
    files = {**FILES, pair: b"f", "chest_xray/train/NORMAL/IM-0118-0001.jpeg": b"g"}
    prepare(tmp_path, files, PARAMS.replace("paper", "block").replace("start: 0", "start: 1"))
    with caplog.at_level(logging.INFO):
        main(tmp_path)
    # int(0.5 * 4) = 2 of IM-0115 (2), IM-0117 (1), IM-0118 (1)
    assert "NORMAL: validation begins at patient 1 of 3: IM-0117 to IM-0118" in caplog.text


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_split(tmp_path):
    files = {
        f"chest_xray/{folder}/NORMAL/IM-{number:04d}-0001.jpeg": str(number).encode()
        for folder, numbers in (("test", range(9)), ("train", range(100, 140)))
        for number in numbers
    } | {name: data for name, data in FILES.items() if "PNEUMONIA" in name}
    manifests = []
    for i, seed in enumerate((1, 1, 2)):
        params = PARAMS.replace("paper", "patient").replace("seed: 1", f"seed: {seed}")
        prepare(tmp_path / str(i), files, params)
        main(tmp_path / str(i))
        manifests.append((tmp_path / str(i) / "data/split/manifest.csv").read_bytes())
    assert manifests[0] == manifests[1]
    assert manifests[0] != manifests[2]


def test_a_refused_split_writes_nothing(tmp_path):
    files = {**FILES, "chest_xray/test/NORMAL/IM-0115-0002.jpeg": b"f"}  # also in train
    prepare(tmp_path, files)
    with pytest.raises(PipelineError, match="IM-0115"):
        main(tmp_path)
    assert not (tmp_path / "data/split").exists()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (PARAMS.replace("paper", "random"), "strategy must be one of paper, patient, block"),
        (PARAMS.replace("0.5", "1.5"), r"params.yaml: split.validation_share must be in \(0, 1\)"),
        (PARAMS.replace("seed: 1", "seed: x"), "seed must be int. Received: 'x'"),
        (PARAMS.replace("seed: 1", ""), "section `seed` is missing"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(tmp_path, params, message):
    prepare(tmp_path, FILES, params)
    with pytest.raises(PipelineError, match=message):
        main(tmp_path)


@pytest.mark.real
def test_the_audit_finds_the_known_duplicates_of_the_real_radiographs(tmp_path, real_archive):
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/radiographs.zip").symlink_to(real_archive.resolve())
    (tmp_path / "params.yaml").write_text(PARAMS.replace("0.5", "0.1"))
    main(tmp_path)
    manifest = read_table(tmp_path / "data/split/manifest.csv", text=("patient_id",))
    assert manifest["split"].value_counts().to_dict() == {
        "train": 4710,
        "validation": 522,
        "test": 624,
    }
    audit = pd.read_csv(tmp_path / "data/split/duplicates.csv")
    groups = audit.groupby("group")
    assert (len(groups), len(audit)) == (30, 62)
    in_test = audit["split"] == "test"
    assert in_test.groupby(audit["group"]).nunique().eq(1).all()  # none across the folders
    assert groups["label"].nunique().eq(1).all()  # none across the classes
    assert groups["split"].first().eq("test").sum() == 6
