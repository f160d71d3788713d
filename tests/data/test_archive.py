import struct
import zipfile
from collections import Counter

import pytest

from pneumonia.data import archive as archive_module
from pneumonia.data.archive import list_radiographs, open_archive, read_member, write_archive
from pneumonia.errors import PipelineError

MEMBER = "chest_xray/train/NORMAL/IM-0115-0001.jpeg"


def test_every_radiograph_is_listed_once_sorted_by_name(small_archive):
    names = [radiograph.name for radiograph in list_radiographs(small_archive)]
    assert names == [
        "test/NORMAL/IM-0001-0001.jpeg",
        "test/NORMAL/NORMAL2-IM-0007-0001.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
        "test/PNEUMONIA/person78_bacteria_378.jpeg",
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
        "train/PNEUMONIA/person23_bacteria_91.jpeg",
        "train/PNEUMONIA/person23_virus_53.jpeg",
    ]


def test_other_files_in_the_archive_are_ignored(zipped, small_entries, small_archive):
    others = {
        "chest_xray/": b"",
        "chest_xray/train/NORMAL/": b"",
        "chest_xray/.DS_Store": b"x",
        "__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg": b"x",
        "README.txt": b"x",
        "/etc/passwd": b"x",
        "../../outside.jpeg": b"x",
    }
    assert list_radiographs(zipped(others | small_entries)) == list_radiographs(small_archive)


def test_a_tree_that_occurs_twice_is_listed_once_from_the_top(zipped, small_entries):
    # So Kaggle's archive is: chest_xray/… and chest_xray/chest_xray/…
    inner = {f"chest_xray/{member}": data for member, data in small_entries.items()}
    radiographs = list_radiographs(zipped(inner | small_entries))
    assert len(radiographs) == 8
    assert {radiograph.member for radiograph in radiographs} == set(small_entries)


def test_kaggles_val_folder_belongs_to_train(zipped, small_entries):
    moved = {
        member.replace("train/NORMAL/IM", "val/NORMAL/IM"): data
        for member, data in small_entries.items()
    }
    assert any("/val/" in member for member in moved)
    folders = Counter(radiograph.folder for radiograph in list_radiographs(zipped(moved)))
    assert folders == {"train": 4, "test": 4}


def test_two_different_images_with_one_name_are_refused(zipped, small_entries, jpeg):
    with pytest.raises(PipelineError, match="two different images have the name") as error:
        list_radiographs(zipped(small_entries | {f"copy/{MEMBER}": jpeg(255)}))
    assert MEMBER in str(error.value)
    assert f"copy/{MEMBER}" in str(error.value)


@pytest.mark.parametrize("folder", ["train", "test"])
@pytest.mark.parametrize("class_name", ["NORMAL", "PNEUMONIA"])
def test_a_missing_class_is_named_with_its_folder(zipped, small_entries, folder, class_name):
    rest = {m: data for m, data in small_entries.items() if f"{folder}/{class_name}/" not in m}
    assert len(rest) == 6
    with pytest.raises(PipelineError, match=f"no image in {folder}/{class_name}\\. Accepted"):
        list_radiographs(zipped(rest))


def test_an_image_without_a_patient_is_named_with_its_archive(zipped, small_entries):
    path = zipped(small_entries | {"chest_xray/train/NORMAL/image.jpeg": b"x"})
    with pytest.raises(PipelineError, match=r"zipped\.zip: .*image\.jpeg.* gives no patient"):
        list_radiographs(path)


def test_a_missing_archive_is_one_clear_error(tmp_path):
    with pytest.raises(PipelineError, match="no such archive"):
        list_radiographs(tmp_path / "none.zip")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", r"not a zip archive \(0 bytes"),
        (b"\x1f\x8b\x08 tar, perhaps", r"not a zip archive \(16 bytes"),
        (b"\n<!DOCTYPE html><html>Log in</html>", "an HTML page, not a zip archive"),
        (b"<HTML>", "an HTML page, not a zip archive"),
    ],
)
def test_the_error_says_what_a_file_is_if_not_an_archive(tmp_path, data, fault):
    path = tmp_path / "file.zip"
    path.write_bytes(data)
    with pytest.raises(PipelineError, match=fault):
        list_radiographs(path)


