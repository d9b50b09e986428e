import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance.data import corpus, text, tokenizing
from imbalance.data.corpus import default_folder, tokenize
from imbalance.data.text import (
    TextSplits,
    basic_english,
    pieces,
    published_splits,
    read_text,
    split_text,
    standard_library_docstrings,
    text_files,
)
from imbalance.data.tokenizing import BytePairFiles, BytePairs, SentencePieces, Unigram, Words
from imbalance.data.vocabulary import Vocabulary
from imbalance.data.windows import columns, windows

SENTENCE = 'The cat\'s hat, on the mat; (the "mat")! Is the cat<br />fat? A @-@ b: <unk> Ünï.'


def ranks_of(tokens: list[str]) -> np.ndarray:
    return np.array(sorted(Counter(tokens).values(), reverse=True))


def slope(counts: np.ndarray, first: int = 10, last: int = 1000) -> float:
    rank = np.arange(first, last + 1)
    return np.polyfit(np.log(rank), np.log(counts[first - 1 : last]), 1)[0]


# Measured on Python 3.11: 247,023 tokens, 29,184 types, 58.4 % once, slope -0.949; 3.13 has 5.5 %
# fewer tokens.
def test_the_docstrings_of_the_standard_library_are_heavy_tailed():
    found = standard_library_docstrings()
    words = ranks_of(found.split())
    assert words.sum() == pytest.approx(247_000, rel=0.1)
    assert len(words) == pytest.approx(29_000, rel=0.1)
    assert np.mean(words == 1) == pytest.approx(0.583, abs=0.02)
    assert slope(words) == pytest.approx(-0.95, abs=0.03)
    split = ranks_of(re.findall(r"\w+|[^\w\s]", found.lower()))
    assert split.sum() == pytest.approx(352_000, rel=0.1)
    assert len(split) == pytest.approx(11_400, rel=0.1)
    assert slope(split) == pytest.approx(-1.09, abs=0.03)
    tokens = ranks_of(basic_english(found))
    assert tokens.sum() == pytest.approx(319_000, rel=0.1)
    assert slope(tokens) == pytest.approx(-1.04, abs=0.03)


def test_docstrings_are_found_where_they_stand():
    source = '''"""Module."""
if True:
    def f():
        """First.

            Indented.
        """
        "no docstring"
else:
    class A:
        """Second."""
        async def g(self):
            "Third."
try:
    pass
except E:
    def h():
        """Fourth."""
finally:
    match 1:
        case 1:
            def i():
                """Fifth."""
f = "no docstring"
'''
    tree = text.ast.parse(source)
    assert list(text._docstrings(tree)) == [
        "Module.",
        "First.\n\nIndented.",
        "Second.",
        "Third.",
        "Fourth.",
        "Fifth.",
    ]


def test_a_library_without_sources_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(text.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="give a text of your own"):
        standard_library_docstrings.__wrapped__()


def test_basic_english_by_hand():
    assert basic_english(SENTENCE) == (
        "the cat ' s hat , on the mat ( the mat ) ! is the cat fat ? a @-@ b <unk> ünï .".split()
    )
    assert basic_english(' a"b  1.5\n\n') == ["ab", "1", ".", "5"]
    assert basic_english("") == []


@given(st.text("aB '\"’.,()!?;:<br />\n\t\u3000-", max_size=60))
def test_basic_english_splits_like_a_grammar_of_its_tokens(line):
    # Tokens as one expression, instead of the replacements that the rules are written as. A quote
    # vanishes wherever it is, so that the other rules see what it leaves.
    line = line.lower().replace('"', "")
    assert basic_english(line) == re.findall(
        r"['.,()!?]|(?:(?!<br />)[^\s'.,()!?;:])+", re.sub("<br />", " ", line)
    )


