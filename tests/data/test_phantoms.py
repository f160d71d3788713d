"""Phantoms: the study's table and names, the same bytes always, disease where it belongs."""

import io
import re
from collections import Counter, defaultdict
from itertools import combinations, pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

import pneumonia.data.phantoms as phantoms
from pneumonia.data.phantoms import PhantomParams, draw_phantom, phantom_entries, phantom_films
from pneumonia.errors import PipelineError
from pneumonia.store.params import as_section

SEED = 2017
GRAMMAR = re.compile(
    r"chest_xray/(?P<folder>train|test)/"
    r"(?:NORMAL/(?P<normal>(?:NORMAL2-)?IM-\d{4})-0001(?:-\d{4})?"
    r"|PNEUMONIA/(?P<ill>person\d+_(?P<kind>bacteria|virus))_\d+)\.jpeg"
)


@pytest.fixture(scope="module")
def films():
    return phantom_films(1.0, SEED)


@pytest.fixture(scope="module")
def some_entries():
    """About 350 phantoms, kind and JPEG: enough to see whether a number tells the kind."""
    params = PhantomParams(image_size=64, share=0.06)
    return [(kind_in(member), data) for member, data in phantom_entries(params, SEED)]


def kind_in(member):
    return {"bacteria": "bacterial", "virus": "viral", None: "normal"}[
        GRAMMAR.fullmatch(member)["kind"]
    ]


def patient_in(member):
    found = GRAMMAR.fullmatch(member)
    return found["normal"] or found["ill"]


def test_the_whole_share_is_the_studys_table(films):
    counts = Counter((film.member.split("/")[1], film.kind) for film in films)
    assert counts == {
        ("train", "normal"): 1349,
        ("train", "bacterial"): 2538,
        ("train", "viral"): 1345,
        ("test", "normal"): 234,
        ("test", "bacterial"): 242,
        ("test", "viral"): 148,
    }


@pytest.mark.parametrize(
    ("share", "counts"),
    [
        # 13.49, 25.38, 13.45; 2.34, 2.42, 1.48 rounds to 1, and 2 is the least
        (0.01, {"train": (13, 25, 13), "test": (2, 2, 2)}),
        # 134.9, 253.8, 134.5 (exactly half goes to the even 134); 23.4, 24.2, 14.8
        (0.1, {"train": (135, 254, 134), "test": (23, 24, 15)}),
        (1e-9, {"train": (2, 2, 2), "test": (2, 2, 2)}),
    ],
)
def test_a_smaller_share_scales_each_cell_to_at_least_two(share, counts):
    drawn = Counter((f.member.split("/")[1], f.kind) for f in phantom_films(share, SEED))
    for folder, (normal, bacterial, viral) in counts.items():
        assert drawn[folder, "normal"] == normal
        assert drawn[folder, "bacterial"] == bacterial
        assert drawn[folder, "viral"] == viral


def test_names_follow_the_studys_grammar_sorted_and_unique(films):
    members = [film.member for film in films]
    assert all(GRAMMAR.fullmatch(member) for member in members)
    assert all(kind_in(film.member) == film.kind for film in films)
    assert all(a < b for a, b in pairwise(members))


def test_a_name_and_a_patient_stand_for_each_other(films):
    by_name, by_patient = defaultdict(set), defaultdict(set)
    for film in films:
        by_name[patient_in(film.member)].add(film.patient)
        by_patient[film.patient].add(patient_in(film.member))
    assert all(len(patients) == 1 for patients in by_name.values())
    assert all(len(names) == 1 for names in by_patient.values())


def test_patients_have_one_image_mostly_and_some_ten_or_more(films):
    sizes = Counter(Counter(film.patient for film in films).values())
    n_patients = sum(sizes.values())
    assert sizes[1] + sizes[2] > 0.8 * n_patients
    assert sum(n for size, n in sizes.items() if size > 1) > 0.1 * n_patients
    assert max(sizes) >= 10


def test_the_same_number_stands_for_different_children(films):
    # As in the study: person23_bacteria is not person23_virus, IM-0115 is not NORMAL2-IM-0115.
    names = {patient_in(film.member) for film in films}
    assert any(name.replace("bacteria", "virus") in names for name in names if "bacteria" in name)
    assert any(f"NORMAL2-{name}" in names for name in names if name.startswith("IM-"))


