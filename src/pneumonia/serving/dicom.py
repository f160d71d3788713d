"""Radiographs in DICOM files become greyscale pictures; nothing about the patient is read.

Only the elements in `_READ` are taken from a file, so no name, date or number of a patient is ever
in memory as such, and no message repeats what a file says but words of the standard. Sources of the
rules: DICOM PS3.3, sections C.7.6.3 (pixels), C.11.1 (modality LUT) and C.11.2 (VOI LUT).
pydicom is imported inside the functions that need it.
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

# What pixels are, how they become greys, and what kind of picture they are.
_READ = [
    "SOPClassUID", "Modality", "BodyPartExamined", "ViewPosition", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "PlanarConfiguration",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth",
    "VOILUTFunction", "VOILUTSequence",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2")
_MAX_BITS = 16  # with more, the table of all stored values would not fit
# zlib would unpack it before anything could be checked: 64 MiB may hold 64 GiB. No radiograph that
# we know of uses it.
_DEFLATED = b"1.2.840.10008.1.2.1.99"

# PS3.3, C.7.3.1.1.1: projection radiographs, and what exporters write for pictures of any kind.
_RADIOGRAPHS = ("CR", "DX", "RG", "OT", "SC")
_CHEST = ("CHEST", "THORAX", "LUNG")
_LATERAL = ("LL", "RL", "LLO", "RLO", "LATERAL")
# Words that a message may repeat; whatever else stands in a file may tell who the patient is.
_WORDS = (
    *_LATERAL,
    "CT", "MR", "US", "MG", "NM", "PT", "XA", "RF", "ES", "GM", "SM", "XC", "OP", "PX", "IO",
    "DG", "BI", "BMD", "IVUS", "RTIMAGE", "RTDOSE", "SEG", "ECG", "HD", "RGB", "YBR_FULL",
    "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "PALETTE COLOR",
)  # fmt: skip


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as a DICOM file does (PS3.10, section 7.1)."""
    return data[128:132] == b"DICM"


def decode_dicom(data: bytes) -> tuple[Image.Image, dict[str, str]]:
    """The radiograph as greyscale, mode L, black = 0, white = 255; and what to know about it.

    Stored values, as many bits as the file says they have, go through the rescale or the modality
    LUT, then through the first window, or the VOI LUT where there is no window. Without either the
    full range that the stored bits can hold becomes 0 to 255, as for 16-bit PNG, whatever part of
    it the picture uses; this is noted. MONOCHROME1 is inverted, so that air is black.

    Returns:
        The picture, and notes by code: `no_window`, and `not_chest` where the header says that it
        is something else than a frontal chest radiograph.

    Raises:
        PipelineError: no single greyscale frame, no pixels, more than `MAX_PIXELS`, compressed in
            a way that no installed decoder reads, or damaged. It repeats nothing of the patient.
    """
    import pydicom
    from pydicom import config

    # What pydicom warns of odd values and logs repeats them. For good, because films are read by
    # several threads, and warnings are of the whole process.
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
    # pydicom promises no list of what it raises for damaged files and for what its decoders lack,
    # and its words may repeat the file's: only the kind of error is told.
    except Exception as error:
        raise PipelineError(
            f"expected a DICOM file that can be decoded. Received {len(data)} bytes that are "
            f"damaged or of a form that pydicom does not read ({type(error).__name__})"
        ) from None
    return Image.fromarray(greys[stored]), notes


def _refuse_others(dataset: Any) -> None:
    """Refuse what is no single greyscale frame, before its pixels are decoded."""
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
        name = syntax.name if syntax.name != syntax else "of no syntax that is known"
        raise PipelineError(
            f"expected pixels that an installed decoder reads. Received: {name}. "
            "Accepted: uncompressed, RLE, JPEG baseline, JPEG 2000"
        )


def _grey_of_stored(dataset: Any) -> NDArray[np.uint8]:
    """(2 ** bits stored,) uint8: the grey of each value that the stored bits can hold.

    A pixel's bits, read as an unsigned number, are the place in the table: so a film of 20 million
    pixels is windowed without a single float of its size.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    n_values = 2 ** int(dataset.BitsStored)
    values = np.arange(n_values)
    if int(dataset.get("PixelRepresentation", 0)) == 1:  # two's complement
        values[n_values // 2 :] -= n_values
    lowest, highest = float(values.min()), float(values.max())

    if dataset.get("ModalityLUTSequence"):
        values = np.asarray(apply_modality_lut(values, dataset))
        lowest, highest = 0, 2 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    else:
        slope = float(dataset.get("RescaleSlope", 1) or 0)
        intercept = float(dataset.get("RescaleIntercept", 0) or 0)
        if slope == 0 or not np.isfinite([slope, intercept]).all():
            raise PipelineError(
                "expected a rescale slope other than 0. "
                f"Received: slope {slope:g}, intercept {intercept:g}"
            )
        values = values * slope + intercept
        lowest, highest = sorted((lowest * slope + intercept, highest * slope + intercept))

    window = _window(dataset)
    if window is not None:
        shares = _windowed(values, *window)
    elif dataset.get("VOILUTSequence"):
        looked_up = apply_voi(np.rint(values).astype(np.int64), dataset)
        shares = looked_up / (2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    else:
        shares = (values - lowest) / max(highest - lowest, 1e-9)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    return np.floor(np.clip(shares, 0, 1) * 255 + 0.5).astype(np.uint8)


def _window(dataset: Any) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, or None."""
    ends = [dataset.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
    if any(end is None or end == "" for end in ends):
        return None
    # Several windows come as a sequence of numbers, one as a number.
    centre, width = (float(np.atleast_1d(np.asarray(end, np.float64))[0]) for end in ends)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    least = 1 if function == "LINEAR" else 0
    if not np.isfinite([centre, width]).all() or width < least or width == 0:
        raise PipelineError(
            f"expected a window width of at least {least}, and not 0. "
            f"Received: centre {centre:g}, width {width:g}"
        )
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise PipelineError(
            "expected a window function LINEAR, LINEAR_EXACT or SIGMOID. "
            f"Received: {_shown(function)}"
        )
    return centre, width, function


def _windowed(
    values: NDArray[np.float64], centre: float, width: float, function: str
) -> NDArray[np.float64]:
    """The share of white, in [0, 1], of each value; PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        exponents = np.clip(-4 * (values - centre) / width, -700, 700)  # exp overflows beyond
        return np.asarray(1 / (1 + np.exp(exponents)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    # A width of 1 is a step: LINEAR's width is then 0, and nothing lies between the ends.
    between = (values - centre) / (width or 1) + 0.5
    shares = np.where(values > centre + width / 2, 1.0, between)
    return np.where(values <= centre - width / 2, 0.0, shares)


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
    """What the header tells, by code."""
    notes = {}
    modality, part, view = (
        str(dataset.get(keyword) or "").upper()
        for keyword in ("Modality", "BodyPartExamined", "ViewPosition")
    )
    if modality and modality not in _RADIOGRAPHS:
        notes["not_chest"] = f"the file says modality {_shown(modality)}"
    elif part and not any(word in part for word in _CHEST):
        notes["not_chest"] = "the file says another body part than the chest"
    elif view in _LATERAL:
        notes["not_chest"] = f"the file says view {_shown(view)}, and training films are frontal"
    if _window(dataset) is None and not dataset.get("VOILUTSequence"):
        notes["no_window"] = (
            f"no window in the file: the full range of its {dataset.BitsStored} bits is shown"
        )
    return notes


def _shown(text: str) -> str:
    """A word of the file, if it is one of the standard's."""
    return text if text in _WORDS else "another"
