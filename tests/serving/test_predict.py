"""Radiographs that a user names: each gets the pipeline's answer or the reason for none."""

import csv
import dataclasses
import io
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_dicom import dataset, written

from pneumonia.data.images import PreprocessParams, write_split
from pneumonia.errors import PipelineError
from pneumonia.serving import predict as module
from pneumonia.serving.answers import CSV_COLUMNS, as_csv_line, as_json_line, as_table_lines
from pneumonia.serving.predict import BATCH, Predictor, find_radiographs, load_predictor, predict
from pneumonia.store.files import write_json, write_text
from pneumonia.training.model_files import predict_probabilities, save_classifier

PREPROCESS = PreprocessParams(image_size=32, resampling="bilinear", fit="squash")


class MeanGrey:
    """A classifier whose probability is the mean grey over 255."""

    input_shape = (None, 32, 32, 1)

    def predict_on_batch(self, batch):
        return batch.mean(axis=(1, 2)) / 255


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(MeanGrey(), 0.4, 0.98, "phantoms", PREPROCESS)


def image(grey: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (40, 50), grey).save(file, kind)
    return file.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def answers(predictor, *paths, **options):
    return list(predict(find_radiographs(paths), predictor, **options))


def error_of(predictor, path: Path) -> str:
    (row,) = answers(predictor, path)
    assert row.probability is None
    assert row.verdict is None
    (line,) = row.error.splitlines()
    return line


# --- what is answered


def test_a_radiograph_gets_probability_verdict_threshold_and_dataset(tmp_path, predictor):
    (row,) = answers(predictor, put(tmp_path / "a.png", image(51)))
    # 51 / 255 = 0.2, below 0.4
    assert (row.probability, row.verdict, row.error) == (0.2, "normal", None)
    assert (row.operating_threshold, row.trained_on) == (0.4, "phantoms")


def test_a_probability_at_the_threshold_is_pneumonia(tmp_path, predictor):
    greys = {"below": 101, "at": 102, "above": 103}  # 102 / 255 = 0.4
    paths = [put(tmp_path / f"{name}.png", image(grey)) for name, grey in greys.items()]
    verdicts = [row.verdict for row in answers(predictor, *paths)]
    assert verdicts == ["normal", "pneumonia", "pneumonia"]


def test_probabilities_have_six_decimals(tmp_path, predictor):
    (row,) = answers(predictor, put(tmp_path / "a.png", image(85)))
    assert row.probability == 0.333333


def test_a_warning_changes_neither_probability_nor_verdict(tmp_path, predictor, monkeypatch):
    path = put(tmp_path / "a.png", image(200))
    (warned,) = answers(predictor, path)
    assert set(warned.warnings) == {"blank"}
    monkeypatch.setattr(module, "warnings_of", lambda *_: {})
    (plain,) = answers(predictor, path)
    assert plain.warnings == {}
    assert (warned.probability, warned.verdict) == (plain.probability, plain.verdict)


def test_the_content_and_not_the_suffix_decides_how_a_file_is_read(tmp_path, predictor):
    radiograph = dataset([[2048] * 40] * 50, Modality="CT")
    rows = answers(
        predictor,
        put(tmp_path / "png.txt", image(51)),
        put(tmp_path / "jpeg.dcm", image(51, "JPEG")),
        put(tmp_path / "dicom.jpg", written(radiograph)),
    )
    assert [row.probability for row in rows] == [0.2, 0.2, 0.501961]  # 128 / 255
    assert {"not_chest", "no_window"} <= set(rows[2].warnings)


def test_more_radiographs_than_a_batch_keep_their_order(tmp_path, predictor):
    n_images = 2 * BATCH + 7
    for i in range(n_images):
        put(tmp_path / f"{i:03}.png", image(i))
    rows = answers(predictor, tmp_path)
    assert [row.path.name for row in rows] == [f"{i:03}.png" for i in range(n_images)]
    expected = [i / 255 for i in range(n_images)]
    np.testing.assert_allclose([row.probability for row in rows], expected, rtol=0, atol=1e-6)


