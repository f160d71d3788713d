"""DICOM to greys: each step by hand, each refusal in one line, and nothing of the patient."""

import io
import warnings

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from pneumonia.errors import PipelineError
from pneumonia.serving import dicom
from pneumonia.serving.dicom import decode_dicom, is_dicom

DX = "1.2.840.10008.5.1.4.1.1.1.1"
# All that a message could give away; none of it may ever be seen.
PATIENT = {
    "PatientName": "DOE^JANE",
    "PatientID": "HOSPITAL-4711",
    "PatientBirthDate": "20150301",
    "StudyDate": "20190212",
    "InstitutionName": "SECRETCLINIC",
}


def dataset(stored=((0, 2048, 4095),), bits=12, **elements) -> Dataset:
    """A radiograph of a patient; `elements` replace or, if None, take away."""
    pixels = np.array(stored)
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = {
        **PATIENT,
        "SOPClassUID": DX,
        "SOPInstanceUID": "1.2.3",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "PixelData": (pixels % 65536).astype("<u2").tobytes(),
    }
    for keyword, value in (plain | elements).items():
        if value is not None:
            setattr(found, keyword, value)
    return found


def written(found: Dataset) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.save_as(file, enforce_file_format=True)
    return file.getvalue()


def greys(*args, **elements) -> list[list[int]]:
    image, _ = decode_dicom(written(dataset(*args, **elements)))
    assert image.mode == "L"
    return np.asarray(image).tolist()


def notes(**elements) -> dict[str, str]:
    return decode_dicom(written(dataset(**elements)))[1]


def refusal(data: bytes) -> str:
    with pytest.raises(PipelineError) as caught:
        decode_dicom(data)
    (line,) = str(caught.value).splitlines()
    return line


# --- from stored values to greys


def test_without_a_window_the_full_range_of_the_stored_bits_is_shown():
    # 2048 / 4095 * 255 = 127.5, rounded up
    assert greys() == [[0, 128, 255]]
    # the same values of 13 bits, which go to 8191, are half as bright
    assert greys(bits=13) == [[0, 64, 127]]


def test_a_radiograph_without_a_window_says_so():
    assert "12 bits" in notes()["no_window"]
    assert "no_window" not in notes(WindowCenter="2048", WindowWidth="4096")


def test_monochrome1_is_inverted():
    # 1 - 2048 / 4095 = 2047 / 4095, and 127.47 is rounded down
    assert greys(PhotometricInterpretation="MONOCHROME1") == [[255, 127, 0]]


def test_bits_that_are_not_stored_are_dropped():
    overlay = 0xF000  # four bits above the twelve
    assert greys([[overlay, overlay | 4095]]) == [[0, 255]]


def test_signed_values_are_read_as_such():
    # Eight bits, -128 to 127; the bits above repeat the sign.
    assert greys([[-128, 0, 127]], bits=8, PixelRepresentation=1) == [[0, 128, 255]]
    assert greys([[0x80, 0x00, 0x7F]], bits=8, PixelRepresentation=1) == [[0, 128, 255]]


def test_the_window_is_applied_to_rescaled_values():
    # 2 * (0, 100, 200) - 100 = -100, 100, 300; the window is -100 to 300
    window = {"WindowCenter": "100", "WindowWidth": "400", "VOILUTFunction": "LINEAR_EXACT"}
    rescale = {"RescaleSlope": "2", "RescaleIntercept": "-100"}
    assert greys([[0, 100, 200]], **window, **rescale) == [[0, 128, 255]]
    # without the rescale they are 0, 100, 200: a quarter, a half, three quarters
    assert greys([[0, 100, 200]], **window) == [[64, 128, 191]]


def test_a_negative_slope_inverts_the_greys():
    assert greys(RescaleSlope="-1", RescaleIntercept="0") == [[255, 127, 0]]


def test_the_linear_window_is_the_standards():
    # PS3.3, C.11.2.1.2.1: centre 2048 and width 4096 leave 0 to 4095 as they are
    assert greys(WindowCenter="2048", WindowWidth="4096") == greys()
    # centre 100, width 3: from 98.5 to 100.5, and 99.5 between them
    window = {"WindowCenter": "100", "WindowWidth": "3"}
    assert greys([[98, 99, 100, 101]], **window) == [[0, 64, 191, 255]]


def test_a_window_one_wide_is_a_step():
    # x <= 99.5 is black
    assert greys([[99, 100]], WindowCenter="100", WindowWidth="1") == [[0, 255]]


