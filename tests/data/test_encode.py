"""Documents to ids: cutting, grouping, threads (encode.py, spool.py)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyllmc.data import encode as encode_module
from pyllmc.data.encode import Piece, cut_document, cut_position, encode
from pyllmc.data.spool import TokenSpool
from pyllmc.data.tokenizers import load_tokenizer

TOKENIZER = load_tokenizer("ministories")
EOT = TOKENIZER.eot


def ids(pieces):
    return np.concatenate(list(encode(TOKENIZER, pieces))).tolist()


def whole(*documents):
    return [i for text in documents for i in [EOT, *TOKENIZER.encoding.encode_ordinary(text)]]


# Signs on which GPT-2's pattern, Unicode's white space and Python's differ, and plain ones.
SIGNS = st.sampled_from(list("ab'sdl1.!  \n\n\t\r\x1c\x1f\x85\xa0\u2003\u3000é漢🙂"))


@settings(max_examples=300, deadline=None)
@given(st.lists(SIGNS, min_size=4, max_size=40).map("".join), st.integers(1, 30))
def test_a_cut_between_a_sign_and_white_space_changes_no_id(text, limit):
    cut = cut_position(text, min(limit, len(text) - 1))
    assert 1 <= cut <= limit
    if cut < min(limit, len(text) - 1):
        plain = TOKENIZER.encoding.encode_ordinary
        assert plain(text[:cut]) + plain(text[cut:]) == plain(text)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("one two three", 7),
        ("one\n\n\n two!", 3),
        ("abcdefghijkl", 8),
        ("          ab", 8),
        ("x\x1c         ", 8),
        ("ab\x1f c \x1fdefg", 5),
    ],
    ids=["blank", "run of blanks", "no blank", "only blanks", "python's blank", "after it"],
)
def test_where_a_text_is_cut(text, cut):
    assert cut_position(text, 8) == cut


def test_pieces_are_short_and_make_up_the_document(monkeypatch):
    monkeypatch.setattr(encode_module, "MAX_PIECE", 10)
    text = "once upon a time therewasaverylongword in it"
    pieces = list(cut_document(text))
    assert "".join(piece.text for piece in pieces) == text
    assert max(len(piece.text) for piece in pieces) <= 10
    assert [piece.starts_document for piece in pieces] == [True] + [False] * (len(pieces) - 1)


def test_end_of_text_stands_before_each_document():
    assert ids([Piece("one two", True), Piece("three", True)]) == whole("one two", "three")


def test_a_document_in_pieces_has_the_ids_of_the_whole(monkeypatch):
    monkeypatch.setattr(encode_module, "MAX_PIECE", 40)
    monkeypatch.setattr(encode_module, "_GROUP", 100)
    text = "Once upon a time there was a fox.\n\n It's 12 o'clock!  " * 20
    assert ids(cut_document(text)) == whole(text)


def test_order_is_kept_over_many_groups(monkeypatch):
    monkeypatch.setattr(encode_module, "_GROUP", 20)
    texts = [f"story {i} about {'a ' * (i % 7)}fox" for i in range(300)]
    assert ids(Piece(text, True) for text in texts) == whole(*texts)


def test_only_a_few_groups_are_drawn_ahead(monkeypatch):
    monkeypatch.setattr(encode_module, "_GROUP", 1)
    drawn = []

    def pieces():
        for i in range(1000):
            drawn.append(i)
            yield Piece("fox", True)

    results = encode(TOKENIZER, pieces())
    next(results)
    assert len(drawn) < 200
    results.close()


def test_text_that_spells_end_of_text_stays_text():
    text = "a <|endoftext|> b"
    encoded = ids([Piece(text, True), Piece("c", True)])
    assert encoded.count(EOT) == 2
    assert encoded == whole(text, "c")


def test_half_a_surrogate_pair_does_not_stop_the_rest():
    encoded = ids([Piece("a \ud83d b", True), Piece("c", True)])
    assert encoded == whole("a \ufffd b", "c")


def test_a_spool_gives_back_any_range(tmp_path):
    with TokenSpool(tmp_path / "new") as spool:
        spool.append(np.arange(10, dtype=np.uint16))
        spool.append(np.arange(10, 30, dtype=np.uint16))
        assert np.concatenate(list(spool.read(8, 13))).tolist() == [8, 9, 10, 11, 12]
        assert np.concatenate(list(spool.read(0, 30))).tolist() == list(range(30))
        assert list(spool.read(5, 5)) == []
        assert list((tmp_path / "new").iterdir()) == []