@given(st.text("ab \n\t\u3000é", max_size=80), st.integers(1, 12))
def test_pieces_join_to_the_text_and_keep_its_words(whole, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_PIECE", size)
        found = list(pieces(whole))
    assert "".join(found) == whole
    assert all(0 < len(piece) <= size for piece in found)
    if max(map(len, whole.split()), default=0) < size and not re.search(r"\s\s", whole):
        assert [word for piece in found for word in piece.split()] == whole.split()


def test_an_endless_line_comes_in_pieces(tmp_path):
    run = "x" * 10_000
    assert [len(piece) for piece in pieces(f"a {run} b")] == [2 + 4096, 4096, 10_000 - 8192 + 2]
    endless = "xyz" * 2**20
    found = list(pieces(endless))
    assert "".join(found) == endless and {len(piece) for piece in found} == {4096}
    path = tmp_path / "endless.txt"
    path.write_text(endless)
    assert list(pieces(text_files(path))) == found


def test_reads_a_file_and_a_folder_in_order(tmp_path):
    (tmp_path / "b.txt").write_bytes("\ufeffzwei Wörter\r\n".encode())
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.txt").write_text("one", "utf-8")
    (tmp_path / "a" / "notes.md").write_text("no", "utf-8")
    assert read_text(tmp_path / "b.txt") == "zwei Wörter\r\n"
    assert read_text(tmp_path) == "one\nzwei Wörter\r\n"
    assert read_text(tmp_path, "**/*.md") == read_text(tmp_path / "a" / "notes.md") == "no"
    assert "".join(pieces(text_files(tmp_path))) == read_text(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 2**20])
@pytest.mark.parametrize(
    ("data", "byte"),
    [
        (b"good \xff", 5),
        ("Grüße ".encode() + b"\xe9t\xe9", 8),
        ("🙂".encode() * 3 + b"\xf0\x9f", 12),
        (b"\xed\xa0\x80", 0),
        ("abc".encode("utf-16"), 0),
    ],
    ids=["byte", "latin-1", "cut off", "surrogate", "utf-16"],
)
def test_bytes_that_are_not_utf8_are_told_with_their_offset(
    tmp_path, monkeypatch, data, byte, size
):
    monkeypatch.setattr(text, "_PIECE", size)
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"bad\.txt: byte {byte} \(0x.*not UTF-8.*Convert"):
        read_text(path)


