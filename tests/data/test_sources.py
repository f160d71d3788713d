import hashlib
import logging
import shutil
from dataclasses import replace

import PIL
import pytest

from pneumonia.data import sources
from pneumonia.data.archive import list_radiographs
from pneumonia.data.datasets import SOURCES, FetchParams, is_public
from pneumonia.data.phantoms import PhantomParams, phantom_entries
from pneumonia.data.sources import as_text, counts_of, receive
from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section

PHANTOMS = PhantomParams(image_size=32, share=0.002)
# SMALL in conftest.py: two normal, one bacterial and one viral film in each folder.
SMALL_COUNTS = {
    ("train", "normal"): 2,
    ("train", "bacterial"): 1,
    ("train", "viral"): 1,
    ("test", "normal"): 2,
    ("test", "bacterial"): 1,
    ("test", "viral"): 1,
}


def known(name):
    return FetchParams(source=name, archive=None, sha256=None)


def own(archive, sha256=None):
    if sha256 is None:
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return FetchParams(source="own", archive=str(archive), sha256=sha256)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "data" / "raw" / "radiographs.zip"


@pytest.fixture
def work(tmp_path):
    return tmp_path / ".scratch" / "fetch"


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("PNEUMONIA_KEY", "a key for the tests")


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("PNEUMONIA_MIRROR", str(folder))
    return folder


@pytest.fixture
def small_records(small_archive, monkeypatch):
    """The study's two records, as if `small_archive` were the official one."""
    data = small_archive.read_bytes()
    copy = small_archive.with_name("copy.zip")
    sources.write_shrunk(small_archive, copy)
    changed = dict(SOURCES)
    for name, content in (
        ("chestxray2017", data),
        ("chestxray2017-224", copy.read_bytes()),
    ):
        remote = replace(
            SOURCES[name].remote,
            address=None,
            sha256=hashlib.sha256(content).hexdigest(),
            n_bytes=len(content),
        )
        changed[name] = replace(SOURCES[name], remote=remote, counts=SMALL_COUNTS)
    monkeypatch.setattr(sources, "SOURCES", changed)
    return copy


# --- records and parameters


def test_every_record_is_whole():
    assert list(SOURCES) == ["chestxray2017", "chestxray2017-224", "phantoms"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert source.title
        assert source.licence
        assert source.citation
        if source.remote is not None:
            assert len(source.remote.sha256) == 64
            assert source.remote.n_bytes > 0


def test_the_studys_counts_are_those_that_are_documented():
    # 1,349 + 2,538 + 1,345 = 5,232 in train, 234 + 242 + 148 = 624 in test
    for name in ("chestxray2017", "chestxray2017-224"):
        counts = SOURCES[name].counts
        assert sum(n for (folder, _), n in counts.items() if folder == "train") == 5232
        assert sum(n for (folder, _), n in counts.items() if folder == "test") == 624
        assert sum(n for (_, kind), n in counts.items() if kind != "normal") == 4273


def test_only_the_users_own_films_are_not_public():
    assert [is_public(name) for name in SOURCES] == [True, True, True]
    assert not is_public("own")
    assert not is_public("anything else")


@pytest.mark.parametrize("source", [*SOURCES, "own"])
def test_every_source_is_accepted_as_a_parameter(source):
    given = {"source": source, "archive": None, "sha256": None}
    if source == "own":
        given |= {"archive": "films.zip", "sha256": "0" * 64}
    assert as_section(given, "params.yaml: fetch", FetchParams).source == source


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (("elsewhere", None, None), "fetch.source must be one of chestxray2017, "),
        (("own", None, "0" * 64), "fetch.archive must be given when source is own"),
        (("own", "", "0" * 64), "fetch.archive must be given when source is own"),
        (("own", "films.zip", None), "fetch.sha256 must be given when source is own"),
        (("own", "films.zip", "12ab"), "fetch.sha256 must be 64 hexadecimal digits"),
        (("own", "films.zip", "A" * 64), "fetch.sha256 must be 64 hexadecimal digits"),
        (("phantoms", "films.zip", None), "fetch.archive must be null when source is phantoms"),
        (("phantoms", None, "0" * 64), "fetch.sha256 must be null when source is phantoms"),
    ],
)
def test_parameters_that_do_not_fit_each_other_are_refused(section, message):
    with pytest.raises(PipelineError) as error:
        as_section(
            dict(zip(("source", "archive", "sha256"), section, strict=True)),
            "params.yaml: fetch",
            FetchParams,
        )
    assert message in str(error.value)


def test_counts_are_by_folder_and_kind_zeros_included(small_archive):
    radiographs = list_radiographs(small_archive)
    assert counts_of(radiographs) == SMALL_COUNTS
    assert counts_of([])["test", "viral"] == 0
    assert as_text(SMALL_COUNTS) == (
        "train normal 2, train bacterial 1, train viral 1, "
        "test normal 2, test bacterial 1, test viral 1"
    )


