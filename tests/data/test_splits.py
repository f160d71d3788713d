"""Splits: the three strategies, their invariants, and the audit of identical images."""

from itertools import chain

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumonia.data.archive import list_radiographs
from pneumonia.data.names import Radiograph
from pneumonia.data.splits import (
    SplitParams,
    assign_splits,
    duplicate_groups,
    groups_across,
    split_notes,
)
from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section

PATIENT_ID = {"normal": "IM-{:04d}", "bacterial": "person{}_bacteria", "viral": "person{}_virus"}


def films(folder: str, kind: str, sizes: dict[int, int]) -> list[Radiograph]:
    """Radiographs of patients: number to how many images."""
    class_name = "NORMAL" if kind == "normal" else "PNEUMONIA"
    found = []
    for number, size in sizes.items():
        patient = PATIENT_ID[kind].format(number)
        for film in range(size):
            name = f"{folder}/{class_name}/{patient}_{film:04d}.jpeg"
            label = int(kind != "normal")
            found.append(Radiograph(name, f"chest_xray/{name}", folder, label, kind, patient))
    return found


TEST_FOLDER = films("test", "normal", {1: 1}) + films("test", "bacterial", {1: 1})


def params(strategy: str, share: float = 0.5, start: int = 0) -> SplitParams:
    values = {"strategy": strategy, "validation_share": share, "block_start": start}
    return as_section(values, "split", SplitParams)


def validation_patients(table: pd.DataFrame, label: int) -> set[str]:
    rows = table[(table["split"] == "validation") & (table["label"] == label)]
    return set(rows["patient_id"])


@pytest.mark.parametrize(
    ("share", "start", "field"),
    [(0.0, 0, "validation_share"), (1.0, 0, "validation_share"), (0.1, -1, "block_start")],
)
def test_parameters_out_of_range_are_refused(share, start, field):
    with pytest.raises(PipelineError, match=field):
        params("paper", share, start)


# --- paper

# In sorted order IM-0010 (2 images), IM-0011 (1), IM-0012 (1); person100, person20, person3: plain
# sorting of names, "1" before "2" before "3".
SMALL = [
    *TEST_FOLDER,
    *films("train", "normal", {10: 2, 11: 1, 12: 1}),
    *films("train", "bacterial", {3: 2, 20: 1, 100: 1}),
]


def test_paper_takes_the_first_names_of_each_class_in_plain_sorted_order():
    table = assign_splits(SMALL, params("paper"), seed=0)
    assert validation_patients(table, 0) == {"IM-0010"}  # int(0.5 * 4) = 2 images: both of IM-0010
    assert validation_patients(table, 1) == {"person100_bacteria", "person20_bacteria"}  # 1 + 1


def test_paper_rounds_down_as_keras_does():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", dict.fromkeys(range(10, 110), 1)),
        *films("train", "viral", dict.fromkeys(range(10, 29), 1)),
    ]
    table = assign_splits(films_, params("paper", 0.29), seed=0)
    # 0.29 * 100 is 28.999999999999996 in floating point, and Keras' int() makes that 28.
    assert len(validation_patients(table, 0)) == 28
    assert len(validation_patients(table, 1)) == 5  # int(0.29 * 19) = int(5.51)


def test_paper_refuses_to_divide_a_patient_and_names_the_other_strategies():
    with pytest.raises(PipelineError) as refusal:
        assign_splits(SMALL, params("paper", 0.25), seed=0)  # 1 of 4 normals: half of IM-0010
    for part in ("paper would divide patient IM-0010", "1 of 2 images", "patient, block"):
        assert part in str(refusal.value)


# --- patient


def test_patient_keeps_the_shares_of_the_kinds():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", dict.fromkeys(range(10, 14), 1)),
        *films("train", "bacterial", dict.fromkeys(range(10, 30), 1)),
        *films("train", "viral", dict.fromkeys(range(10, 20), 1)),
    ]
    for seed in range(5):
        table = assign_splits(films_, params("patient", 0.25), seed)
        kinds = table[table["split"] == "validation"]["kind"].value_counts().to_dict()
        # int(0.25 * 30) = 7 for 20 bacterial and 10 viral: 4.67 and 2.33; the larger remainder wins
        assert kinds == {"normal": 1, "bacterial": 5, "viral": 2}


def test_patient_puts_the_exact_number_before_the_exact_kinds():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", {10: 1, 11: 1}),
        *films("train", "bacterial", {10: 2}),
        *films("train", "viral", {10: 2}),
    ]
    table = assign_splits(films_, params("patient"), seed=0)
    # int(0.5 * 4) = 2: one of each kind is impossible, one patient of either kind is not.
    assert len(validation_patients(table, 1)) == 1
    assert not split_notes(table, params("patient"))