def test_missing_and_empty_text_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read_text(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="another pattern"):
        read_text(tmp_path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty\.txt: empty"):
        read_text(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("wiki.train.raw", "wiki.valid.raw", None),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("train.txt", "valid.txt", None),
    ],
)
def test_published_corpora_are_found_by_the_names_of_their_files(tmp_path, names):
    for name in filter(None, names):
        (tmp_path / name).write_text(name)
    splits = published_splits(tmp_path)
    assert [None if part is None else part.read() for part in splits] == list(names)
    (tmp_path / names[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"wiki\.train\.tokens.*train\.txt"):
        published_splits(tmp_path)


def test_split_text_cuts_where_a_word_ends():
    train, validation, test = split_text("one two three four", 0.4)
    assert (train, validation, test) == ("one two three", " four", None)
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_text("one two", bad)
    for short in ("", "endless", "one  "):
        with pytest.raises(ValueError, match="longer text"):
            split_text(short)


def test_a_vocabulary_is_ordered_by_frequency_then_alphabet():
    words = basic_english("b b b a a c c <unk> <unk> <unk> <unk> d")
    vocabulary = Vocabulary.from_counts(Counter(words))
    assert vocabulary.words == ("<unk>", "b", "a", "c", "d")
    assert vocabulary.encode(["c", "<unk>", "new", "b"]).tolist() == [3, 0, 0, 1]
    assert vocabulary.encode([]).dtype == np.int32
    assert vocabulary.decode([1, 0]) == ["b", "<unk>"]
    smaller = Vocabulary.from_counts(Counter(words), max_size=3)
    assert smaller.words == ("<unk>", "b", "a") and len(smaller) == 3
    assert smaller.encode(["c", "a"]).tolist() == [0, 2]
    with pytest.raises(ValueError, match="give 2 or more"):
        Vocabulary.from_counts(Counter(words), max_size=1)
    with pytest.raises(ValueError, match="put '<unk>' first"):
        Vocabulary(("a", "<unk>"))
    with pytest.raises(ValueError, match="'a' 2 times"):
        Vocabulary(("<unk>", "a", "a"))


@given(st.integers(2, 60), st.integers(1, 9))
def test_columns_are_the_batches_of_the_paper(length, num_columns):
    tokens = np.arange(length, dtype=np.int32)
    if length < 2 * num_columns:
        with pytest.raises(ValueError, match="at least two tokens a column"):
            columns(tokens, num_columns)
        return
    cut = tokens[: length // num_columns * num_columns]
    data = cut.reshape(num_columns, -1).T  # [time, column], as the released code has it
    inputs, targets = columns(tokens, num_columns)
    assert (inputs == data[:-1].T).all() and (targets == data[1:].T).all()
    assert np.shares_memory(inputs, tokens) and np.shares_memory(targets, tokens)


@given(st.integers(1, 60), st.integers(1, 9))
def test_windows_are_blocks_that_do_not_overlap(num_tokens, length):
    tokens = np.arange(num_tokens)
    if num_tokens <= length:
        with pytest.raises(ValueError, match="not one block"):
            windows(tokens, length)
        return
    found = windows(tokens, length)
    rows = [tokens[at : at + length + 1] for at in range(0, num_tokens - length, length)]
    assert found.inputs.tolist() == [row[:-1].tolist() for row in rows]
    assert found.targets.tolist() == [row[1:].tolist() for row in rows]
    assert np.shares_memory(found.inputs, tokens)
    counts = found.counts(num_tokens)
    assert counts.tolist() == [0] + [1] * found.targets.size + [0] * (
        num_tokens - 1 - found.targets.size
    )


def test_window_sizes_of_the_paper():
    # PTB 1,804 x 512 targets, WikiText-103 107,262 blocks of 1,024.
    stream = np.broadcast_to(np.int32(0), 109_837_000)  # takes no memory
    assert columns(stream[: 1805 * 512 + 100], 512).targets.size == 923_648
    assert windows(stream, 1024).targets.shape == (107_262, 1024)


def test_windows_refuse_what_is_no_stream():
    for cut in (columns, windows):
        with pytest.raises(TypeError, match="give integers"):
            cut(np.zeros(9), 2)
        with pytest.raises(ValueError, match="one stream"):
            cut(np.zeros((3, 3), int), 2)
        with pytest.raises(ValueError, match="give 1 or more"):
            cut(np.zeros(9, int), 0)
    with pytest.raises(ValueError, match=r"must be in 0 \.\. 2"):
        windows(np.arange(9), 2).counts(3)


class Spy:
    """Words, and how often their vocabulary was learned."""

    def __init__(self, max_size=None):
        self.words, self.fits = Words(max_size), 0

    def settings(self):
        return self.words.settings()

    def fit(self, some):
        self.fits += 1
        return self.words.fit(some)


def test_tokens_are_kept_and_read_as_memory(tmp_path):
    splits = TextSplits("a b a c . a", "a new c", "b")
    spy = Spy()
    first = tokenize(splits, spy, tmp_path)
    again = tokenize(splits, spy, tmp_path)
    assert spy.fits == 1
    for found in (first, again):
        assert isinstance(found.train, np.memmap) and found.train.dtype == np.int32
        assert found.train.tolist() == [1, 3, 1, 4, 2, 1]
        assert found.validation.tolist() == [1, 0, 4] and found.test.tolist() == [3]
        assert found.num_classes == 5 and found.strings == ("<unk>", "a", ".", "b", "c")
    # Anything that decides the tokens decides the place.
    for other in (splits._replace(train="a b a c . b"), splits._replace(test=None)):
        tokenize(other, spy, tmp_path)
    tokenize(splits, small := Spy(3), tmp_path)
    assert spy.fits == 3 and small.fits == 1
    assert len(list(tmp_path.iterdir())) == 4
    # The same text from a file is the same text.
    path = tmp_path / "train.txt"
    path.write_text(splits.train)
    tokenize(splits._replace(train=text_files(path)), spy, tmp_path)
    assert spy.fits == 3


@pytest.mark.parametrize("name", ["train.npy", "validation.npy", "strings.json", "checks.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_damaged_files_are_made_anew(tmp_path, name, damage):
    splits, spy = TextSplits("a b a c . a", "a new c"), Spy()
    tokenize(splits, spy, tmp_path)
    (place,) = tmp_path.iterdir()
    path = place / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes({"flip": data, "cut": data[:-3], "empty": b""}[damage])
    assert tokenize(splits, spy, tmp_path).train.tolist() == [1, 3, 1, 4, 2, 1]
    assert spy.fits == 2
    assert list(tmp_path.iterdir()) == [place]
    tokenize(splits, spy, tmp_path)
    assert spy.fits == 2


def test_who_comes_second_takes_what_is_there(tmp_path):
    splits = TextSplits("a b a", "a")

    class Slow(Spy):
        def fit(self, some):
            tokenize(splits, Words(), tmp_path)  # another process is faster
            return super().fit(some)

    assert tokenize(splits, Slow(), tmp_path).train.tolist() == [1, 2, 1]
    assert len(list(tmp_path.iterdir())) == 1


def test_long_text_is_written_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_PIECE", 10)
    words = [f"w{i % 7}" for i in range(1000)]
    found = tokenize(TextSplits(" ".join(words), "w1"), Words(), tmp_path)
    assert [found.strings[token] for token in found.train] == words


def test_text_without_tokens_is_told_and_leaves_nothing(tmp_path):
    (tmp_path / "empty.txt").touch()
    folder = tmp_path / "tokens"
    for splits, name in [
        (TextSplits("", "a"), "train"),
        (TextSplits("a", " \n"), "validation"),
        (TextSplits("a", "b", text_files(tmp_path / "empty.txt")), "test"),
    ]:
        with pytest.raises(ValueError, match=f"the {name} text has no token"):
            tokenize(splits, Words(), folder)
    assert list(folder.iterdir()) == []


def test_the_folder_is_the_callers_or_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("IMBALANCE_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    tokenize(TextSplits("a", "a"), Words())
    assert len(list((tmp_path / "own").iterdir())) == 1
    monkeypatch.delenv("IMBALANCE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "imbalance"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="set IMBALANCE_CACHE"):
        tokenize(TextSplits("a", "a"), Words(), tmp_path / "file")


@pytest.fixture(scope="module")
def sample():
    pytest.importorskip("tokenizers")
    return standard_library_docstrings()[:20_000] + " <unk> naïve 🙂"


@pytest.fixture(scope="module")
def trained(sample):
    return {t: [t.fit(pieces(sample)) for _ in range(2)] for t in TRAINED}


TRAINED = (BytePairs(400), Unigram(400), SentencePieces(400))


@pytest.mark.parametrize("tokenizer", TRAINED, ids=["BPE", "unigram", "SentencePiece"])
def test_subwords_are_the_same_every_time(sample, trained, tokenizer, monkeypatch):
    encoder, again = trained[tokenizer]
    assert encoder.library.to_str() == again.library.to_str()
    assert len(set(encoder.strings)) == len(encoder.strings) == 400
    tokens = np.concatenate(list(encoder.encode(pieces(sample))))
    assert tokens.dtype == np.int32 and 0 <= tokens.min() and tokens.max() < 400
    # Pieces give the tokens of the whole.
    monkeypatch.setattr(text, "_PIECE", 1000)
    parts = list(encoder.encode(pieces(sample)))
    assert len(parts) > 5
    assert (np.concatenate(parts) == tokens).all()


# Prints the digest of the unigram fitted to each of some random excerpts, or why there is none.
UNIGRAMS = """
import hashlib, sys
import numpy as np
from imbalance.data.text import pieces
from imbalance.data.tokenizing import Unigram

text, random = sys.stdin.read(), np.random.default_rng(0)
for _ in range(int(sys.argv[1])):
    size = int(random.integers(5_000, 40_000))
    at, number = int(random.integers(len(text) - size)), int(random.integers(150, 450))
    try:
        found = Unigram(number).fit(pieces(text[at : at + size])).library.to_str()
    except ValueError as error:
        found = str(error)
    print(hashlib.sha256(found.encode()).hexdigest())
"""


@pytest.mark.parametrize("number", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_unigrams_are_the_same_in_every_process(number):
    """The library visits words in an order that is random anew in every process."""
    pytest.importorskip("tokenizers")
    found = [
        subprocess.run(
            [sys.executable, "-c", UNIGRAMS, str(number)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            input=standard_library_docstrings(),
            encoding="utf-8",
            check=True,
            capture_output=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == number


def test_characters_without_a_score_share_the_lowest():
    """The library's: a piece that is the lowest, and above it characters in random order."""

    def scores(order):
        steps = [(character, -7.3 + 1e-4 * i) for i, character in enumerate(order)]
        known = [("a", -1.0), ("xy", -7.29985), ("word", -7.3), ("b", -7.29972)]
        known += [("c", -2.0 + 4e-11 * (order == "uvw"))]  # noise in the last digits
        return [["<unk>", 0.0], *map(list, known + steps)]

    found = tokenizing._in_fixed_order(scores("uvw"))
    assert found == tokenizing._in_fixed_order(scores("wuv"))
    assert found == [
        ("<unk>", 0.0),
        *[("a", -1.0), ("c", -2.0), ("b", -7.29972), ("xy", -7.29985)],
        *[(piece, -7.3) for piece in ("u", "v", "w", "word")],
    ]


def test_byte_pairs_give_the_text_back_also_from_files(sample, trained, tmp_path):
    encoder = trained[BytePairs(400)][0]
    (tokens,) = encoder.encode([sample])
    assert encoder.library.decode(tokens.tolist()) == sample
    vocabulary, merges = encoder.library.model.save(str(tmp_path))
    loaded = BytePairFiles(vocabulary, merges)
    (again,) = loaded.fit([]).encode([sample])
    assert (again == tokens).all()
    assert loaded.fit([]).strings == encoder.strings
    # The contents of the files are settings.
    before = loaded.settings()
    with open(merges, "a") as file:
        file.write("\n")
    assert loaded.settings() != before


def test_the_unigram_knows_words_and_what_it_does_not_know(trained):
    encoder = trained[Unigram(400)][0]
    assert encoder.strings[0] == "<unk>"
    (tokens,) = encoder.encode(["the\n\n  text <unk> 中"])
    assert (tokens == 0).sum() == 2
    assert encoder.library.decode([t for t in tokens.tolist() if t]).split() == ["the", "text"]


def merged_by_hand(words, characters, number):
    """The first pieces of a byte pair encoding: the most frequent pair, by the pieces' age if tied.

    A piece has at most 16 characters.
    """
    age = {piece: i for i, piece in enumerate(characters)}
    spelt = {word: list(word) for word in words}
    found = []
    while len(found) < number:
        pairs = Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(spelt[word]):
                if len("".join(pair)) <= 16:
                    pairs[pair] += times
        one, other = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        found.append(one + other)
        age[found[-1]] = len(age)
        for letters in spelt.values():
            i = 0
            while i < len(letters) - 1:
                if (letters[i], letters[i + 1]) == (one, other):
                    letters[i : i + 2] = [one + other]
                i += 1
    return found


def test_sentence_pieces_are_merged_by_frequency_within_words_and_the_space_before():
    text = standard_library_docstrings()[:5_000]
    words = Counter("▁" + word for word in text.split())
    characters = sorted(set("".join(words)))
    encoder = SentencePieces(len(characters) + 1 + 120, coverage=1.0).fit([text])
    assert list(encoder.strings[1 : 1 + len(characters)]) == characters
    by_hand = merged_by_hand(words, characters, 120)
    assert list(encoder.strings[1 + len(characters) :]) == by_hand
    assert {"▁the", "▁"} <= set(encoder.strings) and max(map(len, by_hand)) > 4


def test_sentence_pieces_know_the_characters_that_cover_the_text():
    """Of 2,000 characters, 1 in 2 a space, x occurs 3 times and y and z once each."""
    text = " ".join("a" * 995 + "xxxyz")
    for coverage, characters in ((0.997, "▁a"), (0.998, "▁ax"), (0.999, "▁ax"), (1.0, "▁axyz")):
        encoder = SentencePieces(2 * len(characters), coverage).fit([text])  # with ▁a, ▁x, ...
        assert set("".join(encoder.strings[1:])) == set(characters)


def test_sentence_pieces_normalise_and_leave_out_what_is_rare(sample, trained):
    encoder = trained[SentencePieces(400)][0]
    assert encoder.strings[0] == "<unk>"
    (tokens,) = encoder.encode(["the\n\n  text <unk> 中中 ﬁle"])
    assert (tokens == 0).sum() == 2  # the word itself, and two characters in a row as one
    kept = [token for token in tokens.tolist() if token]
    assert encoder.library.decode(kept).split() == ["the", "text", "file"]
    for split in sample.split("\n\n")[:3]:
        (tokens,) = encoder.encode([split])
        assert encoder.library.decode(tokens.tolist()).split() == split.split()


def test_sentence_pieces_that_do_not_fit_are_told(sample):
    with pytest.raises(ValueError, match=r"coverage is 0; give a share above 0, at most 1"):
        SentencePieces(400, 0).fit([sample])
    with pytest.raises(
        ValueError, match=r"is 20; \d+ characters make up 99.95% of this text: give"
    ):
        SentencePieces(20).fit([sample])
    with pytest.raises(ValueError, match="vocabulary_size is 9000, but this text gives"):
        SentencePieces(9000).fit(["a few words of text"])
    with pytest.raises(ValueError, match="vocabulary_size is 9000, but this text gives"):
        SentencePieces(9000).fit([""])
    assert SentencePieces(400).settings() != SentencePieces(400, 0.99).settings()


def test_subword_vocabularies_that_do_not_fit_are_told(sample, tmp_path):
    with pytest.raises(ValueError, match="at least 256, the bytes"):
        BytePairs(255).fit([sample])
    with pytest.raises(ValueError, match="vocabulary_size is 9000, but this text gives"):
        BytePairs(9000).fit(["a few words of text"])
    with pytest.raises(ValueError, match="vocabulary_size is 9000, but this text gives"):
        Unigram(9000).fit(["a few words of text"])
    with pytest.raises(ValueError, match="vocabulary_size is 5, which does not suit"):
        Unigram(5).fit([sample])

    encoder = BytePairs(300).fit([sample])
    vocabulary, merges = map(tmp_path.joinpath, ("vocab.json", "merges.txt"))
    encoder.library.model.save(str(tmp_path))
    classes = json.loads(vocabulary.read_text("utf-8"))

    def fit_with(**changed):
        vocabulary.write_text(json.dumps({**classes, **changed}), "utf-8")
        BytePairFiles(vocabulary, merges).fit([])

    with pytest.raises(ValueError, match=r"classes 0 \.\. 3000000000; they must be 0 \.\. 300"):
        fit_with(new=3_000_000_000)
    vocabulary.write_text('{"a": 0}')
    with pytest.raises(ValueError, match="255 of 256 bytes have no token"):
        BytePairFiles(vocabulary, merges).fit([])
    fit_with()
    merges.write_text("#version: 0.2\nno pair\n", "utf-8")
    with pytest.raises(ValueError, match="does not fit"):
        BytePairFiles(vocabulary, merges).fit([])
    vocabulary.write_text("not JSON")
    with pytest.raises(ValueError, match="are not the vocabulary and the merges"):
        BytePairFiles(vocabulary, merges).fit([])


def test_the_cache_tells_tokenisers_apart(sample, tmp_path):
    splits = split_text(sample)
    sizes = {
        tokenize(splits, tokenizer, tmp_path).num_classes
        for tokenizer in (Words(), BytePairs(300), BytePairs(310))
    }
    assert len(sizes) == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert corpus._read(next(tmp_path.iterdir())) is not None