# --- the study


@pytest.mark.parametrize("name", ["chestxray2017", "chestxray2017-224"])
def test_a_mirrored_archive_is_received(name, mirror, small_archive, small_records, place, work):
    given = small_archive if name == "chestxray2017" else small_records
    shutil.copy(given, mirror / SOURCES[name].remote.file)
    receive(known(name), PHANTOMS, 1, place, work)
    assert place.read_bytes() == given.read_bytes()
    assert list(work.iterdir()) == []


def test_the_copy_is_made_from_the_official_archive_to_the_byte(
    mirror, small_archive, small_records, place, work
):
    shutil.copy(small_archive, mirror / "ChestXRay2017.zip")
    receive(known("chestxray2017-224"), PHANTOMS, 1, place, work)
    assert place.read_bytes() == small_records.read_bytes()
    assert list(work.iterdir()) == []  # the gigabyte of the official archive is gone


def test_a_copy_of_other_bytes_names_pillow_and_the_way_round(
    mirror, small_archive, small_records, place, work, monkeypatch
):
    shutil.copy(small_archive, mirror / "ChestXRay2017.zip")
    # Another JPEG encoder would show like this.
    monkeypatch.setattr(
        sources, "write_shrunk", lambda official, path: path.write_bytes(b"other bytes")
    )
    with pytest.raises(PipelineError) as error:
        receive(known("chestxray2017-224"), PHANTOMS, 1, place, work)
    message = str(error.value)
    assert f"expected sha256 {hashlib.sha256(small_records.read_bytes()).hexdigest()}" in message
    assert f"Received: {hashlib.sha256(b'other bytes').hexdigest()}" in message
    assert f"Pillow {PIL.__version__}" in message
    assert "fetch.source: chestxray2017," in message
    assert not place.exists()
    # What took the longest to receive is kept for the way round.
    assert [path.name for path in work.iterdir()] == ["ChestXRay2017.zip"]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("chestxray2017", "ChestXRay2017.zip"),
        # Of 1.2 GB and 39 MB only the larger was named, and it only as what had been looked for.
        ("chestxray2017-224", "ChestXRay2017-224.zip, which suffices, or ChestXRay2017.zip"),
    ],
)
def test_without_mirror_and_network_the_ways_out_are_named(name, files, small_records, place, work):
    with pytest.raises(PipelineError) as error:
        receive(known(name), PHANTOMS, 1, place, work)
    message = str(error.value)
    for way in (f"a folder with {files} in PNEUMONIA_MIRROR", "fetch.source: own", "make demo"):
        assert way in message
    assert not place.exists()


def test_unexpected_counts_are_shown_beside_the_expected(
    mirror, small_archive, small_records, place, work, monkeypatch
):
    shutil.copy(small_archive, mirror / "ChestXRay2017.zip")
    record = sources.SOURCES["chestxray2017"]
    expected = SMALL_COUNTS | {("test", "viral"): 148}
    monkeypatch.setitem(sources.SOURCES, "chestxray2017", replace(record, counts=expected))
    with pytest.raises(PipelineError) as error:
        receive(known("chestxray2017"), PHANTOMS, 1, place, work)
    assert str(error.value) == (
        f"chestxray2017: expected {as_text(expected)}. Received: {as_text(SMALL_COUNTS)}"
    )
    assert not place.exists()


@pytest.mark.real
def test_the_real_copy_is_received_with_its_counts(tmp_path, real_archive):
    place = tmp_path / "radiographs.zip"
    receive(known("chestxray2017-224"), PHANTOMS, 1, place, tmp_path / "work")
    assert place.read_bytes() == real_archive.read_bytes()
    assert counts_of(list_radiographs(place)) == {
        ("train", "normal"): 1349,
        ("train", "bacterial"): 2538,
        ("train", "viral"): 1345,
        ("test", "normal"): 234,
        ("test", "bacterial"): 242,
        ("test", "viral"): 148,
    }


# --- phantoms


def test_phantoms_are_drawn_into_an_archive_of_the_same_bytes_each_time(place, work, tmp_path):
    receive(known("phantoms"), PHANTOMS, 1, place, work)
    receive(known("phantoms"), PHANTOMS, 1, tmp_path / "again.zip", work)
    assert place.read_bytes() == (tmp_path / "again.zip").read_bytes()
    members = sorted(radiograph.member for radiograph in list_radiographs(place))
    assert members == [member for member, _ in phantom_entries(PHANTOMS, 1)]
    assert list(work.iterdir()) == []


def test_another_seed_draws_other_phantoms(place, work, tmp_path):
    receive(known("phantoms"), PHANTOMS, 1, place, work)
    receive(known("phantoms"), PHANTOMS, 2, tmp_path / "other.zip", work)
    assert place.read_bytes() != (tmp_path / "other.zip").read_bytes()