def test_a_sigmoid_window_is_half_grey_at_its_centre():
    window = {"WindowCenter": "2048", "WindowWidth": "1000", "VOILUTFunction": "SIGMOID"}
    # a quarter of the width below: 1 / (1 + e) = 0.269
    assert greys([[0, 1798, 2048, 4095]], **window) == [[0, 69, 128, 255]]


def test_of_several_windows_the_first_is_taken():
    several = {"WindowCenter": ["2048", "10"], "WindowWidth": ["4096", "20"]}
    assert greys(**several) == greys()


def lut(first: int, entries: list[int]) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, 16]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = entries
    item["LUTData"].VR = "US"
    item.ModalityLUTType = "US"
    return item


def test_the_voi_lut_is_applied_where_there_is_no_window():
    table = [lut(first=10, entries=[0, 65535, 13107])]  # a fifth of 65535
    # values below the table take its first entry, values above it the last
    assert greys([[9, 10, 11, 12, 99]], VOILUTSequence=table) == [[0, 0, 255, 51, 51]]
    assert "no_window" not in notes(VOILUTSequence=table)


def test_a_window_goes_before_a_voi_lut():
    table = [lut(first=0, entries=[7, 7])]
    assert greys(VOILUTSequence=table, WindowCenter="2048", WindowWidth="4096") == greys()


def test_the_modality_lut_is_applied_before_the_window():
    elements = {"ModalityLUTSequence": [lut(first=0, entries=[300, 200, 100])]}
    assert greys([[0, 1, 2]], **elements) == [[1, 1, 0]]  # of 65535
    window = {"WindowCenter": "200", "WindowWidth": "200", "VOILUTFunction": "LINEAR_EXACT"}
    assert greys([[0, 1, 2]], **elements, **window) == [[255, 128, 0]]


def test_run_lengths_are_decoded():
    radiograph = dataset(np.arange(4096).reshape(64, 64).tolist())
    plain = np.asarray(decode_dicom(written(radiograph))[0])
    radiograph.compress(RLELossless)
    np.testing.assert_array_equal(np.asarray(decode_dicom(written(radiograph))[0]), plain)


@pytest.mark.parametrize("file", ["MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"])
def test_jpeg_2000_and_the_other_byte_order_give_the_plain_files_greys(file):
    def image(name):
        with open(get_testdata_file(name, download=False), "rb") as opened:  # noqa: PTH123 - str
            return np.asarray(decode_dicom(opened.read())[0])

    np.testing.assert_array_equal(image(file), image("MR_small.dcm"))


# --- notes on the header


def test_an_ordinary_chest_radiograph_gives_no_note():
    window = {"WindowCenter": "2048", "WindowWidth": "4096"}
    assert notes(**window) == {}
    assert notes(Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA", **window) == {}
    assert notes(Modality="CR", BodyPartExamined="Thorax", ViewPosition="AP", **window) == {}


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"Modality": "CT"}, "modality CT"),
        ({"Modality": "DX", "BodyPartExamined": "HAND"}, "a body part other than the chest"),
        ({"Modality": "CR", "BodyPartExamined": "CHEST", "ViewPosition": "LL"}, "view LL"),
    ],
)
def test_a_header_of_another_image_gives_a_note(elements, said):
    assert said in notes(**elements)["not_chest"]


def test_words_that_the_standard_does_not_define_are_not_repeated():
    assert "DOE" not in str(notes(Modality="DOE JANE"))


# --- refusals


def of_syntax(uid: str) -> bytes:
    """The plain radiograph, said to be compressed."""
    radiograph = dataset()
    data = written(radiograph)
    plain = ExplicitVRLittleEndian.encode() + b"\0"
    assert data.count(plain) == 1
    padded = uid.encode() + b"\0" * (len(uid) % 2)
    at = data.index(plain)
    # the length of the element, and of the group it is in
    head = bytearray(data[:at])
    head[-2:] = len(padded).to_bytes(2, "little")
    group = int.from_bytes(head[140:144], "little") + len(padded) - len(plain)
    head[140:144] = group.to_bytes(4, "little")
    return bytes(head) + padded + data[at + len(plain) :]


