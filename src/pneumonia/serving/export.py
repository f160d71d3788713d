"""The classifier for programs without this repository: SavedModel, ONNX or TFLite.

Beside the model lie `contract.json`, which says all that a program needs to use it, and the
model card. Before anything is kept it is run in its own runtime, where that is installed, and must
give the probabilities of the Keras model. docs/export.md explains. For research; not for diagnosis.
TensorFlow and the runtimes are imported inside the functions that need them.
"""

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pneumonia.data.images import replacing_folders
from pneumonia.data.phantoms import draw_phantom
from pneumonia.errors import PipelineError
from pneumonia.serving.predict import Predictor, load_predictor
from pneumonia.store.files import read_json, sha256_of, write_json
from pneumonia.training.model_files import predict_probabilities

SCHEMA = 1
CONTRACT = "contract.json"
CARD = "MODEL_CARD.md"
INPUT, OUTPUT = "radiograph", "probability"
TOLERANCE = 1e-4  # largest difference of a probability from the Keras model's
OPSET = 17  # of ONNX

_MAKER = "pneumonia export"
_CARD_COMMAND = "make documents"
_NOTICE = "Research software. Not for diagnosis."
# Phantoms, and not noise: noise of any kind gets nearly one and the same probability, phantoms get
# quite different ones, so that a conversion that mixed something up would show.
_KINDS = ("normal", "bacterial", "viral") * 2
_CHECK_SEED = 2017

# images (n, side, side, 1) float32 in [0, 255] -> (n,) probabilities
_Run = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class _Format:
    """One way to write the model.

    Attributes:
        file: the model within the folder; SavedModel's is a folder of its own.
        write: writes a traced function (see `_traced`) there.
        open: what runs such a file in its own runtime.
        needs: packages without which it cannot be written.
        runtime: the package that runs it.
    """

    file: str
    write: Callable[[Any, Path], None]
    open: Callable[[Path], _Run]
    needs: tuple[str, ...]
    runtime: str


def export(
    model: Path,
    operating_point: Path,
    params_file: Path,
    card: Path,
    format: Literal["savedmodel", "onnx", "tflite"],  # noqa: A002 - the option's name
    folder: Path,
) -> Path:
    """Write the model with its contract and its card into `folder`, whole or not at all.

    The folder holds `contract.json`, `MODEL_CARD.md` and the model: `model/` (SavedModel),
    `model.onnx` or `model.tflite`. Each takes any number of films at a time. The model has been run
    in its own runtime, where that is installed, on phantoms; the contract tells what came out. An
    earlier export in `folder` is replaced.

    Nothing is printed, whatever the converters have to say: standard output and standard error are
    turned off meanwhile, for the whole process.

    Args:
        model: the `.keras` file.
        operating_point: models/operating_point.json of the same run.
        params_file: params.yaml of the same run.
        card: MODEL_CARD.md of the same run; it names the model's md5 and threshold.
        format: savedmodel, onnx or tflite.
        folder: where to write.

    Returns:
        `folder`, absolute.

    Raises:
        PipelineError: a file is missing or wrong, or they are not of one run; the format cannot be
            written here; `folder` holds something other than an export, or cannot be written; or
            the exported model differs from the Keras model by more than `TOLERANCE`.
    """
    if format not in FORMATS:
        raise PipelineError(f"format must be one of {', '.join(FORMATS)}. Received: {format!r}")
    into, folder = FORMATS[format], folder.resolve()
    _refuse_foreign(folder)
    with _quiet():
        _refuse_environment(format, into)
        predictor = load_predictor(model, operating_point, params_file)
        card_text = _card_of_model(card, model, predictor)
        try:
            with _full_float32(), replacing_folders([folder]) as (partial,):
                path = partial / into.file
                into.write(_traced(predictor), path)
                check = _checked(predictor, into, path)
                (partial / CARD).write_text(card_text, encoding="utf-8", newline="\n")
                files = _hashes(partial)
                contract = _contract(format, model, predictor, files, check)
                write_json(partial / CONTRACT, contract)
        except OSError as error:
            raise PipelineError(
                f"{folder}: the export cannot be written there. Received: {error.strerror or error}"
            ) from error
    return folder


def summary(folder: Path) -> str:
    """What an export is and how well it was checked, as lines for a terminal."""
    contract = read_json(folder / CONTRACT)
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    check, decision = contract["check"], contract["decision"]
    if check is None:
        checked = f"not run: {FORMATS[contract['format']].runtime} is not installed"
    else:
        low, high = check["probabilities"]
        checked = (
            f"run in {check['runtime']} on {check['n_films']} phantoms: probabilities from "
            f"{low:.3f} to {high:.3f}, within {check['largest_difference']:.0e} of the Keras model"
        )
    return (
        f"{folder}: {contract['file']}, {CONTRACT}, {CARD}; {n_bytes / 1e6:.1f} MB\n"
        f"{checked}\n"
        f"pneumonia when {OUTPUT} >= {decision['operating_threshold']:.6f}, chosen on "
        f"{decision['chosen_on']} for a recall of {decision['target_recall']:g}\n"
        f"{_NOTICE}"
    )