def test_patient_comes_as_near_as_whole_patients_can_and_says_so():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", {10: 3, 11: 3, 12: 5}),
        *films("train", "viral", {10: 1, 11: 1}),
    ]
    table = assign_splits(films_, params("patient"), seed=0)
    # int(0.5 * 11) = 5: IM-0012 alone
    assert validation_patients(table, 0) == {"IM-0012"}
    wanted_four = params("patient", 0.4)  # int(0.4 * 11) = 4: of 0, 3, 5, 6, 8, 11 it is 3
    with pytest.raises(PipelineError, match="2 PNEUMONIA images gives no image to validation"):
        assign_splits(films_, wanted_four, seed=0)  # int(0.4 * 2) = 0
    films_ += films("train", "viral", {12: 1})
    table = assign_splits(films_, wanted_four, seed=0)
    assert int(((table["split"] == "validation") & (table["label"] == 0)).sum()) == 3
    assert split_notes(table, wanted_four) == [
        "NORMAL: 3 validation images, not 4: whole patients come no nearer from below"
    ]


def test_patient_draws_another_split_with_another_seed():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", dict.fromkeys(range(10, 50), 1)),
        *films("train", "viral", dict.fromkeys(range(10, 50), 1)),
    ]
    drawn = [validation_patients(assign_splits(films_, params("patient"), s), 0) for s in range(3)]
    assert len({frozenset(patients) for patients in drawn}) == 3


# --- block

#                       position 0     1     2      3      4      5
NUMBERS = films("train", "normal", {9: 2, 10: 1, 30: 3, 100: 2, 101: 2, 102: 2})  # 12 images
BLOCK = [*TEST_FOLDER, *NUMBERS, *films("train", "viral", dict.fromkeys(range(10, 22), 1))]


@pytest.mark.parametrize(
    ("start", "found", "patients"),
    [
        (0, 0, {"IM-0009", "IM-0010", "IM-0030"}),  # 2 + 1 + 3; 9 comes before 10
        (1, 1, {"IM-0010", "IM-0030", "IM-0100"}),  # 1 + 3 + 2
        (2, 3, {"IM-0100", "IM-0101", "IM-0102"}),  # 3 + 2 = 5, + 2 = 7: moved on; 2 + 2 + 2
        (4, 0, {"IM-0009", "IM-0010", "IM-0030"}),  # 2 + 2 and the end: back to the beginning
    ],
)
def test_block_is_the_first_run_of_whole_patients_with_the_exact_number(start, found, patients):
    table = assign_splits(BLOCK, params("block", 0.5, start), seed=0)  # int(0.5 * 12) = 6
    assert validation_patients(table, 0) == patients
    note = split_notes(table, params("block", 0.5, start))[0]
    assert f"begins at patient {found} of 6" in note
    assert ("moved from" in note) == (found != start)
    assert f"{min(patients)} to {max(patients)}" in note


def test_block_holds_neighbours_of_both_kinds():
    films_ = [
        *TEST_FOLDER,
        *films("train", "normal", {10: 1, 11: 1}),
        *films("train", "bacterial", {2: 1, 10: 1}),
        *films("train", "viral", {3: 1, 11: 1}),
    ]
    table = assign_splits(films_, params("block"), seed=0)  # 2, 3, 10, 11: the first two of four
    assert validation_patients(table, 1) == {"person2_bacteria", "person3_virus"}


def test_block_refuses_where_no_run_of_whole_patients_fits():
    films_ = [*TEST_FOLDER, *films("train", "normal", {10: 2, 11: 2})]
    films_ += films("train", "viral", {10: 1, 11: 1})
    with pytest.raises(PipelineError) as refusal:
        assign_splits(films_, params("block", 0.25), seed=0)  # 1 of 4, in pairs
    for part in ("exactly 1 of 4 images", "validation_share", "strategy patient"):
        assert part in str(refusal.value)


def test_block_refuses_a_start_behind_the_last_patient():
    rule = r"split\.block_start must be below 6, the patients of kind normal\. Received: 6"
    with pytest.raises(PipelineError, match=rule):
        assign_splits(BLOCK, params("block", 0.5, 6), seed=0)


# --- what holds for every strategy