@pytest.mark.parametrize("share", [0.004, 0.01, 0.033, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", [0, 1, SEED])
def test_no_patient_is_in_train_and_test_or_divided_by_the_papers_rule(share, seed):
    films = phantom_films(share, seed)
    parts = [{film.patient for film in films if "/test/" in film.member}]
    for class_name, n_validation in (("NORMAL", 134), ("PNEUMONIA", 388)):
        train = sorted(
            (film.member.rsplit("/", 1)[1], film.patient)
            for film in films
            if f"/train/{class_name}/" in film.member
        )
        first = int(0.1 * len(train))
        if share == 1.0:
            assert first == n_validation
        parts.append({patient for _, patient in train[:first]})
        parts.append({patient for _, patient in train[first:]})
    assert all(not one & other for one, other in combinations(parts, 2))


def test_the_papers_validation_part_has_both_kinds_of_pneumonia(films):
    pneumonia = sorted(f for f in films if "/train/PNEUMONIA/" in f.member)
    # 10 % of 2,538 and of 1,345 are 253.8 and 134.5: 254 and 134 make 388.
    assert Counter(f.kind for f in pneumonia[:388]) == {"bacterial": 254, "viral": 134}


def test_entries_are_greyscale_jpegs_of_the_size_asked_for_in_order():
    entries = list(phantom_entries(PhantomParams(image_size=48, share=0.001), SEED))
    assert [member for member, _ in entries] == [f.member for f in phantom_films(0.001, SEED)]
    for _, data in entries:
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.mode, image.size) == ("JPEG", "L", (48, 48))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    params = PhantomParams(image_size=32, share=0.001)
    first = dict(phantom_entries(params, SEED))
    assert dict(phantom_entries(params, SEED)) == first
    other = dict(phantom_entries(params, SEED + 1))
    assert not set(first.values()) & set(other.values())


def test_no_two_films_are_alike(some_entries):
    assert len({data for _, data in some_entries}) == len(some_entries)


def test_processes_and_order_do_not_change_a_byte(monkeypatch):
    params = PhantomParams(image_size=32, share=0.001)
    alone = [
        (film.member, phantoms.film_bytes(film, 32, SEED))
        for film in reversed(phantom_films(0.001, SEED))
    ]
    monkeypatch.setattr(phantoms, "_WORTH_A_POOL", 1)
    monkeypatch.setattr(phantoms, "_CHUNK", 2)  # several chunks, so that more than one is ahead
    monkeypatch.setattr(phantoms.os, "cpu_count", lambda: 2)
    assert list(phantom_entries(params, SEED)) == alone[::-1]


def test_a_reader_may_stop_early(monkeypatch):
    monkeypatch.setattr(phantoms, "_WORTH_A_POOL", 1)
    monkeypatch.setattr(phantoms.os, "cpu_count", lambda: 2)
    entries = phantom_entries(PhantomParams(image_size=32, share=0.05), SEED)
    assert next(entries)[0].startswith("chest_xray/test/NORMAL/")
    entries.close()


@pytest.fixture(scope="module")
def drawn_as():
    """Ten films, each drawn as every kind: the mean lungs and the three pictures, as floats."""
    films = []
    for patient in range(10):
        as_kind = {
            k: draw_phantom(k, 96, SEED, patient, 0) for k in ("normal", "bacterial", "viral")
        }
        lungs = as_kind["normal"].lungs
        films.append((lungs, {k: p.pixels.astype(float) for k, p in as_kind.items()}))
    return films


@pytest.mark.parametrize("kind", ["bacterial", "viral"])
def test_disease_brightens_the_lungs_and_leaves_the_rest(drawn_as, kind):
    for lungs, film in drawn_as:
        change = film[kind] - film["normal"]
        assert np.average(change, weights=lungs) > 2  # grey levels of 255
        # Away from the lungs and the heart before them nothing changes but by the blur.
        chest = gaussian_filter((lungs > 0).astype(float), 4) > 0.02
        columns = np.flatnonzero(chest.any(axis=0))
        outside = np.ones_like(chest)
        outside[:, columns[0] : columns[-1] + 1] = False
        rows = np.flatnonzero(chest.any(axis=1))
        outside[: rows[0]] = outside[rows[-1] + 1 :] = True
        assert np.abs(change[outside]).max() <= 1


def test_consolidation_is_in_one_lung_and_interstitial_disease_in_both(drawn_as):
    for lungs, film in drawn_as:
        middle = int(np.average(np.arange(96), weights=lungs.sum(axis=0)))
        share_of_weaker_side = {}
        for kind in ("bacterial", "viral"):
            change = np.abs(film[kind] - film["normal"]) * (lungs > 0.5)
            sides = change[:, : middle - 6].sum(), change[:, middle + 6 :].sum()
            share_of_weaker_side[kind] = min(sides) / sum(sides)
        assert share_of_weaker_side["bacterial"] < 0.05
        assert share_of_weaker_side["viral"] > 0.2


def test_interstitial_disease_is_finer_than_consolidation(drawn_as):
    def fineness(change, lungs):
        """Share of a change's energy in the lungs that is finer than 3 pixels."""
        fine = change - gaussian_filter(change, 3)
        return (lungs * fine**2).sum() / (lungs * change**2).sum()

    mean = {
        kind: np.mean([fineness(film[kind] - film["normal"], lungs) for lungs, film in drawn_as])
        for kind in ("bacterial", "viral")
    }
    assert mean["viral"] > 2 * mean["bacterial"]


def test_a_patients_films_differ_in_position_and_show_the_same_child():
    one, again, other = (
        draw_phantom("normal", 64, SEED, patient, image).lungs
        for patient, image in ((5, 0), (5, 1), (6, 0))
    )
    assert not np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", ["bacterial", "viral"])
@pytest.mark.parametrize("number", ["mean brightness", "contrast", "bytes"])
def test_no_single_number_tells_the_kind(some_entries, kind, number):
    def value(data):
        if number == "bytes":
            return len(data)
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        return pixels.mean() if number == "mean brightness" else pixels.std()

    chosen = [(k, data) for k, data in some_entries if k in ("normal", kind)]
    auc = roc_auc_score([k == kind for k, _ in chosen], [value(data) for _, data in chosen])
    assert 0.25 < auc < 0.75


@pytest.mark.parametrize(
    ("image_size", "share", "message"),
    [
        (31, 1.0, "image_size must be in [32, 1024]. Received: 31"),
        (1025, 1.0, "image_size must be in [32, 1024]. Received: 1025"),
        (128, 0.0, "share must be in (0, 1]. Received: 0.0"),
        (128, 1.01, "share must be in (0, 1]. Received: 1.01"),
        (128, float("nan"), "share must be a finite number. Received: nan"),
    ],
)
def test_parameters_out_of_range_are_refused(image_size, share, message):
    with pytest.raises(PipelineError, match=f"^{re.escape(f'phantoms.{message}')}$"):
        as_section({"image_size": image_size, "share": share}, "phantoms", PhantomParams)
