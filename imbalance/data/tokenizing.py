"""Tokenisers, from text to tokens: words, or subwords learned from the text.

Each has ``settings()``, which determine its tokens together with the text, and ``fit(pieces)``,
which learns a vocabulary from text and returns an encoder.
"""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tokenizers

from imbalance.data.text import basic_english
from imbalance.data.vocabulary import UNKNOWN, Vocabulary

# Number of pieces of text that the library encodes at once, on all cores.
_BATCH = 4
_NUM_BYTES = 256
_LONGEST_PIECE = 16  # characters, as in SentencePiece
_SPACE = "▁"
_UNKNOWN_WORD = tokenizers.AddedToken(UNKNOWN, lstrip=True)  # takes the space before it


class Encoder(Protocol):
    """Conversion of text into tokens with a given vocabulary."""

    @property
    def strings(self) -> Sequence[str]:
        """Spelling of each class, ``[class]``."""
        ...

    def encode(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """Tokens, int32 ``[token]``, one array after another."""
        ...


class Tokenizer(Protocol):
    """A tokeniser before it has seen any text."""

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens together with the text, as JSON values."""
        ...

    def fit(self, pieces: Iterable[str]) -> Encoder:
        """Learns the vocabulary from the training text."""
        ...


@dataclass(frozen=True)
class Words:
    """Words of `basic_english`; classes by decreasing frequency, ``<unk>`` first.

    Attributes:
      max_size: Size of the vocabulary; rarer words become ``<unk>``. None: all words are kept.
    """

    max_size: int | None = None

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens together with the text."""
        return {"tokenizer": "basic_english words", "max_size": self.max_size}

    def fit(self, pieces: Iterable[str]) -> "WordEncoder":
        """Learns the vocabulary.

        Raises:
          ValueError: As `Vocabulary.from_counts`.
        """
        counts = Counter()
        for piece in pieces:
            counts.update(basic_english(piece))
        return WordEncoder(Vocabulary.from_counts(counts, self.max_size))


@dataclass(frozen=True)
class WordEncoder:
    """Encodes words with a vocabulary."""

    vocabulary: Vocabulary

    @property
    def strings(self) -> Sequence[str]:
        """The words."""
        return self.vocabulary.words

    def encode(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """Tokens of each piece, int32 ``[token]``."""
        return (self.vocabulary.encode(basic_english(piece)) for piece in pieces)


@dataclass(frozen=True)
class BytePairs:
    """Byte-level byte pair encoding, trained on the text; it encodes any text.

    Attributes:
      vocabulary_size: Number of classes, including the 256 single bytes.
    """

    vocabulary_size: int

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens with the text, and the library's version."""
        return {
            "tokenizer": "byte-level BPE",
            "vocabulary_size": self.vocabulary_size,
            "tokenizers": tokenizers.__version__,
        }

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Trains the merges.

        Raises:
          ValueError: If the vocabulary is smaller than the bytes, or larger than the text allows.
        """
        if self.vocabulary_size < _NUM_BYTES:
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}; give at least {_NUM_BYTES}, the bytes."
            )
        trained = _byte_level(tokenizers.models.BPE())
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.vocabulary_size,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        trained.train_from_iterator(pieces, trainer)
        _check_size(trained, self.vocabulary_size)
        return SubwordEncoder(trained)


@dataclass(frozen=True)
class BytePairFiles:
    """Byte-level byte pair encoding from files, such as GPT-2's ``vocab.json`` and ``merges.txt``.

    Attributes:
      vocabulary: JSON file that maps tokens to classes.
      merges: Text file of pairs, one per line, in the order of merging.
    """

    vocabulary: Path
    merges: Path

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens together with the text: digests of the files."""
        digests = [
            hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for path in (self.vocabulary, self.merges)
        ]
        return {"tokenizer": "byte-level BPE", "files": digests}

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Loads the files; the text is not used.

        Raises:
          ValueError: If the files do not match, the classes are not 0, 1, ... without a gap, or a
            byte has no class, so that text would be lost.
        """
        del pieces
        try:
            classes, merges = tokenizers.models.BPE.read_file(
                str(self.vocabulary), str(self.merges)
            )
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(
                f"{self.vocabulary} and {self.merges} are not the vocabulary and the merges of a "
                f"byte pair encoding: {error}."
            ) from error
        if sorted(classes.values()) != list(range(len(classes))):
            raise ValueError(
                f"{self.vocabulary}: {len(classes)} tokens have classes {min(classes.values())} .. "
                f"{max(classes.values())}; they must be 0 .. {len(classes) - 1}, each once, as a "
                "model has an output for each."
            )
        lost = set(tokenizers.pre_tokenizers.ByteLevel.alphabet()) - classes.keys()
        if lost:
            raise ValueError(
                f"{self.vocabulary}: {len(lost)} of 256 bytes have no token, {min(lost)!r} for "
                "example; give a byte-level vocabulary."
            )
        try:
            model = tokenizers.models.BPE(classes, merges)
        except Exception as error:
            raise ValueError(
                f"{self.merges} does not fit {self.vocabulary}: {error}. Give files of one model."
            ) from error
        return SubwordEncoder(_byte_level(model))


@dataclass(frozen=True)
class Unigram:
    """Unigram language model of subwords, as in SentencePiece, trained on the text.

    The text is normalised (NFKC), and every run of white space becomes one space. Text without a
    subword is ``<unk>``, class 0. The library sums in a random order, so scores are rounded to 1e-5
    and ties broken alphabetically; characters that it cannot score share the lowest score.

    The library's initial subwords are strings that occur in several distinct words, each word
    counted once; SentencePiece counts every occurrence. A word that begins no other word is
    therefore never a single subword, however frequent: where punctuation stands apart, a comma
    becomes a space and a comma.

    Attributes:
      vocabulary_size: Number of classes, including ``<unk>``.
    """

    vocabulary_size: int

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens with the text, and the library's version."""
        return {
            "tokenizer": "unigram, scores to 1e-5",
            "vocabulary_size": self.vocabulary_size,
            "tokenizers": tokenizers.__version__,
        }

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Trains the subwords.

        Raises:
          ValueError: If the vocabulary is too small for the characters of the text, or larger than
            the text allows.
        """
        if self.vocabulary_size < 2:
            raise ValueError(f"vocabulary_size is {self.vocabulary_size}; give 2 or more.")
        trained = _with_spaces(tokenizers.models.Unigram())
        trainer = tokenizers.trainers.UnigramTrainer(
            vocab_size=self.vocabulary_size,
            special_tokens=[_UNKNOWN_WORD],
            unk_token=UNKNOWN,
            show_progress=False,
        )
        try:
            trained.train_from_iterator(pieces, trainer)
        except ValueError:
            raise  # raised by `pieces`
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}, which does not suit this text: "
                f"{error}. Give more, at least one for each distinct character."
            ) from error
        _check_size(trained, self.vocabulary_size)
        scores = json.loads(trained.to_str())["model"]["vocab"]
        trained.model = tokenizers.models.Unigram(_in_fixed_order(scores), unk_id=0)
        return SubwordEncoder(trained)


@dataclass(frozen=True)
class SentencePieces:
    """Byte pair encoding of characters in the manner of SentencePiece, trained on the text.

    This is how the paper cuts WikiText-103, in about 50,000 pieces. The text is normalised (NFKC),
    every run of white space becomes one space, a piece is part of one word with the space before
    it and has at most 16 characters, and characters beyond the coverage are ``<unk>``, class 0.

    The authors trained the library `sentencepiece` itself and then numbered the pieces that occur
    by frequency, with torchtext. Here the library is `tokenizers`. Pieces differ where pairs are
    equally frequent, and where SentencePiece does not join letters with digits or other scripts.
    A piece that only longer ones are made of keeps its class, though it may not occur any more: of
    20,000 on WikiText-2, 8 % do not, and are in no bucket. A literal ``<unk>``, which WikiText has
    for its rare words, is class 0 here and a piece of its own there. Classes are numbered in the
    order of merging, which changes nothing: at the start all classes are alike.

    The training text is held in memory while it is learnt from.

    Attributes:
      vocabulary_size: Number of classes, including ``<unk>``.
      coverage: Share of the training text's characters that have a class, from the most frequent
        one on; above 0, at most 1. SentencePiece's default is 0.9995.
    """

    vocabulary_size: int
    coverage: float = 0.9995

    def settings(self) -> Mapping[str, Any]:
        """Settings that determine the tokens with the text, and the library's version."""
        return {
            "tokenizer": "SentencePiece-style BPE",
            "vocabulary_size": self.vocabulary_size,
            "coverage": self.coverage,
            "tokenizers": tokenizers.__version__,
        }

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Trains the merges.

        Raises:
          ValueError: If the coverage is not in (0, 1], or the vocabulary is smaller than the
            characters or larger than the text allows.
        """
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage is {self.coverage}; give a share above 0, at most 1.")
        held = list(pieces)
        characters = _covering(held, self.coverage)
        if self.vocabulary_size <= len(characters):
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}; {len(characters)} characters make up "
                f"{self.coverage:.2%} of this text: give at least {len(characters) + 1}, or a "
                "smaller coverage."
            )
        trained = _with_spaces(tokenizers.models.BPE(unk_token=UNKNOWN, fuse_unk=True))
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=self.vocabulary_size,
            special_tokens=[_UNKNOWN_WORD],
            initial_alphabet=characters,
            limit_alphabet=len(characters),
            max_token_length=_LONGEST_PIECE,
            show_progress=False,
        )
        trained.train_from_iterator(held, trainer)
        _check_size(trained, self.vocabulary_size)
        return SubwordEncoder(trained)


class SubwordEncoder:
    """Encodes with a tokeniser of the library `tokenizers`, the attribute ``library``."""

    def __init__(self, library: Any):
        self.library = library

    @property
    def strings(self) -> Sequence[str]:
        """The library's spelling of each class; ``Ġ`` (GPT-2) and ``▁`` (unigram) are spaces."""
        classes = self.library.get_vocab()
        return sorted(classes, key=classes.__getitem__)

    def encode(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """Tokens of a few pieces at a time, int32 ``[token]``."""
        batch: list[str] = []
        for piece in pieces:
            batch.append(piece)
            if len(batch) == _BATCH:
                yield self._encode(batch)
                batch = []
        if batch:
            yield self._encode(batch)

    def _encode(self, batch: list[str]) -> np.ndarray:
        encoded = self.library.encode_batch_fast(batch, add_special_tokens=False)
        return np.concatenate([np.array(part.ids, np.int32) for part in encoded])


def _byte_level(model: Any) -> Any:
    """A tokeniser that splits text as GPT-2's and then applies the model to bytes."""
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def _with_spaces(model: Any) -> Any:
    """A tokeniser that normalises text and hands the model words with the space before them."""
    tokenizer = tokenizers.Tokenizer(model)
    spaces = tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    tokenizer.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.NFKC(), spaces])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    return tokenizer


def _covering(pieces: Iterable[str], share: float) -> list[str]:
    """The most frequent characters that cover the share of a text, spaces as SentencePiece's."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        normal = " ".join(unicodedata.normalize("NFKC", piece).split())
        points = np.frombuffer(normal.encode("utf-32-le"), "<u4")
        found, times = np.unique(points, return_counts=True)
        counts.update(dict(zip(map(chr, found.tolist()), times.tolist(), strict=True)))
    counts[_SPACE] += counts.pop(" ", 0) + 1  # one before the first word
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    reached = np.cumsum([counts[character] for character in ranked]) >= share * counts.total()
    return ranked[: int(np.argmax(reached)) + 1]


def _check_size(trained: Any, wanted: int) -> None:
    size = trained.get_vocab_size()
    if size < wanted:
        raise ValueError(
            f"vocabulary_size is {wanted}, but this text gives {size} tokens; give at most {size}, "
            "or more text."
        )


def _in_fixed_order(scores: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Subwords and log-probabilities, independent of the library's random order of words.

    ``<unk>`` stays first. The others come by decreasing score, ties in alphabetical order.

    The library sums in its random order, so scores differ in their last digits, by up to 4e-11.
    They are rounded to 1e-5.
    """
    level = _with_one_floor(dict(scores[1:]))
    ranked = sorted((-round(score, 5), piece) for piece, score in level.items())
    return [(UNKNOWN, scores[0][1]), *((piece, -score) for score, piece in ranked)]


def _with_one_floor(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores in which all characters that the library could not score have the lowest score.

    The library gives them the lowest score of all pieces, plus 0, 1, 2, ... times 1e-4 in a random
    order. So they are the single characters that stand on these steps.
    """
    lowest = min(scores.values(), default=0.0)
    level, step = dict(scores), 0
    while found := [
        piece
        for piece, score in scores.items()
        if len(piece) == 1 and abs(score - lowest - 1e-4 * step) < 1e-9
    ]:
        level |= dict.fromkeys(found, lowest)
        step += 1
    return level
