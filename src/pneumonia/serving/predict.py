"""Films that somebody names become rows: probability, verdict at the stored threshold, warnings.

Like the stages it opens what a person names, and nothing else. A film that cannot be answered is a
row that says why; it never keeps the others from being answered. For research; not for diagnosis.
"""

import io
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pneumonia.data.archive import MAX_IMAGE_BYTES
from pneumonia.data.images import PreprocessParams, decode, resized
from pneumonia.errors import PipelineError
from pneumonia.evaluation.metrics import SCHEMA
from pneumonia.evaluation.predictions import rounded
from pneumonia.serving.answers import Row, printable
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

# The formats by which films often come, and which are not read: how they begin.
_OTHERS = {
    b"%PDF": "a PDF",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"RIFF": "a RIFF file, as WebP",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip file",
}


@dataclass(frozen=True)
class Predictor:
    """What a prediction needs, as the pipeline left it.

    Attributes:
        classifier: the Keras model.
        operating_threshold: in [0, 1]; pneumonia when the probability is at or above it.
        target_recall: what the threshold was chosen for, on validation.
        source: name of the data source that the model was trained on.
        preprocess: how films become the model's input.
    """

    classifier: Any
    operating_threshold: float
    target_recall: float
    source: str
    preprocess: PreprocessParams


@dataclass(frozen=True)
class _Film:
    """A film that was read.

    Attributes:
        pixels: (image_size, image_size) uint8, the model's input.
        warnings: sentences by code.
        canvas: (height, width) uint8, what an overlay is laid on; None without overlays.
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
    wanted = {"operating_threshold": float, "target_recall": float, "source": str}
    known = isinstance(point, dict) and point.get("schema") == SCHEMA
    if not known or any(type(point.get(key)) is not kind for key, kind in wanted.items()):
        raise PipelineError(
            f"{operating_point}: expected the operating point that the stage evaluate writes, "
            f"schema {SCHEMA}, with {', '.join(wanted)}. Received: {str(point)[:200]}"
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
        classifier=classifier,
        operating_threshold=point["operating_threshold"],
        target_recall=point["target_recall"],
        source=point["source"],
        preprocess=preprocess,
    )


def find_films(paths: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """The paths to answer, in order, and why one of them cannot be answered, or None.

    A folder stands for all the files in it and in its folders, sorted by name, whatever their
    suffixes; but not for hidden ones, nor for macOS' `__MACOSX`. Links to files are followed, links
    to folders within a folder are not, so that there is no going round in circles.
    """
    found: list[tuple[Path, str | None]] = []
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (OSError, ValueError):  # told when it is read
            is_folder = False
        if not is_folder:
            found.append((path, None))
            continue
        problems: list[tuple[Path, str | None]] = []

        def note(
            error: OSError, folder: Path = path, into: list[tuple[Path, str | None]] = problems
        ) -> None:
            into.append((Path(error.filename or folder), _reason(error)))

        films: list[tuple[Path, str | None]] = []
        for folder, folders, files in os.walk(path, onerror=note):
            folders[:] = sorted(name for name in folders if not _is_litter(name))
            inside = Path(folder)
            films += [(inside / name, None) for name in sorted(files) if not _is_litter(name)]
        found += films + problems
        if not films and not problems:
            found.append((path, "expected a folder with films in it. Received: none"))
    return found


def predict(
    films: Iterable[tuple[Path, str | None]], predictor: Predictor, heatmaps: Path | None = None
) -> Iterator[Row]:
    """A row a film, in order, as soon as its batch is done; memory does not grow with their number.

    Args:
        films: as `find_films` returns.
        predictor: as `load_predictor` returns.
        heatmaps: folder for overlays of the class activation maps, `NAME.png`; films of one name
            in several folders get numbers. None: no overlays.

    Raises:
        PipelineError: the model gives no probabilities, or no maps; an overlay cannot be written;
            or the films lie in the folder of the overlays, which would take each other's places.
    """
    films = list(films)
    if heatmaps is not None and heatmaps.resolve() in {f.parent.resolve() for f, _ in films}:
        raise PipelineError(
            f"{heatmaps}: overlays must not be written among the films. Accepted: another folder"
        )
    used: dict[str, int] = {}
    for batch in _batches(_read_ahead(films, predictor.preprocess, heatmaps is not None)):
        yield from _answered(batch, predictor, heatmaps, used)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _reason(error: OSError | ValueError) -> str:
    """What the system says of a path, without the path itself."""
    said = error.strerror if isinstance(error, OSError) else None
    return f"expected a file that can be read. Received: {said or type(error).__name__}"


def _read_ahead(
    films: Sequence[tuple[Path, str | None]], preprocess: PreprocessParams, with_canvas: bool
) -> Iterator[tuple[Path, _Film | str]]:
    """Each film read, or the reason why not, in order; the next ones meanwhile on all cores.

    Threads: Pillow and NumPy let go of the interpreter; see `images.write_split`.
    """
    waiting: deque[tuple[Path, Future[_Film | str]]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            for path, problem in films:
                waiting.append((path, pool.submit(_read, path, problem, preprocess, with_canvas)))
                # One batch is with the model, the next one is read.
                if len(waiting) > 2 * BATCH:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:  # whoever asks for no more rows does not wait for what was begun
            pool.shutdown(cancel_futures=True)


def _batches(
    read: Iterable[tuple[Path, _Film | str]],
) -> Iterator[list[tuple[Path, _Film | str]]]:
    """Lists of at most `BATCH`, whether or not they could be read."""
    batch = []
    for item in read:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(
    path: Path, problem: str | None, preprocess: PreprocessParams, with_canvas: bool
) -> _Film | str:
    """The film at `path`, or in one line why it cannot be answered."""
    if problem is not None:
        return problem
    try:
        data = _bytes_of(path)
        colour = 0.0
        if is_dicom(data):
            film, notes = decode_dicom(data)
        else:
            _refuse_others(data)
            film, notes = decode(data), {}
            colour = colour_of(data)
        warnings = warnings_of(film, preprocess.image_size, colour) | notes
        canvas = _canvas(film, preprocess) if with_canvas else None
        return _Film(resized(film, preprocess), warnings, canvas)
    except PipelineError as error:
        return " ".join(str(error).split())  # on one line, whatever Pillow says
    # What the decoders raise for damaged files is in no list; whatever it is, it is this film's,
    # and the others are to be answered.
    except Exception as error:
        return f"expected a film that can be decoded. Received: {type(error).__name__}"


def _bytes_of(path: Path) -> bytes:
    """The file's bytes.

    Raises:
        PipelineError: it is no file, cannot be read, or is larger than `MAX_IMAGE_BYTES`.
    """
    try:
        status = path.stat()
        # A pipe would be waited for, a device read for ever.
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
    """Name what is neither JPEG nor PNG, without repeating what it says."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        return
    kind = next((words for head, words in _OTHERS.items() if data.startswith(head)), None)
    raise PipelineError(
        "expected JPEG, PNG or DICOM, by content. Received: "
        + (kind or (f"{len(data)} bytes of another kind" if data else "an empty file"))
    )