# --- What is refused -----------------------------------------------------------------------------


def _refuse_foreign(folder: Path) -> None:
    """Raise unless `folder` is missing, empty, or an export as it was written."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    contract: Any = None
    if (folder / CONTRACT).is_file():
        contract = read_json(folder / CONTRACT)
    its_own = isinstance(contract, dict) and contract.get("made_by") == _MAKER
    if not its_own or contract.get("files") != _hashes(folder):
        raise PipelineError(
            f"{folder}: expected a new folder, an empty one, or an export as it was written, which "
            "is replaced. Received: something else, which is left as it is"
        )


def _refuse_environment(name: str, into: _Format) -> None:
    """Raise unless this environment can write the format."""
    # Asked first, because Keras cannot even be imported without its backend.
    backend = os.environ.get("KERAS_BACKEND")
    if backend is None:
        import keras

        backend = keras.config.backend()
    if backend != "tensorflow":
        raise PipelineError(
            f"{name} is written by way of TensorFlow, from the same .keras file: run it with "
            f"KERAS_BACKEND=tensorflow. Received: {backend}"
        )
    missing = [package for package in into.needs if not _installed(package)]
    if missing:
        raise PipelineError(f"{name} needs the packages {', '.join(missing)}: install them")


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _card_of_model(card: Path, model: Path, predictor: Predictor) -> str:
    """The card's text, if it is about this model and this threshold.

    Raises:
        PipelineError: it cannot be read, or is about another.
    """
    try:
        text = card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{card}: expected a model card. Received: {error}") from error
    facts = {
        f"md5 {_md5_of(model)}": _md5_of(model),
        f"operating threshold {predictor.operating_threshold}": str(predictor.operating_threshold),
    }
    missing = [words for words, what in facts.items() if what not in text]
    if missing:
        raise PipelineError(
            f"{card}: expected the card of {model}, which names its {' and '.join(missing)}. "
            f"Received: the card of another run; `{_CARD_COMMAND}` writes that of the baseline"
        )
    return text


def _md5_of(path: Path) -> str:
    """The md5 of a file, as dvc.lock names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# --- What is written -----------------------------------------------------------------------------


def _traced(predictor: Predictor) -> Any:
    """A tf.Module whose `serve` maps (n, side, side, 1) float32 to {"probability": (n, 1)}."""
    import tensorflow as tf

    classifier, side = predictor.classifier, predictor.preprocess.image_size
    spec = tf.TensorSpec((None, side, side, 1), tf.float32, name=INPUT)

    def serve(radiograph: Any) -> dict[str, Any]:
        return {OUTPUT: classifier(radiograph, training=False)}

    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[spec])
    # The variables themselves, and not the Keras model: Keras would hang its own copy of each into
    # the file, and without either TFLite's converter fills the network with NaN.
    module.held = [variable.value for variable in classifier.variables]
    return module


def _write_savedmodel(module: Any, path: Path) -> None:
    import tensorflow as tf

    tf.saved_model.save(module, str(path), signatures=module.serve.get_concrete_function())


def _write_onnx(module: Any, path: Path) -> None:
    import onnx
    import tf2onnx

    converted, _ = tf2onnx.convert.from_function(
        module.serve, input_signature=module.serve.input_signature, opset=OPSET
    )
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"  # in place of unk__502
    onnx.checker.check_model(converted)
    onnx.save(converted, path)


def _write_tflite(module: Any, path: Path) -> None:
    import tensorflow as tf

    function = module.serve.get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function], module).convert())


