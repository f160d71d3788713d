import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumonia.data.names import KINDS, Radiograph, radiograph_of
from pneumonia.errors import PipelineError


@pytest.mark.parametrize(
    ("member", "name", "folder", "label", "kind", "patient_id"),
    [
        # version 2, the official archive
        (
            "chest_xray/train/NORMAL/IM-0115-0001.jpeg",
            "train/NORMAL/IM-0115-0001.jpeg",
            *("train", 0, "normal", "IM-0115"),
        ),
        (
            "chest_xray/test/NORMAL/IM-0011-0001-0002.jpeg",
            "test/NORMAL/IM-0011-0001-0002.jpeg",
            *("test", 0, "normal", "IM-0011"),
        ),
        (
            "chest_xray/train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
            "train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
            *("train", 0, "normal", "NORMAL2-IM-0115"),
        ),
        (
            "chest_xray/train/PNEUMONIA/person23_bacteria_91.jpeg",
            "train/PNEUMONIA/person23_bacteria_91.jpeg",
            *("train", 1, "bacterial", "person23_bacteria"),
        ),
        (
            "chest_xray/test/PNEUMONIA/person23_virus_53.jpeg",
            "test/PNEUMONIA/person23_virus_53.jpeg",
            *("test", 1, "viral", "person23_virus"),
        ),
        # one image of the study has one more number
        (
            "train/PNEUMONIA/person492_virus_980_1.jpeg",
            "train/PNEUMONIA/person492_virus_980_1.jpeg",
            *("train", 1, "viral", "person492_virus"),
        ),
        # version 3: the patient's number stands in the middle
        (
            "CellData/chest_xray/train/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
            "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
            *("train", 1, "bacterial", "BACTERIA-1008087"),
        ),
        (
            "CellData/chest_xray/test/PNEUMONIA/VIRUS-46513-0003.jpeg",
            "test/PNEUMONIA/VIRUS-46513-0003.jpeg",
            *("test", 1, "viral", "VIRUS-46513"),
        ),
        (
            "CellData/chest_xray/test/NORMAL/NORMAL-46513-0003.jpeg",
            "test/NORMAL/NORMAL-46513-0003.jpeg",
            *("test", 0, "normal", "NORMAL-46513"),
        ),
        # Kaggle's val folder belongs to train
        (
            "chest_xray/val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
            "train/NORMAL/NORMAL2-IM-1427-0001.jpeg",
            *("train", 0, "normal", "NORMAL2-IM-1427"),
        ),
        # other formats, other letters, other separators
        (
            "train/PNEUMONIA/Person23_Bacteria_91.JPG",
            "train/PNEUMONIA/Person23_Bacteria_91.JPG",
            *("train", 1, "bacterial", "person23_bacteria"),
        ),
        (
            r"chest_xray\test\NORMAL\im-0001-0001.Png",
            "test/NORMAL/im-0001-0001.Png",
            *("test", 0, "normal", "IM-0001"),
        ),
        (
            "../../train/NORMAL/IM-0115-0001.png",
            "train/NORMAL/IM-0115-0001.png",
            *("train", 0, "normal", "IM-0115"),
        ),
    ],
)
def test_a_path_gives_label_kind_and_patient(member, name, folder, label, kind, patient_id):
    assert radiograph_of(member) == Radiograph(name, member, folder, label, kind, patient_id)


@pytest.mark.parametrize(
    "member",
    [
        "chest_xray/",
        "chest_xray/train/NORMAL/",
        "chest_xray/.DS_Store",
        "chest_xray/train/NORMAL/.DS_Store",
        "chest_xray/train/NORMAL/._IM-0115-0001.jpeg",
        "__MACOSX/chest_xray/train/NORMAL/IM-0115-0001.jpeg",
        "chest_xray/__MACOSX/train/NORMAL/._IM-0115-0001.jpeg",
        "chest_xray/train/NORMAL/Thumbs.db",
        "chest_xray/train/NORMAL/notes.txt",
        "chest_xray/train/NORMAL/jpeg",
        "chest_xray/train/IM-0115-0001.jpeg",
        "chest_xray/train/OTHER/IM-0115-0001.jpeg",
        "chest_xray/extra/NORMAL/IM-0115-0001.jpeg",
        "NORMAL/IM-0115-0001.jpeg",
        "IM-0115-0001.jpeg",
        "",
    ],
)
def test_other_files_are_ignored(member):
    assert radiograph_of(member) is None


