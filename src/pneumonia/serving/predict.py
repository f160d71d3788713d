"""Radiographs that a user names become rows: probability, verdict at the threshold, warnings.

It opens the paths that the user names, and nothing else. A radiograph without an answer is a row
that says why; the others are answered all the same. For research; not for diagnosis.
"""

import io
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumonia.data.ahead import ahead
from pneumonia.data.archive import MAX_IMAGE_BYTES
from pneumonia.data.images import PreprocessParams, decode, resized
from pneumonia.errors import PipelineError
from pneumonia.evaluation.predictions import rounded
from pneumonia.serving.answers import Row, Verdict, printable
from pneumonia.serving.dicom import decode_dicom, is_dicom
from pneumonia.serving.quality import colour_of, warnings_of
from pneumonia.store.files import read_json, write_bytes
from pneumonia.store.params import load_section
from pneumonia.training.model_files import load_classifier, predict_probabilities

BATCH = 64  # predict_probabilities' own: rows come out by so many
_OVERLAY_SIDE = 512  # pixels of an overlay's longer side
# Logits at full colour are a map's strongest, but at least these (0.993 as a probability): a weak
# map stays pale, and a strong one keeps its shape.
_FULL_COLOUR = 5.0
_MAX_NAME = 50  # characters of an overlay's name before its number; each is up to 4 bytes of 255

# Common formats that are not read: how they begin.
_OTHERS = {
    b"%PDF": "a PDF",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"RIFF": "a RIFF file, as WebP",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
}

# A path, and why it cannot be answered, or None.
Found: TypeAlias = tuple[Path, str | None]


@dataclass(frozen=True)
class Predictor:
    """The files of one run that a prediction needs.

    Attributes:
        classifier: the Keras model.
        operating_threshold: in [0, 1]; pneumonia when the probability is at or above it.
        target_recall: the recall on validation that the threshold was chosen for.
        dataset: name of the dataset that the model was trained on.
        preprocess: how radiographs become the model's input.
    """

    classifier: Any
    operating_threshold: float
    target_recall: float
    dataset: str
    preprocess: PreprocessParams


@dataclass(frozen=True)
class _Readable:
    """A radiograph that was read.

    Attributes:
        pixels: (image_size, image_size) uint8, the model's input.
        warnings: sentences by code.
        canvas: (height, width) uint8, the image below an overlay; None without overlays.
    """

    pixels: NDArray[np.uint8]
    warnings: dict[str, str]
    canvas: NDArray[np.uint8] | None


def load_predictor(model: Path, operating_point: Path, params_file: Path) -> Predictor:
    """The trained model with its threshold and its preprocessing.

    Raises:
        PipelineError: one of the three files is missing or wrong, or they do not fit together.
    """
    point = read_json(operating_point)
    schema = point.get("schema") if isinstance(point, dict) else None
    dataset_key = "source" if schema == 1 else "dataset"
    wanted = {"operating_threshold": float, "target_recall": float, dataset_key: str}
    if schema not in (1, 2) or any(
        type(point.get(name)) is not kind for name, kind in wanted.items()
    ):
        raise PipelineError(
            f"{operating_point}: expected the operating point that the stage evaluate writes, "
            "schema 1 or 2, with operating_threshold, target_recall and dataset (source in schema "
            f"1). Received: {str(point)[:200]}"
        )
    if not 0 <= point["operating_threshold"] <= 1:
        raise PipelineError(
            f"{operating_point}: operating_threshold must be in [0, 1]. "
            f"Received: {point['operating_threshold']}"
        )
    preprocess = load_section(params_file, "preprocess", PreprocessParams)
    classifier = load_classifier(model)
    side = preprocess.image_size
    if classifier.input_shape != (None, side, side, 1):
        raise PipelineError(
            f"{params_file}: preprocess.image_size is {side}, and {model} takes images of "
            f"{classifier.input_shape[1]} × {classifier.input_shape[2]}: they are not of one run"
        )
    return Predictor(
        classifier,
        point["operating_threshold"],
        point["target_recall"],
        point[dataset_key],
        preprocess,
    )