def _answered(
    batch: list[tuple[Path, _Film | str]],
    predictor: Predictor,
    heatmaps: Path | None,
    used: dict[str, int],
) -> Iterator[Row]:
    """The rows of one batch."""
    films = [film for _, film in batch if isinstance(film, _Film)]
    images = np.array([film.pixels for film in films], np.uint8)
    probabilities = iter(_probabilities(predictor.classifier, images))
    overlays = _overlays(predictor.classifier, films, images) if heatmaps and films else iter(())
    for path, film in batch:
        basis = (predictor.operating_threshold, predictor.source)
        if isinstance(film, str):
            yield Row(path, None, None, *basis, error=film)
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
        yield Row(
            path,
            probability,
            "pneumonia" if probability >= predictor.operating_threshold else "normal",
            *basis,
            warnings=film.warnings,
            heatmap=written,
        )


def _probabilities(classifier: Any, images: NDArray[np.uint8]) -> list[float]:
    """P(pneumonia) of each of (n, height, width) films, on six decimals.

    Raises:
        PipelineError: one of them is none.
    """
    probabilities = predict_probabilities(classifier, images, BATCH)
    wrong = ~((probabilities >= 0) & (probabilities <= 1))  # NaN fails both
    if wrong.any():
        raise PipelineError(
            "the model gives no probabilities in [0, 1]: it diverged when it was trained. "
            f"Received: {float(probabilities[wrong][0])}"
        )
    return [float(probability) for probability in rounded(probabilities)]


def _overlays(classifier: Any, films: list[_Film], images: NDArray[np.uint8]) -> Iterator[bytes]:
    """A PNG of each film with its class activation map, each made when it is asked for."""
    from pneumonia.evaluation.activation_maps import activation_maps, overlay

    for film, one in zip(films, activation_maps(classifier, images), strict=True):
        if film.canvas is not None:
            limit = max(_FULL_COLOUR, float(np.abs(one).max()))
            picture = io.BytesIO()
            Image.fromarray(overlay(film.canvas, one, limit)).save(picture, "PNG")
            yield picture.getvalue()


def _canvas(film: Image.Image, preprocess: PreprocessParams) -> NDArray[np.uint8]:
    """(height, width) uint8, the longer side `_OVERLAY_SIDE`: what the map, stretched, fits on.

    The film in its own proportions where the network sees it squashed, and with the borders that
    the network sees where it sees it padded.
    """
    if preprocess.fit == "pad":
        return resized(film, preprocess.model_copy(update={"image_size": _OVERLAY_SIDE}))
    scale = _OVERLAY_SIDE / max(film.size)
    width, height = (max(1, round(pixels * scale)) for pixels in film.size)
    return np.asarray(film.resize((width, height), Image.Resampling.BILINEAR))


def _unused_name(stem: str, used: dict[str, int]) -> str:
    """`STEM.png`, or `STEM-2.png` and so on where that is taken; it is taken from now on.

    Upper and lower case are one: they are on some file systems.
    """
    plain = printable(Path(stem)).replace("\\", "_")[:_MAX_NAME]
    name = plain
    while name.lower() in used:
        used[plain.lower()] += 1  # how many have asked for it, so that none counts from 2 again
        name = f"{plain}-{used[plain.lower()]}"
    used[name.lower()] = 1
    return f"{name}.png"