def _contract(
    name: str,
    model: Path,
    predictor: Predictor,
    files: dict[str, str],
    check: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of contract.json."""
    side = predictor.preprocess.image_size
    into = FORMATS[name]
    packages = sorted({"keras", "numpy", "pillow", "tensorflow", *into.needs})
    return {
        "schema": SCHEMA,
        "made_by": _MAKER,
        "notice": _NOTICE,
        "format": name,
        "file": into.file,
        "input": {
            "name": INPUT,
            "shape": ["n", side, side, 1],
            "axes": ["film", "row, from the top", "column, from the left", "channel"],
            "dtype": "float32",
            "range": [0, 255],
            "channels": "one, greyscale: 0 is black, 255 is white",
            "scaling": "none: the model scales pixels itself",
        },
        "preprocess": {
            **predictor.preprocess.model_dump(),
            "steps": [
                "decode the JPEG or PNG, turned as its EXIF orientation says; of several frames "
                "the first",
                "lay transparent pictures over black; bring 16-bit greyscale from 0..65535 to "
                "0..255, rounded",
                "colour to greyscale by 0.299 R + 0.587 G + 0.114 B (ITU-R 601), to 8 bits",
                _fit_in_words(predictor),
                "the 8-bit values as float32, undivided",
            ],
        },
        "output": {
            "name": OUTPUT,
            "shape": ["n", 1],
            "dtype": "float32",
            "range": [0, 1],
            "meaning": "P(pneumonia)",
        },
        "decision": {
            "operating_threshold": predictor.operating_threshold,
            "rule": "pneumonia when probability, rounded to 6 decimals, >= operating_threshold; "
            "normal otherwise",
            "chosen_on": "validation",
            "target_recall": predictor.target_recall,
        },
        "model": {
            "file": model.name,
            "md5": _md5_of(model),
            "sha256": sha256_of(model),
            "source": predictor.source,
        },
        "versions": {package: version(package) for package in packages}
        | ({"opset": OPSET} if name == "onnx" else {}),
        "check": check,
        "files": files,
    }


def _fit_in_words(predictor: Predictor) -> str:
    """How a greyscale picture gets the network's size; see `images.resized`."""
    preprocess = predictor.preprocess
    side, how = preprocess.image_size, f"Pillow's {preprocess.resampling} resampling"
    if preprocess.fit == "squash":
        return f"resize to {side} by {side} pixels with {how}, whatever the aspect ratio"
    return (
        f"resize with {how} so that the longer side has {side} pixels and the shorter one its "
        f"proportion; centre on a black square of {side} by {side}"
    )


def _hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file in `folder`, the contract's excepted, by its path within, sorted."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / CONTRACT
    }


# --- What is checked -----------------------------------------------------------------------------


def _checked(predictor: Predictor, into: _Format, path: Path) -> dict[str, Any] | None:
    """What the exported model gave beside the Keras model; None where it cannot be run.

    Raises:
        PipelineError: they differ by more than `TOLERANCE`, or one gives no probability.
    """
    if not _installed(into.runtime):
        return None
    side = predictor.preprocess.image_size
    films = np.stack(
        [draw_phantom(kind, side, _CHECK_SEED, i, 0).pixels for i, kind in enumerate(_KINDS)]
    )
    expected = predict_probabilities(predictor.classifier, films, len(films))
    run = into.open(path)
    images = films[..., None].astype(np.float32)
    # All at once and one alone: the number of films must not be fixed by the conversion.
    received = run(images)
    differences = np.abs(np.append(received, run(images[:1])) - np.append(expected, expected[0]))
    largest = float(differences.max())
    if not largest <= TOLERANCE:  # NaN is not
        raise PipelineError(
            f"the exported model must give the Keras model's probabilities within {TOLERANCE:g}. "
            f"Received: a difference of {largest:g} in {into.runtime}; nothing was written"
        )
    return {
        "runtime": f"{into.runtime} {version(into.runtime)}",
        "films": "phantoms, drawn",
        "seed": _CHECK_SEED,
        "n_films": len(films),
        "probabilities": [round(float(received.min()), 6), round(float(received.max()), 6)],
        "largest_difference": largest,
        "tolerance": TOLERANCE,
    }


def _open_savedmodel(path: Path) -> _Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))

    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        assert loaded  # the signature alone would let go of the variables
        found = loaded.signatures["serving_default"](**{INPUT: tf.constant(images)})
        return np.asarray(found[OUTPUT], np.float64)[:, 0]

    return run


def _open_onnx(path: Path) -> _Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(session.run([OUTPUT], {INPUT: images})[0], np.float64)[:, 0]

    return run


def _open_tflite(path: Path) -> _Run:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path))
    signature = interpreter.get_signature_runner()

    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(signature(**{INPUT: images})[OUTPUT], np.float64)[:, 0]

    return run


FORMATS = {
    "savedmodel": _Format("model", _write_savedmodel, _open_savedmodel, (), "tensorflow"),
    "onnx": _Format("model.onnx", _write_onnx, _open_onnx, ("onnx", "tf2onnx"), "onnxruntime"),
    "tflite": _Format("model.tflite", _write_tflite, _open_tflite, (), "tensorflow"),
}


@contextmanager
def _full_float32() -> Iterator[None]:
    """TensorFlow without TF32 meanwhile: it is a GPU's default, and has three digits."""
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on standard output and error meanwhile; all of it after all, if a bug shows.

    By file descriptor: most of the chatter is TensorFlow's C++, which knows no `sys.stderr`.
    """
    with tempfile.TemporaryFile() as said:
        _flush()
        before = {number: os.dup(number) for number in (1, 2)}
        for number in before:
            os.dup2(said.fileno(), number)
        is_bug = False
        try:
            yield
        except Exception as error:
            is_bug = not isinstance(error, PipelineError)
            raise
        finally:
            _flush()
            for number, kept in before.items():
                os.dup2(kept, number)
                os.close(kept)
            if is_bug:
                said.seek(0)
                sys.stderr.write(said.read().decode(errors="replace"))


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