@pytest.mark.parametrize(
    "member",
    [
        "train/NORMAL/image.jpeg",
        "train/NORMAL/IM-0115.jpeg",
        "train/NORMAL/IM-0115-0001-0001-0001.jpeg",
        "train/NORMAL/XIM-0115-0001.jpeg",
        "train/NORMAL/person23_bacteria_91.jpeg",  # an ill child among the healthy
        "train/NORMAL/VIRUS-23-0001.jpeg",
        "train/PNEUMONIA/IM-0115-0001.jpeg",  # and the reverse
        "train/PNEUMONIA/NORMAL-115-0001.jpeg",
        "train/PNEUMONIA/person_bacteria_91.jpeg",
        "train/PNEUMONIA/person23_fungus_91.jpeg",
        "train/PNEUMONIA/person23_virus_91 (1).jpeg",
    ],
)
def test_a_name_without_a_patient_of_its_class_is_refused(member):
    with pytest.raises(PipelineError, match="gives no patient") as error:
        radiograph_of(member)
    assert repr(member) in str(error.value)


@pytest.mark.parametrize("suffix", ["dcm", "TIF", "bmp", "webp"])
def test_an_image_in_an_unknown_format_is_never_passed_over(suffix):
    with pytest.raises(PipelineError, match="Accepted: jpeg, jpg, png"):
        radiograph_of(f"train/NORMAL/IM-0115-0001.{suffix}")


def test_patients_with_one_number_differ_by_kind_and_series():
    members = [
        "train/PNEUMONIA/person23_bacteria_91.jpeg",
        "train/PNEUMONIA/person23_virus_53.jpeg",
        "train/NORMAL/IM-0023-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0023-0001.jpeg",
        "train/PNEUMONIA/BACTERIA-23-0001.jpeg",
        "train/PNEUMONIA/VIRUS-23-0001.jpeg",
        "train/NORMAL/NORMAL-23-0001.jpeg",
    ]
    assert len({radiograph_of(member).patient_id for member in members}) == len(members)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("NORMAL/IM-0115-0001.jpeg", "NORMAL/im-115-0002.JPG"),
        ("PNEUMONIA/person7_virus_1.jpeg", "PNEUMONIA/PERSON007_VIRUS_2.jpeg"),
        ("PNEUMONIA/VIRUS-7-0001.jpeg", "PNEUMONIA/virus-0007-0002.jpeg"),
    ],
)
def test_zeros_and_case_do_not_make_a_second_patient(one, other):
    # Or images of one child could fall on both sides of a split.
    assert radiograph_of(f"train/{one}").patient_id == radiograph_of(f"train/{other}").patient_id


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from(
            ["train", "val", "test", "NORMAL", "PNEUMONIA", "..", "", "IM-1-1.jpeg", "a.png", "é"]
        )
        | st.text(max_size=8),
        max_size=6,
    ).map("/".join)
)
def test_any_path_is_a_radiograph_or_ignored_or_one_clear_error(member):
    try:
        radiograph = radiograph_of(member)
    except PipelineError:
        return
    if radiograph is not None:
        assert radiograph.member == member
        assert radiograph.kind in KINDS
        assert (radiograph.kind != "normal") == radiograph.label
        assert radiograph.name.split("/")[:2] == [
            radiograph.folder,
            "PNEUMONIA" if radiograph.label else "NORMAL",
        ]