def find_radiographs(paths: Sequence[Path]) -> list[Found]:
    """The paths to answer, in order, and why one of them cannot be answered, or None.

    A folder stands for all the files in it and in its folders, sorted by name, whatever their
    suffixes, except hidden ones and macOS' `__MACOSX`. Links to files are followed; links to
    folders within a folder are not, as they may lead in circles.
    """
    found: list[Found] = []
    for path in paths:
        # A path that cannot be looked at is a row too: the error is found again when it is read.
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises on odd names
            found.append((path, None))
            continue
        problems: list[OSError] = []
        files: list[Found] = []
        for folder, folders, names in os.walk(path, onerror=problems.append):
            folders[:] = sorted(filter(_is_wanted, folders))
            files += [(Path(folder, name), None) for name in sorted(filter(_is_wanted, names))]
        files += [(Path(error.filename or path), _reason(error)) for error in problems]
        found += files or [(path, "expected a folder with radiographs in it. Received: none")]
    return found


def predict(
    radiographs: Iterable[Found], predictor: Predictor, heatmaps: Path | None = None
) -> Iterator[Row]:
    """A row for each radiograph, in order, as soon as its batch is done.

    Memory does not grow with their number.

    Args:
        radiographs: as `find_radiographs` returns.
        predictor: as `load_predictor` returns.
        heatmaps: folder for overlays of the class activation maps, `NAME.png`; radiographs of one
            name in several folders get numbers. None: no overlays.

    Raises:
        PipelineError: the model gives no probabilities, or no maps; an overlay cannot be written;
            or overlays would be written among the radiographs, and might replace them.
    """
    radiographs = list(radiographs)
    if heatmaps and heatmaps.resolve() in {path.parent.resolve() for path, _ in radiographs}:
        raise PipelineError(
            f"{heatmaps}: overlays must not be written among the radiographs. "
            "Accepted: another folder"
        )
    used: dict[str, int] = {}
    items = ((*found, predictor.preprocess, heatmaps is not None) for found in radiographs)
    # The next batch is read while the model works on one.
    read = zip(radiographs, ahead(_read, items, 2 * BATCH), strict=True)
    while batch := [(path, one) for (path, _), one in islice(read, BATCH)]:
        yield from _answered(batch, predictor, heatmaps, used)


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _reason(error: OSError | ValueError) -> str:
    """The system's reason, without the path."""
    said = error.strerror if isinstance(error, OSError) else None
    return f"expected a file that can be read. Received: {said or type(error).__name__}"


def _read(
    path: Path, problem: str | None, preprocess: PreprocessParams, with_canvas: bool
) -> _Readable | str:
    """The radiograph at `path`, or in one line why it cannot be answered."""
    if problem is not None:
        return problem
    try:
        data = _bytes_of(path)
        colour = 0.0
        if is_dicom(data):
            image, notes = decode_dicom(data)
        else:
            _refuse_others(data)
            image, notes = decode(data), {}
            colour = colour_of(data)
        warnings = warnings_of(image, preprocess.image_size, colour) | notes
        canvas = _canvas(image, preprocess) if with_canvas else None
        return _Readable(resized(image, preprocess), warnings, canvas)
    except PipelineError as error:
        return " ".join(str(error).split())  # on one line, whatever Pillow says
    # The decoders have no list of their errors for damaged files. Whatever this one raises, the
    # other radiographs are answered.
    except Exception as error:
        return f"expected an image that can be decoded. Received: {type(error).__name__}"


