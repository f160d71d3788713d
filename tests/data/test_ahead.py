"""Work on all cores: results in order, a few ahead, and an end at the first error."""

import itertools

import pytest

from pneumonia.data.ahead import ahead


def test_results_come_in_the_order_of_the_items():
    assert list(ahead(pow, [(i, 2) for i in range(100)])) == [i * i for i in range(100)]


def test_only_a_few_items_are_taken_ahead_of_the_reader(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    taken = []
    results = ahead(pow, ((taken.append(i) or i, 2) for i in itertools.count()))
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) == 2 + 2 * 3
    results.close()  # or the count would go on for ever


def test_an_error_takes_its_items_place_and_nothing_follows():
    results = ahead(divmod, [(1, 1), (1, 0), (1, 1)])
    assert next(results) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