# --- the user's own archive


@pytest.mark.parametrize("form", ["{path}", "file://{path}"])
def test_an_own_archive_is_copied_and_left_where_it_is(form, small_archive, place, work, key):
    params = own(small_archive).model_copy(update={"archive": form.format(path=small_archive)})
    receive(params, PHANTOMS, 1, place, work)
    assert place.read_bytes() == small_archive.read_bytes()
    assert small_archive.exists()
    assert list(work.iterdir()) == []


def test_an_own_archive_is_received_by_its_address(small_archive, place, work, key, server):
    here = server(small_archive.read_bytes())
    receive(
        own(small_archive).model_copy(update={"archive": here.address}), PHANTOMS, 1, place, work
    )
    assert place.read_bytes() == small_archive.read_bytes()
    assert len(here.requests) == 1


@pytest.mark.parametrize("path", ["/", "/..", "/a/../..", "/download?file=../../x"])
def test_an_address_cannot_choose_where_its_file_lies(
    path, small_archive, place, work, key, server
):
    here = server(small_archive.read_bytes())
    address = here.address.replace("/files/archive.zip", path)
    receive(own(small_archive).model_copy(update={"archive": address}), PHANTOMS, 1, place, work)
    assert place.read_bytes() == small_archive.read_bytes()
    assert list(work.iterdir()) == []


def test_own_films_need_the_key_before_anything_is_done(small_archive, place, work):
    with pytest.raises(PipelineError, match="PNEUMONIA_KEY"):
        receive(own(small_archive), PHANTOMS, 1, place, work)
    assert not place.exists()
    assert not work.exists()


def test_a_wrong_hash_of_an_own_archive_shows_the_right_one(small_archive, place, work, key):
    right = hashlib.sha256(small_archive.read_bytes()).hexdigest()
    with pytest.raises(PipelineError) as error:
        receive(own(small_archive, "0" * 64), PHANTOMS, 1, place, work)
    assert str(error.value) == f"{small_archive}: expected sha256 {'0' * 64}. Received: {right}"
    assert not place.exists()
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        ("nowhere/films.zip", "there is no such file"),
        ("s3://bucket/films.zip", "must be a path or an address that begins with file://"),
    ],
)
def test_an_own_archive_that_is_nowhere(archive, message, place, work, key):
    with pytest.raises(PipelineError, match=message):
        receive(own(archive, "0" * 64), PHANTOMS, 1, place, work)


def test_an_own_archive_without_a_class_is_refused(zipped, small_entries, place, work, key):
    path = zipped({m: data for m, data in small_entries.items() if "test/NORMAL" not in m})
    with pytest.raises(PipelineError, match=r"zipped\.zip: no image in test/NORMAL"):
        receive(own(path), PHANTOMS, 1, place, work)
    assert not place.exists()


def test_a_damaged_film_of_an_own_archive_is_named_now(
    tmp_path, small_archive, small_entries, place, work, key
):
    film = small_entries["chest_xray/train/NORMAL/IM-0115-0001.jpeg"]
    data = small_archive.read_bytes()
    path = tmp_path / "damaged.zip"
    path.write_bytes(data.replace(film[-40:], bytes(40)))
    assert path.read_bytes() != data
    with pytest.raises(PipelineError, match=r"IM-0115-0001\.jpeg' cannot be read"):
        receive(own(path), PHANTOMS, 1, place, work)
    assert not place.exists()


def test_a_full_disk_is_one_clear_line(small_archive, place, work, key, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(PipelineError, match=r"radiographs\.zip: No space left on device"):
        receive(own(small_archive), PHANTOMS, 1, place, work)
    assert not place.exists()


def test_a_failure_leaves_the_archive_that_was_there(small_archive, place, work, key):
    place.parent.mkdir(parents=True)
    place.write_bytes(b"the archive of an earlier run")
    with pytest.raises(PipelineError):
        receive(own(small_archive, "0" * 64), PHANTOMS, 1, place, work)
    assert place.read_bytes() == b"the archive of an earlier run"


def test_drawing_phantoms_is_seen_to_go_on(place, work, caplog, monkeypatch):
    monkeypatch.setattr("pneumonia.progress._EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "fetch"):
        receive(known("phantoms"), PHANTOMS, 1, place, work)
    n_films = len(list_radiographs(place))
    assert f"1 of {n_films} phantoms drawn" in caplog.messages


def test_reading_an_own_archive_is_seen_to_go_on(
    small_archive, place, work, key, caplog, monkeypatch
):
    monkeypatch.setattr("pneumonia.progress._EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "fetch"):
        receive(own(small_archive), PHANTOMS, 1, place, work)
    assert "7 of 8 films read" in caplog.messages