REFUSED = {
    "two frames": (written(dataset(NumberOfFrames=2)), "one frame. Received: 2"),
    "colour": (
        written(dataset(PhotometricInterpretation="RGB", SamplesPerPixel=3)),
        "MONOCHROME2). Received: RGB",
    ),
    "three samples": (written(dataset(SamplesPerPixel=3)), "expected greyscale"),
    "a palette": (
        written(dataset(PhotometricInterpretation="PALETTE COLOR")),
        "Received: PALETTE COLOR",
    ),
    "no pixels": (
        written(dataset(PixelData=None)),
        "Digital X-Ray Image Storage - For Presentation, without pixel data",
    ),
    "a PDF": (
        written(
            dataset(
                PixelData=None,
                SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1",
                EncapsulatedDocument=b"%PDF-1.4",
            )
        ),
        "Encapsulated PDF Storage, without pixel data",
    ),
    "32 bits": (written(dataset(BitsAllocated=32, BitsStored=32, HighBit=31)), "32 bits"),
    "the upper bits": (written(dataset(HighBit=15)), "bit 15"),
    "no rows": (written(dataset(Rows=0)), "3 × 0"),
    "too many pixels": (written(dataset(Rows=60_000, Columns=60_000)), "60000 × 60000"),
    "fewer pixels than rows and columns": (written(dataset(Rows=50)), "that are damaged"),
    "slope 0": (written(dataset(RescaleSlope="0")), "slope 0"),
    "width 0": (written(dataset(WindowCenter="5", WindowWidth="0")), "width 0"),
    "an unknown function": (
        written(dataset(WindowCenter="5", WindowWidth="9", VOILUTFunction="DOE")),
        "Received: another",
    ),
    "JPEG lossless": (of_syntax("1.2.840.10008.1.2.4.70"), "JPEG Lossless"),
    "a private syntax": (of_syntax("1.2.3.4"), "an unknown syntax"),
    "deflated": (of_syntax("1.2.840.10008.1.2.1.99"), "Deflated"),
    "a magic word and nothing more": (bytes(128) + b"DICM", "without pixel data"),
    "noise behind the magic word": (
        bytes(128) + b"DICM" + np.random.default_rng(0).bytes(999),
        "Received",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_but_one_grey_frame_is_refused_in_one_line(name):
    data, reason = REFUSED[name]
    assert reason in refusal(data)


def test_every_syntax_is_either_refused_or_read_without_a_traceback_or_a_warning(recwarn):
    for uid in pydicom.uid.AllTransferSyntaxes:
        try:
            decode_dicom(of_syntax(uid))
        except PipelineError:
            continue
        assert not UID(uid).is_compressed
    assert [str(warning.message) for warning in recwarn] == []


# --- the patient


def test_nothing_of_the_patient_is_read(monkeypatch):
    read = []
    dcmread = pydicom.dcmread

    def watched(*args, **options):
        read.append(dcmread(*args, **options))
        return read[-1]

    monkeypatch.setattr(pydicom, "dcmread", watched)
    decode_dicom(written(dataset()))
    (found,) = read
    # SpecificCharacterSet is what pydicom needs for any text at all.
    assert {element.keyword for element in found} <= {*dicom._READ, "SpecificCharacterSet"}
    assert not {element.keyword for element in found} & set(PATIENT)


def test_no_message_repeats_anything_of_the_patient(recwarn):
    messages = [refusal(data) for data, _ in REFUSED.values()]
    messages += [str(one.message) for one in recwarn]
    for secret in PATIENT.values():
        assert not [message for message in messages if secret in message]


def test_a_patients_name_in_place_of_a_number_is_not_repeated():
    for width in ("9", "0"):
        data = written(dataset(WindowCenter="12345678", WindowWidth=width))
        message = refusal(data.replace(b"12345678", b"DOE^JANE"))
        assert "DOE" not in message
        assert "damaged" in message


def test_damaged_files_give_an_image_or_one_line_and_never_the_patient(caplog):
    radiograph = dataset(np.arange(64).reshape(8, 8).tolist(), WindowCenter="32", WindowWidth="64")
    whole = written(radiograph)
    rng = np.random.default_rng(5)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(300):
            data = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(132, len(data), rng.integers(1, 6))
            data[places] = rng.integers(0, 256, len(places))
            cut = data[: rng.integers(132, len(data) + 1)] if rng.random() < 0.3 else data
            try:
                message = str(decode_dicom(cut.tobytes())[1])
            except PipelineError as error:
                message = str(error)
            assert "\n" not in message
            assert not [secret for secret in PATIENT.values() if secret in message]
    assert caplog.text == ""
    shown = [str(one.message) for one in warned]
    assert not [secret for secret in PATIENT.values() if secret in "".join(shown)]


def test_dicom_is_recognised_by_its_content():
    assert is_dicom(written(dataset()))
    assert not is_dicom(b"\xff\xd8\xff" + bytes(200))
    assert not is_dicom(b"DICM")