def _bytes_of(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        PipelineError: it is not a file, cannot be read, or is larger than `MAX_IMAGE_BYTES`.
    """
    try:
        status = path.stat()
        # A pipe would block, a device might never end.
        if not stat.S_ISREG(status.st_mode):
            raise PipelineError("expected a file. Received: a folder, pipe or device")
        if status.st_size > MAX_IMAGE_BYTES:
            raise PipelineError(
                f"expected at most {MAX_IMAGE_BYTES} bytes. Received: {status.st_size}"
            )
        with path.open("rb") as file:
            return file.read(MAX_IMAGE_BYTES)
    except (OSError, ValueError) as error:
        raise PipelineError(_reason(error)) from error


def _refuse_others(data: bytes) -> None:
    """Refuse a file that is neither JPEG nor PNG, without repeating its content."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return
    kind = next((words for head, words in _OTHERS.items() if data.startswith(head)), None)
    raise PipelineError(
        "expected JPEG, PNG or DICOM, by content. Received: "
        + (kind or (f"{len(data)} bytes of another kind" if data else "an empty file"))
    )


def _answered(
    batch: list[tuple[Path, _Readable | str]],
    predictor: Predictor,
    heatmaps: Path | None,
    used: dict[str, int],
) -> Iterator[Row]:
    """The rows of one batch."""
    readable = [one for _, one in batch if isinstance(one, _Readable)]
    images = np.array([one.pixels for one in readable], np.uint8)
    probabilities = iter(_probabilities(predictor.classifier, images))
    overlays = (
        _overlays(predictor.classifier, readable, images) if heatmaps and readable else iter(())
    )
    threshold = predictor.operating_threshold
    for path, one in batch:
        if isinstance(one, str):
            yield Row(path, None, None, threshold, predictor.dataset, error=one)
            continue
        probability = next(probabilities)
        written = None
        if heatmaps is not None:
            written = heatmaps / _unused_name(path.stem, used)
            try:
                write_bytes(written, next(overlays))
            except OSError as error:
                raise PipelineError(
                    f"{heatmaps}: overlays cannot be written there. Received: {error.strerror}"
                ) from error
        verdict: Verdict = "pneumonia" if probability >= threshold else "normal"
        yield Row(path, probability, verdict, threshold, predictor.dataset, one.warnings, written)


def _probabilities(classifier: Any, images: NDArray[np.uint8]) -> list[float]:
    """P(pneumonia) of each of (n, height, width) images, with six decimals.

    Raises:
        PipelineError: one of them is not in [0, 1].
    """
    probabilities = predict_probabilities(classifier, images, BATCH)
    wrong = ~((probabilities >= 0) & (probabilities <= 1))  # NaN fails both
    if wrong.any():
        raise PipelineError(
            "the model gives no probabilities in [0, 1]: it diverged when it was trained. "
            f"Received: {float(probabilities[wrong][0])}"
        )
    return [float(probability) for probability in rounded(probabilities)]


def _overlays(
    classifier: Any, readable: list[_Readable], images: NDArray[np.uint8]
) -> Iterator[bytes]:
    """A PNG of each radiograph with its class activation map, each made when it is asked for."""
    from pneumonia.evaluation.activation_maps import activation_maps, overlay

    for one, logits in zip(readable, activation_maps(classifier, images), strict=True):
        if one.canvas is not None:
            limit = max(_FULL_COLOUR, float(np.abs(logits).max()))
            png = io.BytesIO()
            Image.fromarray(overlay(one.canvas, logits, limit)).save(png, "PNG")
            yield png.getvalue()


def _canvas(image: Image.Image, preprocess: PreprocessParams) -> NDArray[np.uint8]:
    """(height, width) uint8, the longer side `_OVERLAY_SIDE`: the image that the map fits on.

    The radiograph in its own proportions where the network sees it squashed, and with the borders
    that the network sees where it sees it padded.
    """
    if preprocess.fit == "pad":
        return resized(image, preprocess.model_copy(update={"image_size": _OVERLAY_SIDE}))
    scale = _OVERLAY_SIDE / max(image.size)
    width, height = (max(1, round(pixels * scale)) for pixels in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _unused_name(stem: str, used: dict[str, int]) -> str:
    """`STEM.png`, or `STEM-2.png` and so on where that is used; it counts as used from now on.

    Upper and lower case are one, as they are on some file systems.
    """
    plain = printable(Path(stem)).replace("\\", "_")[:_MAX_NAME]
    name = plain
    while name.lower() in used:
        used[plain.lower()] += 1  # how many asked for it, so that the next count starts there
        name = f"{plain}-{used[plain.lower()]}"
    used[name.lower()] = 1
    return f"{name}.png"
