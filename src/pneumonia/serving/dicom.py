"""Radiographs in DICOM files become greyscale images; nothing about the patient is read.

Only the elements in `_READ` are taken from a file, so no name, date or number of a patient is ever
in memory as such, and messages repeat numbers and words of the standard, but no other text of the
file. Sources of the rules: DICOM PS3.3, sections C.7.6.3 (pixels), C.11.1 (modality LUT) and C.11.2
(VOI LUT), applied by `pydicom.pixels`. pydicom is imported inside the functions that need it.
"""

import io
import logging
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumonia.data.images import MAX_PIXELS
from pneumonia.errors import PipelineError

# The elements on pixels, on how they become greys, and on the kind of image.
_READ = [
    "SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "PlanarConfiguration",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
# Values that change nothing, for elements that the file leaves out or empty.
_NEUTRAL = {
    "PixelRepresentation": 0,
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "VOILUTFunction": "LINEAR",
}
_MAX_BITS = 16  # with more, the table of all stored values would not fit
# zlib would unpack it before anything could be checked: 64 MiB may hold 64 GiB. No radiograph that
# we know of uses it.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

# PS3.3, C.7.3.1.1.1: projection radiographs, and what exporters write for images of any kind.
_RADIOGRAPHS = ("CR", "DX", "RG", "OT", "SC")
_CHEST = ("CHEST", "THORAX", "LUNG")
_LATERAL = ("LL", "RL", "LLO", "RLO", "LATERAL")
# Words that a message may repeat; any other text of a file may identify the patient.
_WORDS = (
    *_LATERAL,
    "CT", "MR", "US", "MG", "NM", "PT", "XA", "RF", "ES", "GM", "SM", "XC", "OP", "PX", "IO",
    "DG", "BI", "BMD", "IVUS", "RTIMAGE", "RTDOSE", "SEG", "ECG", "HD", "RGB", "YBR_FULL",
    "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR", "LINEAR",
    "LINEAR_EXACT", "SIGMOID",
)  # fmt: skip


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does (PS3.10, section 7.1)."""
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes) -> tuple[Image.Image, dict[str, str]]:
    """The radiograph as greyscale, mode L, black = 0, white = 255; and notes on it.

    Stored values, as many bits as the file says they have, go through the rescale or the modality
    LUT, then through the first window, or the VOI LUT where there is no window. Without either the
    full range that the stored bits can hold becomes 0 to 255, as for 16-bit PNG, whatever part of
    it the image uses; a note says so. MONOCHROME1 is inverted, so that air is black.

    Returns:
        The image, and notes by code: `no_window`, and `not_chest` where the header says that it
        shows something else than a frontal chest radiograph.

    Raises:
        PipelineError: no single greyscale frame, no pixels, more than `MAX_PIXELS`, compressed in
            a way that no installed decoder reads, or damaged. It repeats nothing of the patient.
    """
    import pydicom
    from pydicom import config

    # pydicom's warnings and logs repeat odd values. They stay off, because several threads read
    # radiographs, and warnings belong to the whole process.
    config.settings.reading_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module="pydicom")
    if _DEFLATED in data:
        raise PipelineError(
            "expected DICOM that is not deflated as a whole. Received: the transfer syntax "
            "Deflated Explicit VR Little Endian"
        )
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), specific_tags=_READ)
        _refuse_others(dataset)
        greys = _grey_of_stored(dataset)
        stored = _stored_values(dataset)
        notes = _notes(dataset)
    except PipelineError:
        raise
    # pydicom has no list of the errors that it raises for damaged files and for what its decoders
    # lack, and its words may repeat the file's: only the kind of error is named.
    except Exception as error:
        raise PipelineError(
            f"expected a DICOM file that can be decoded. Received {len(data)} bytes that are "
            f"damaged or of a form that pydicom does not read ({type(error).__name__})"
        ) from None
    return Image.fromarray(greys[stored]), notes


def _refuse_others(dataset: Any) -> None:
    """Refuse all but a single greyscale frame, before its pixels are decoded."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    kind = UID(str(dataset.get("SOPClassUID", "")))
    # The name of a UID that is not in the standard's dictionary is what the file says.
    named = kind.name if kind.name != kind else "an object of unknown class"
    if not dataset.get("PixelData"):
        raise PipelineError(f"expected DICOM with pixels. Received: {named}, without pixel data")
    n_frames = int(dataset.get("NumberOfFrames") or 1)
    if n_frames != 1:
        raise PipelineError(f"expected one frame. Received: {n_frames}, in {named}")
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in _GREY or dataset.get("SamplesPerPixel", 1) != 1:
        raise PipelineError(
            f"expected greyscale ({' or '.join(_GREY)}). Received: {_shown(photometric)}, in "
            f"{named}"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if not 0 < rows * columns <= MAX_PIXELS:
        raise PipelineError(
            f"expected at most {MAX_PIXELS} pixels, and one at least. Received: {columns} × {rows}"
        )
    bits, high = int(dataset.BitsStored), int(dataset.HighBit)
    if not 1 <= bits <= _MAX_BITS or high != bits - 1:
        raise PipelineError(
            f"expected 1 to {_MAX_BITS} stored bits, the lowest ones. "
            f"Received: {bits} bits, the highest of them bit {high}"
        )
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:  # what pydicom raises for a syntax that it has no decoder class for
        readable = False
    if not readable:
        name = syntax.name if syntax.name != syntax else "an unknown syntax"
        raise PipelineError(
            f"expected pixels that an installed decoder reads. Received: {name}. "
            "Accepted: uncompressed, RLE, JPEG baseline, JPEG 2000"
        )


def _grey_of_stored(dataset: Any) -> NDArray[np.uint8]:
    """(2 ** bits stored,) uint8: the grey of each value that the stored bits can hold.

    A pixel's bits, read as an unsigned number, are its place in the table: so no array of floats
    as large as the radiograph is needed, which may have 20 million pixels.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    for keyword, neutral in _NEUTRAL.items():
        if dataset.get(keyword) in (None, ""):
            setattr(dataset, keyword, neutral)
    n_values = 2 ** int(dataset.BitsStored)
    stored = np.arange(n_values)
    if dataset.PixelRepresentation == 1:  # two's complement
        stored[n_values // 2 :] -= n_values
    values = np.asarray(apply_modality_lut(stored, dataset))
    lowest, highest = float(values[stored.argmin()]), float(values[stored.argmax()])
    if lut := dataset.get("ModalityLUTSequence"):
        lowest, highest = 0, 2 ** int(lut[0].LUTDescriptor[2]) - 1
    with np.errstate(all="ignore"):  # not finite: looked for below
        if _has_window(dataset):
            try:  # pydicom stretches the window to the range of the rescaled stored bits
                shares = (apply_windowing(values, dataset) - lowest) / (highest - lowest)
            except ValueError as error:
                raise PipelineError(
                    "expected a window that is LINEAR and at least 1 wide, or LINEAR_EXACT or "
                    f"SIGMOID and wider than 0. Received: {_shown(dataset.VOILUTFunction)}, "
                    f"centre {dataset.WindowCenter:g}, width {dataset.WindowWidth:g}"
                ) from error
        elif lut := dataset.get("VOILUTSequence"):
            looked_up = apply_voi(np.rint(values).astype(np.int64), dataset)
            shares = looked_up / (2 ** int(lut[0].LUTDescriptor[2]) - 1)
        else:
            shares = (values - min(lowest, highest)) / np.abs(highest - lowest)
    if not np.isfinite(shares).all():
        raise PipelineError(
            "expected a rescale slope other than 0, and finite numbers in rescale and window. "
            f"Received: slope {dataset.RescaleSlope:g}, intercept {dataset.RescaleIntercept:g}"
        )
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    return np.floor(np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)


def _has_window(dataset: Any) -> bool:
    return None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth"))


def _stored_values(dataset: Any) -> NDArray[np.int64]:
    """(rows, columns) int: each pixel's stored bits as an unsigned number.

    The other bits, in which old files keep overlays, are dropped.
    """
    from pydicom.pixels.utils import pixel_array

    pixels = np.asarray(pixel_array(dataset, index=0))
    if pixels.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise PipelineError(
            f"expected {dataset.Columns} × {dataset.Rows} pixels. Received: shape {pixels.shape}"
        )
    # In this machine's byte order, whatever the file's.
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    unsigned = pixels.view(f"u{pixels.itemsize}")
    mask = unsigned.dtype.type(2 ** int(dataset.BitsStored) - 1)
    stored: NDArray[np.int64] = unsigned & mask
    return stored


def _notes(dataset: Any) -> dict[str, str]:
    """Notes on the header, by code."""
    notes = {}
    modality, part, view = (
        str(dataset.get(keyword) or "").upper()
        for keyword in ("Modality", "BodyPartExamined", "ViewPosition")
    )
    if modality and modality not in _RADIOGRAPHS:
        notes["not_chest"] = f"the file says modality {_shown(modality)}"
    elif part and not any(word in part for word in _CHEST):
        notes["not_chest"] = "the file says a body part other than the chest"
    elif view in _LATERAL:
        notes["not_chest"] = (
            f"the file says view {_shown(view)}; the training radiographs are frontal"
        )
    if not _has_window(dataset) and not dataset.get("VOILUTSequence"):
        notes["no_window"] = (
            f"the file has no window: the full range of its {dataset.BitsStored} bits is shown"
        )
    return notes


def _shown(text: str) -> str:
    """A word of the file, if the standard defines it."""
    return text if text in _WORDS else "another"
