import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumonia.data.privacy import key_from_environment, pseudonym
from pneumonia.errors import PipelineError


def test_a_pseudonym_is_the_start_of_the_hmac_of_rfc_4231():
    # Test case 2 of RFC 4231 for HMAC-SHA-256; the first 8 of its 32 bytes.
    assert pseudonym(b"Jefe", "what do ya want for nothing?") == "5bdcc146bf60754e"


@given(st.binary(min_size=16, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_texts_share_a_pseudonym_when_they_are_the_same(key, one, other):
    assert (pseudonym(key, one) == pseudonym(key, other)) == (one == other)


def test_another_key_gives_another_pseudonym():
    assert pseudonym(b"a" * 16, "person23_virus") != pseudonym(b"b" * 16, "person23_virus")


def test_the_key_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("PNEUMONIA_KEY", "0123456789abcdef\n")
    assert key_from_environment() == b"0123456789abcdef"


@pytest.mark.parametrize("value", [None, "", "short", " " * 40])
def test_without_a_key_of_16_characters_the_error_says_how_to_make_one(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("PNEUMONIA_KEY", value)
    with pytest.raises(PipelineError, match=r"PNEUMONIA_KEY.*token_hex"):
        key_from_environment()