def test_the_first_rows_come_long_before_the_last_radiograph_is_read(
    tmp_path, predictor, monkeypatch
):
    path = put(tmp_path / "a.png", image(51))
    asked = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda *item: asked.append(item) or read(*item))
    rows = predict([(path, None)] * 20 * BATCH, predictor)
    next(rows)
    rows.close()
    # One batch answered, and two waiting behind it.
    assert BATCH <= len(asked) <= 3 * BATCH + 1


@pytest.mark.real
def test_files_get_the_probabilities_of_the_pipelines_arrays(tmp_path, real_archive):
    import keras

    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((48, 48, 1)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(1, activation="sigmoid", kernel_initializer="he_normal"),
    ]
    (tmp_path / "models").mkdir()
    save_classifier(keras.Sequential(layers), tmp_path / "models/finetune.keras")
    write_root(tmp_path, image_size=48)
    loaded = load_predictor(*files_of(tmp_path))

    with zipfile.ZipFile(real_archive) as archive:
        members = sorted(name for name in archive.namelist() if name.endswith(".jpeg"))[::61]
        archive.extractall(tmp_path / "images", members)
    rows = pd.DataFrame({"name": members, "member": members})
    rows = rows.assign(label=0, kind="normal", patient_id="1")
    (tmp_path / "arrays").mkdir()
    write_split(real_archive, rows, tmp_path / "arrays", loaded.preprocess, iter)
    arrays = np.load(tmp_path / "arrays/images.npy")
    expected = predict_probabilities(loaded.classifier, arrays)
    assert np.ptp(expected) > 0.2  # or all images would be alike

    found = answers(loaded, tmp_path / "images")
    assert [row.path for row in found] == [tmp_path / "images" / member for member in members]
    np.testing.assert_allclose([row.probability for row in found], expected, rtol=0, atol=1e-5)


# --- what is not