def test_a_folder_is_not_an_archive(tmp_path):
    with pytest.raises(PipelineError, match="not a file"):
        list_radiographs(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_archive_says_so(tmp_path, small_archive, share):
    data = small_archive.read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(PipelineError, match="truncated or damaged"):
        list_radiographs(path)


def test_an_encrypted_image_is_named(tmp_path, small_archive):
    data = bytearray(small_archive.read_bytes())
    # Bit 0 of the flags, 8 bytes into the first record of the central directory.
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path = tmp_path / "locked.zip"
    path.write_bytes(data)
    with pytest.raises(PipelineError, match=r"IM-0001-0001\.jpeg' is encrypted"):
        list_radiographs(path)


def with_declared_size(path, archive, n_bytes):
    """The archive, whose first image claims `n_bytes` in the central directory."""
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", n_bytes, n_bytes)  # compressed, uncompressed
    path.write_bytes(data)
    return path


def test_an_image_of_more_than_64_mib_is_refused_unread(tmp_path, small_archive):
    path = with_declared_size(tmp_path / "huge.zip", small_archive, 64 * 2**20 + 1)
    with pytest.raises(PipelineError, match=r"may hold 67108864 bytes\. Received: 67108865"):
        list_radiographs(path)
    # 64 MiB to the byte are accepted: the size is declared, and nothing is read for a list.
    assert list_radiographs(with_declared_size(path, small_archive, 64 * 2**20))


def test_an_image_that_unpacks_to_a_thousand_times_its_size_is_refused(zipped, small_entries):
    path = zipped(small_entries | {MEMBER: bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(PipelineError, match="unpack to 1000 times its size"):
        list_radiographs(path)


def test_more_bytes_in_all_than_any_study_has_are_refused(small_archive, monkeypatch):
    with open_archive(small_archive) as archive:
        total = sum(entry.file_size for entry in archive.infolist())
    monkeypatch.setattr(archive_module, "MAX_TOTAL_BYTES", total)
    assert list_radiographs(small_archive)
    monkeypatch.setattr(archive_module, "MAX_TOTAL_BYTES", total - 1)
    with pytest.raises(PipelineError, match=f"Received: {total}"):
        list_radiographs(small_archive)


def test_more_entries_than_any_study_has_are_refused(small_archive, monkeypatch):
    monkeypatch.setattr(archive_module, "MAX_ENTRIES", 7)
    with pytest.raises(PipelineError, match=r"may hold 7 entries\. Received: 8"):
        list_radiographs(small_archive)


@pytest.mark.parametrize(
    "compression",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_an_entry_is_read_as_it_was_written(zipped, small_entries, compression):
    with open_archive(zipped(small_entries, compression)) as archive:
        assert {member: read_member(archive, member) for member in small_entries} == small_entries


@pytest.mark.parametrize(
    "compression",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_a_damaged_entry_is_named(tmp_path, zipped, small_entries, compression):
    path = zipped(small_entries, compression)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(MEMBER)
    data = bytearray(path.read_bytes())
    middle = entry.header_offset + 30 + len(MEMBER) + entry.compress_size // 2
    data[middle : middle + 4] = bytes(255 - byte for byte in data[middle : middle + 4])
    path.write_bytes(data)
    with (
        open_archive(path) as archive,
        pytest.raises(PipelineError, match=r"IM-0115-0001\.jpeg' cannot be read"),
    ):
        read_member(archive, MEMBER)


def test_an_entry_that_holds_more_than_it_declares_is_damaged(tmp_path, small_archive):
    with (
        open_archive(with_declared_size(tmp_path / "short.zip", small_archive, 100)) as archive,
        pytest.raises(PipelineError, match="Bad CRC-32"),
    ):
        read_member(archive, archive.namelist()[0])


def test_a_missing_entry_is_named(small_archive):
    with (
        open_archive(small_archive) as archive,
        pytest.raises(PipelineError, match=r"entry 'none\.jpeg' cannot be read"),
    ):
        read_member(archive, "none.jpeg")


def test_entries_are_written_stored_dated_1980_and_made_on_unix(tmp_path):
    path = tmp_path / "written.zip"
    write_archive(path, [("a/1.jpeg", b"one"), ("a/2.jpeg", b"two")])
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a/1.jpeg", "a/2.jpeg"]
        assert archive.read("a/2.jpeg") == b"two"
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
            assert entry.create_system == 3
            assert entry.external_attr == 0o644 << 16
            assert entry.extra == b""


def test_the_same_entries_give_the_same_bytes(tmp_path):
    written = []
    for name in ("one.zip", "other.zip"):
        write_archive(tmp_path / name, [("a/1.jpeg", b"one"), ("a/2.jpeg", b"two")])
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


@pytest.mark.real
def test_the_study_has_the_counts_and_patients_that_are_documented(real_archive):
    radiographs = list_radiographs(real_archive)
    assert Counter((r.folder, r.kind) for r in radiographs) == {
        ("train", "normal"): 1349,
        ("train", "bacterial"): 2538,
        ("train", "viral"): 1345,
        ("test", "normal"): 234,
        ("test", "bacterial"): 242,
        ("test", "viral"): 148,
    }
    patients = {
        folder: {r.patient_id for r in radiographs if r.folder == folder}
        for folder in ("train", "test")
    }
    assert len(patients["test"]) == 428
    assert not patients["train"] & patients["test"]


@pytest.mark.real
def test_the_study_rewritten_entry_by_entry_has_its_own_bytes(real_archive, tmp_path):
    # So `write_archive` writes exactly the attributes behind the known sha256.
    with open_archive(real_archive) as archive:
        write_archive(
            tmp_path / "again.zip",
            ((member, read_member(archive, member)) for member in archive.namelist()),
        )
    assert (tmp_path / "again.zip").read_bytes() == real_archive.read_bytes()