STRATEGIES = ["paper", "patient", "block"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_patient_in_both_folders_is_refused(strategy):
    torn = [*SMALL, *films("test", "normal", {12: 1})]
    with pytest.raises(PipelineError, match=r"one folder.*IM-0012 with test and train"):
        assign_splits(torn, params(strategy), seed=0)


def test_a_patient_in_both_classes_is_refused():
    other = Radiograph("train/PNEUMONIA/x.jpeg", "x.jpeg", "train", 1, "viral", "IM-0012")
    with pytest.raises(PipelineError, match=r"one label.*IM-0012 with 0 and 1"):
        assign_splits([*SMALL, other], params("patient"), seed=0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_share_that_gives_validation_no_image_of_a_class_is_refused(strategy):
    with pytest.raises(PipelineError, match="4 NORMAL images gives no image to validation"):
        assign_splits(SMALL, params(strategy, 0.1), seed=0)  # int(0.1 * 4) = 0


@st.composite
def archives(draw):
    """Radiographs of up to 8 patients of 1 to 4 images in each kind and folder."""
    sizes = st.lists(st.integers(1, 4), min_size=1, max_size=8)
    return [
        radiograph
        for folder, first in (("train", 1), ("test", 50))
        for kind in PATIENT_ID
        for radiograph in films(folder, kind, dict(enumerate(draw(sizes), first)))
    ]


@given(archives(), st.sampled_from(STRATEGIES), st.floats(0.05, 0.95), st.randoms())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_and_nobody_is_divided(radiographs, strategy, share, random):
    try:
        table = assign_splits(radiographs, params(strategy, share), seed=7)
    except PipelineError:
        return  # refused: said in one line, and nothing divided
    assert list(table["name"]) == sorted(radiograph.name for radiograph in radiographs)
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()
    assert ((table["split"] == "test") == table["name"].str.startswith("test/")).all()
    for label in (0, 1):
        rows = table[(table["label"] == label) & (table["split"] != "test")]
        wanted, got = int(share * len(rows)), int((rows["split"] == "validation").sum())
        if strategy == "patient":  # every number that whole patients can give, by enumeration
            possible = {0}
            for size in rows["patient_id"].value_counts():
                possible |= {n + size for n in possible}
            assert got == max(n for n in possible if n <= wanted)
        else:
            assert got == wanted
    # The same seed gives the same table, in whatever order the archive lists its images.
    random.shuffle(radiographs)
    pd.testing.assert_frame_equal(table, assign_splits(radiographs, params(strategy, share), 7))


# --- the audit


def manifest(*rows: tuple[str, str, str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "sha256", "patient_id", "label", "split"])


def test_identical_images_are_grouped_in_the_order_of_their_names():
    table = manifest(
        ("e", "ff", "p3", 0, "train"),
        ("d", "aa", "p2", 1, "test"),
        ("c", "ff", "p3", 0, "train"),
        ("b", "00", "p1", 0, "train"),  # alone
        ("a", "aa", "p1", 0, "train"),
    )
    groups = duplicate_groups(table)
    assert list(groups.columns) == ["group", "sha256", "name", "patient_id", "label", "split"]
    assert list(zip(groups["group"], groups["name"], strict=True)) == [
        *[(1, "a"), (1, "d")],
        *[(2, "c"), (2, "e")],
    ]
    assert groups_across(groups, "split") == [["a", "d"]]
    assert groups_across(groups, "label") == [["a", "d"]]
    assert groups_across(groups, "patient_id") == [["a", "d"]]


def test_without_identical_images_the_audit_is_an_empty_table():
    groups = duplicate_groups(manifest(("a", "aa", "p1", 0, "train"), ("b", "bb", "p1", 0, "test")))
    assert len(groups) == 0
    assert list(groups.columns) == ["group", "sha256", "name", "patient_id", "label", "split"]
    assert groups_across(groups, "split") == []


# --- the real radiographs


@pytest.fixture
def real_radiographs(real_archive) -> list[Radiograph]:
    return list_radiographs(real_archive)


@pytest.mark.real
@pytest.mark.parametrize(
    ("strategy", "start"),
    [("paper", 0), ("patient", 0), ("block", 0), ("block", 300), ("block", 1200)],
)
def test_every_strategy_gives_the_studys_numbers_on_the_real_radiographs(
    real_radiographs, strategy, start
):
    table = assign_splits(real_radiographs, params(strategy, 0.1, start), seed=2017)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("train", 0): 1349 - 134,
        ("train", 1): 3883 - 388,  # together 4,710
        ("validation", 0): 134,
        ("validation", 1): 388,  # together 522
        ("test", 0): 234,
        ("test", 1): 390,  # together 624
    }
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()
    assert table["name"].is_unique


@pytest.mark.real
def test_paper_rebuilds_the_authors_validation_split(real_radiographs):
    table = assign_splits(real_radiographs, params("paper", 0.1), seed=2017)
    names = table[table["split"] == "validation"]["name"]
    ends = [
        [chosen.min(), chosen.max()] for _, chosen in names.groupby(names.str.split("/").str[1])
    ]
    assert list(chain(*ends)) == [
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/IM-0312-0001.jpeg",
        "train/PNEUMONIA/person1000_bacteria_2931.jpeg",
        "train/PNEUMONIA/person1202_bacteria_3153.jpeg",
    ]