def test_a_bad_file_does_not_keep_the_others_from_being_answered(tmp_path, predictor):
    good = [put(tmp_path / name, image(51)) for name in ("a.png", "c.png")]
    bad = put(tmp_path / "b.png", b"not an image")
    rows = answers(predictor, good[0], bad, tmp_path / "nowhere.png", good[1])
    assert [row.probability for row in rows] == [0.2, None, None, 0.2]
    assert [row.error is None for row in rows] == [True, False, False, True]


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header claims side × side pixels."""
    data = bytearray(image(0))
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "an empty file"),
        (b"hello, Mrs Doe", "14 bytes of another kind"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"GIF89a ...", "a GIF"),
        (b"II*\0 ...", "a TIFF"),
        (image(7, "JPEG")[:300], "expected a whole JPEG or PNG"),
        (image(7)[:60], "expected a whole JPEG or PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "expected a whole JPEG or PNG"),
        (bomb(11_000), "at most 100000000 pixels. Received: 11000 × 11000"),
        (bomb(60_000), "3600000000 pixels"),
        (bytes(128) + b"DICM", "without pixel data"),
    ],
    ids=range(11),
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_file_that_is_not_a_radiograph_is_refused_in_one_line(tmp_path, predictor, data, said):
    message = error_of(predictor, put(tmp_path / "image.jpeg", data))
    assert said in message
    assert "Doe" not in message


def test_a_file_that_cannot_be_opened_is_reported_in_one_line(tmp_path, predictor, monkeypatch):
    assert "No such file" in error_of(predictor, tmp_path / "nowhere.png")
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    assert "symbolic links" in error_of(predictor, loop)
    assert "too long" in error_of(predictor, tmp_path / ("a" * 300))
    assert "can be read" in error_of(predictor, Path("a\0b"))
    os.mkfifo(tmp_path / "pipe.png")
    assert "pipe or device" in error_of(predictor, tmp_path / "pipe.png")

    locked = put(tmp_path / "locked.png", image(51))

    def refuse(path, *args):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, who may read all
    assert error_of(predictor, locked).endswith("Permission denied")


def test_a_file_larger_than_any_radiograph_is_not_read(tmp_path, predictor):
    path = put(tmp_path / "large.png", image(51))
    os.truncate(path, 2**36)  # a sparse file
    assert str(2**36) in error_of(predictor, path)


def test_an_unexpected_error_of_a_decoder_is_reported_in_its_row(tmp_path, predictor, monkeypatch):
    paths = [put(tmp_path / f"{name}.png", image(51)) for name in "ab"]
    decode = module.decode

    def failing(data, seen=[]):  # noqa: B006 - the list is what counts the calls
        seen.append(data)
        if len(seen) == 1:
            raise MemoryError
        return decode(data)

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(module, "decode", failing)
    rows = answers(predictor, *paths)
    assert [row.probability for row in rows] == [None, 0.2]
    assert "MemoryError" in rows[0].error


def test_bad_files_alone_are_answered_without_the_model(tmp_path, predictor):
    rows = answers(predictor, *[put(tmp_path / name, b"") for name in "ab"])
    assert [row.probability for row in rows] == [None, None]


def test_a_model_that_diverged_is_an_error(tmp_path, predictor, monkeypatch):
    path = put(tmp_path / "a.png", image(51))
    monkeypatch.setattr(MeanGrey, "predict_on_batch", lambda _, batch: batch[:, 0, 0] * np.nan)
    with pytest.raises(PipelineError, match="diverged"):
        answers(predictor, path)


# --- folders


def test_a_folder_stands_for_all_files_in_it_sorted(tmp_path):
    litter = (".hidden", ".git/x", "__MACOSX/y", "b/.DS_Store")
    for name in ("b/2.png", "b/1.dcm", "a.txt", "c", *litter):
        put(tmp_path / name, b"")
    found = find_radiographs([tmp_path])
    names = [path.relative_to(tmp_path).as_posix() for path, _ in found]
    assert names == ["a.txt", "c", "b/1.dcm", "b/2.png"]
    assert not any(problem for _, problem in found)


def test_paths_keep_the_order_in_which_they_were_named(tmp_path):
    paths = [put(tmp_path / name, b"") for name in ("z", "folder/a", "m")]
    named = [paths[0], tmp_path / "folder", paths[2], paths[0]]
    assert [path for path, _ in find_radiographs(named)] == [*paths, paths[0]]


def test_links_in_a_circle_end(tmp_path, predictor):
    file = put(tmp_path / "images/a.png", image(51))
    (tmp_path / "images/again").symlink_to(tmp_path / "images")
    (tmp_path / "images/b.png").symlink_to(file)
    rows = answers(predictor, tmp_path / "images")
    assert [(row.path.name, row.probability) for row in rows] == [("a.png", 0.2), ("b.png", 0.2)]


def test_an_empty_folder_is_reported(tmp_path, predictor):
    put(tmp_path / ".DS_Store", b"")
    (row,) = answers(predictor, tmp_path)
    assert row.path == tmp_path
    assert "Received: none" in row.error


def test_a_folder_that_cannot_be_listed_is_reported_and_the_others_are_answered(
    tmp_path, predictor, monkeypatch
):
    put(tmp_path / "locked/a.png", image(51))
    put(tmp_path / "open/a.png", image(51))
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    rows = answers(predictor, tmp_path)
    assert [(row.path.name, row.probability) for row in rows] == [("a.png", 0.2), ("locked", None)]
    assert "Permission denied" in rows[1].error


# --- overlays


@pytest.fixture
def maps(monkeypatch):
    """Maps of one logit all over, without a Keras model."""
    from pneumonia.evaluation import activation_maps as maps

    monkeypatch.setattr(
        maps, "activation_maps", lambda _, images: np.ones((len(images), 2, 2), np.float32)
    )


def test_overlays_have_the_radiographs_proportions(tmp_path, predictor, maps):
    path = put(tmp_path / "image.png", image(51))  # 40 × 50
    (row,) = answers(predictor, path, heatmaps=tmp_path / "maps")
    assert row.heatmap == tmp_path / "maps/image.png"
    with Image.open(row.heatmap) as overlay:
        assert (overlay.size, overlay.mode) == ((410, 512), "RGB")


@pytest.mark.parametrize(
    ("logits", "colour"),
    [
        # a fifth of 5 logits: 0.6 / 5 = 0.12 of vermillion (213, 94, 0) over 0.88 of grey 51
        (1, (70, 56, 45)),
        (20, (148, 77, 20)),  # the strongest there is: 0.6 of it over 0.4 of the grey
    ],
)
def test_a_weak_map_is_pale_and_a_strong_one_is_not(
    tmp_path, predictor, monkeypatch, logits, colour
):
    from pneumonia.evaluation import activation_maps as maps

    monkeypatch.setattr(
        maps,
        "activation_maps",
        lambda _, images: np.full((len(images), 2, 2), logits, np.float32),
    )
    path = put(tmp_path / "image.png", image(51))
    (row,) = answers(predictor, path, heatmaps=tmp_path / "maps")
    with Image.open(row.heatmap) as overlay:
        assert overlay.getpixel((200, 200)) == colour


def test_an_overlay_has_borders_where_the_network_sees_them(tmp_path, predictor, maps):
    padding = PreprocessParams(image_size=32, resampling="bilinear", fit="pad")
    predictor = Predictor(MeanGrey(), 0.4, 0.98, "phantoms", padding)
    path = put(tmp_path / "image.png", image(51))
    (row,) = answers(predictor, path, heatmaps=tmp_path / "maps")
    with Image.open(row.heatmap) as overlay:
        assert overlay.size == (512, 512)


def test_radiographs_with_one_name_get_overlays_of_their_own(tmp_path, predictor, maps):
    names = ["a/image.png", "b/image.jpeg", "c/IMAGE.png", "d/image-2.png", "e/none.png"]
    paths = [put(tmp_path / name, image(51)) for name in names[:-1]]
    paths.append(put(tmp_path / names[-1], b""))
    rows = answers(predictor, *paths, heatmaps=tmp_path / "maps")
    written = [row.heatmap.name for row in rows[:-1]]
    assert written == ["image.png", "image-2.png", "IMAGE-3.png", "image-2-2.png"]
    assert rows[-1].heatmap is None
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(written)


def test_the_name_of_an_overlay_is_a_valid_file_name(tmp_path, predictor, maps):
    path = put(tmp_path / ("\n" * 100 + "é" * 70 + ".png"), image(51))
    (row,) = answers(predictor, path, heatmaps=tmp_path / "maps")
    assert row.heatmap.is_file()
    assert row.heatmap.name.isprintable()


def test_overlays_never_replace_radiographs(tmp_path, predictor, maps):
    path = put(tmp_path / "images/a.png", image(51))
    before = path.read_bytes()
    with pytest.raises(PipelineError, match="among the radiographs"):
        answers(predictor, path, heatmaps=tmp_path / "images/../images")
    assert path.read_bytes() == before


def test_a_folder_that_cannot_hold_overlays_is_an_error(tmp_path, predictor, maps):
    path = put(tmp_path / "images/a.png", image(51))
    with pytest.raises(PipelineError, match="cannot be written there"):
        answers(predictor, path, heatmaps=put(tmp_path / "file", b""))


# --- what the pipeline left


def files_of(root: Path) -> tuple[Path, Path, Path]:
    return (
        root / "models/finetune.keras",
        root / "models/operating_point.json",
        root / "params.yaml",
    )


def write_root(root: Path, image_size: int = 32, **changes: object) -> None:
    point = {"schema": 2, "operating_threshold": 0.4, "target_recall": 0.98, "dataset": "phantoms"}
    write_json(root / "models/operating_point.json", point | changes)
    write_text(
        root / "params.yaml",
        f"preprocess:\n  image_size: {image_size}\n  resampling: bilinear\n  fit: squash\n",
    )


@pytest.fixture
def load(monkeypatch):
    """load_predictor without Keras: every model file is `MeanGrey`."""
    monkeypatch.setattr(module, "load_classifier", lambda _: MeanGrey())
    return lambda root: load_predictor(*files_of(root))


@pytest.mark.parametrize("changes", [{}, {"schema": 1, "source": "phantoms", "dataset": None}])
def test_threshold_dataset_and_preprocessing_are_the_runs(tmp_path, load, changes):
    # Schema 1, of models before the second baseline, calls the dataset `source`.
    write_root(tmp_path, **changes)
    loaded = load(tmp_path)
    assert (loaded.operating_threshold, loaded.target_recall) == (0.4, 0.98)
    assert (loaded.dataset, loaded.preprocess) == ("phantoms", PREPROCESS)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 3},
        {"schema": [2]},
        {"operating_threshold": "0.4"},
        {"operating_threshold": True},
        {"operating_threshold": 1.4},
        {"dataset": None},
        {"schema": 1},
    ],
)
def test_an_operating_point_of_another_form_is_refused(tmp_path, load, changes):
    write_root(tmp_path, **changes)
    with pytest.raises(PipelineError, match=r"operating_point\.json.*Received") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_operating_point_that_is_not_a_mapping_is_refused(tmp_path, load):
    write_root(tmp_path)
    write_json(tmp_path / "models/operating_point.json", [1])
    with pytest.raises(PipelineError, match="expected the operating point"):
        load(tmp_path)


def test_an_image_size_other_than_the_models_is_refused(tmp_path, load):
    write_root(tmp_path, image_size=64)
    with pytest.raises(PipelineError, match=r"image_size is 64.*32 × 32"):
        load(tmp_path)


# --- rows as table, JSON and CSV

ODD = 'a\nb\x1b[31m\udcff;,".png'


@pytest.fixture
def rows(tmp_path, predictor):
    path = tmp_path / "images" / "odd.png"
    rows = answers(predictor, put(path, image(51)), put(tmp_path / "bad", b""))
    return [dataclasses.replace(row, path=Path(ODD)) for row in rows]


def test_every_line_of_the_table_can_be_printed(rows):
    for row in rows:
        for line in as_table_lines(row).split("\n"):
            assert line.isprintable()
    answered, refused = map(as_table_lines, rows)
    assert answered.split()[:2] == ["0.200000", "normal"]
    assert r"a\nb\x1b[31m\udcff" in answered
    assert "warning, blank" in answered
    assert "no answer" in refused
    assert "an empty file" in refused


def test_json_has_a_line_a_row_from_which_any_name_can_be_read_back(rows):
    for row in rows:
        line = as_json_line(row)
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["path"] == ODD
    answered, refused = (json.loads(as_json_line(row)) for row in rows)
    assert answered["probability"] == 0.2
    assert answered["verdict"] == "normal"
    assert answered["operating_threshold"] == 0.4
    assert answered["trained_on"] == "phantoms"
    assert set(answered["warnings"]) == {"blank"}
    assert answered["error"] is None
    assert (refused["probability"], refused["verdict"]) == (None, None)
    assert "an empty file" in refused["error"]


def test_csv_has_a_line_a_row_and_a_heading(rows):
    lines = [as_csv_line(None), *map(as_csv_line, rows)]
    assert all(line.isprintable() for line in lines)
    answered, refused = csv.DictReader(lines)
    assert tuple(answered) == CSV_COLUMNS
    assert answered["path"] == r"a\nb\x1b[31m\udcff;," + '".png'
    assert (answered["probability"], answered["verdict"]) == ("0.200000", "normal")
    assert (answered["warnings"], answered["error"]) == ("blank", "")
    assert (refused["probability"], refused["verdict"]) == ("", "")
    assert "an empty file" in refused["error"]
