"""Tokenisers: from text to tokens, by words or by pieces of words that the text itself suggests.

Each has ``settings()``, all that decides its tokens besides the text, and ``fit(pieces)``, which
learns a vocabulary from text and gives back what encodes any text with it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from imbalance.data.text import basic_english
from imbalance.data.vocabulary import UNKNOWN, Vocabulary

# Pieces of text that the library encodes at once, on all cores.
_BATCH = 4
_NUM_BYTES = 256


class Encoder(Protocol):
    """What turns text into tokens."""

    @property
    def strings(self) -> Sequence[str]:
        """How each class is written, ``[class]``."""
        ...

    def encode(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """Tokens, int32 ``[token]``, one array after another."""
        ...


class Tokenizer(Protocol):
    """How text becomes tokens, before it has seen any."""

    def settings(self) -> Mapping[str, Any]:
        """All that decides the tokens besides the text, as JSON-able values."""
        ...

    def fit(self, pieces: Iterable[str]) -> Encoder:
        """Learns the vocabulary from the training text."""
        ...


@dataclass(frozen=True)
class Words:
    """Words of `basic_english`, classes by falling frequency, ``<unk>`` first (section A.5).

    Attributes:
      max_size: of the vocabulary; rarer words become ``<unk>``. None: all words are kept.
    """

    max_size: int | None = None

    def settings(self) -> Mapping[str, Any]:
        """All that decides the tokens besides the text."""
        return {"tokenizer": "basic_english words", "max_size": self.max_size}

    def fit(self, pieces: Iterable[str]) -> "WordEncoder":
        """Learns the vocabulary.

        Raises:
          ValueError: as `Vocabulary.from_counts`.
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
    """Byte-level byte pair encoding, trained on the text: no text is unknown to it.

    Attributes:
      vocabulary_size: classes; 256 of them are the single bytes.
    """

    vocabulary_size: int

    def settings(self) -> Mapping[str, Any]:
        """All that decides the tokens besides the text; loads the library for its version."""
        return {
            "tokenizer": "byte-level BPE",
            "vocabulary_size": self.vocabulary_size,
            "tokenizers": _library().__version__,
        }

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Trains the merges.

        Raises:
          ImportError: if the library `tokenizers` is not installed.
          ValueError: if the vocabulary is smaller than the bytes, or larger than the text allows.
        """
        if self.vocabulary_size < _NUM_BYTES:
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}; give at least {_NUM_BYTES}, the bytes."
            )
        library = _library()
        trained = _byte_level(library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=self.vocabulary_size,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        trained.train_from_iterator(pieces, trainer)
        _check_size(trained, self.vocabulary_size)
        return SubwordEncoder(trained)


@dataclass(frozen=True)
class BytePairFiles:
    """Byte-level byte pair encoding from its files: GPT-2's are ``vocab.json`` and ``merges.txt``.

    Attributes:
      vocabulary: JSON, from token to class.
      merges: text, one pair a line, the first merged first.
    """

    vocabulary: Path
    merges: Path

    def settings(self) -> Mapping[str, Any]:
        """All that decides the tokens besides the text: the contents of the files."""
        digests = [
            hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for path in (self.vocabulary, self.merges)
        ]
        return {"tokenizer": "byte-level BPE", "files": digests}

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Loads the files; the text teaches them nothing.

        Raises:
          ImportError: if the library `tokenizers` is not installed.
          ValueError: if the files do not go together, the classes are not 0, 1, ... without a gap,
            or a byte has none, so that text would vanish.
        """
        del pieces
        library = _library()
        try:
            classes, merges = library.models.BPE.read_file(str(self.vocabulary), str(self.merges))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(
                f"{self.vocabulary} and {self.merges} are not the vocabulary and the merges of a "
                f"byte pair encoding: {error}."
            ) from error
        if sorted(classes.values()) != list(range(len(classes))):
            raise ValueError(
                f"{self.vocabulary}: {len(classes)} tokens have classes {min(classes.values())} .. "
                f"{max(classes.values())}; they must be 0 .. {len(classes) - 1}, each once, for a "
                "model has an output for each."
            )
        lost = set(library.pre_tokenizers.ByteLevel.alphabet()) - classes.keys()
        if lost:
            raise ValueError(
                f"{self.vocabulary}: {len(lost)} of 256 bytes have no token, {min(lost)!r} for "
                "example; give a byte-level vocabulary."
            )
        try:
            model = library.models.BPE(classes, merges)
        except Exception as error:
            raise ValueError(
                f"{self.merges} does not fit {self.vocabulary}: {error}. Give files of one model."
            ) from error
        return SubwordEncoder(_byte_level(model))


@dataclass(frozen=True)
class Unigram:
    """Unigram language model of pieces of words, as SentencePiece has it, trained on the text.

    The text is normalised (NFKC), and every run of white space is one space. What has no piece is
    ``<unk>``, class 0. Ties that the library breaks at random are broken alphabetically.

    The library starts from what occurs in several different words, each counted once, where
    SentencePiece counts every occurrence. So a word that begins no other word is never one piece,
    however frequent: in text whose punctuation stands apart, a comma is a space and a comma.

    Attributes:
      vocabulary_size: classes, ``<unk>`` among them.
    """

    vocabulary_size: int

    def settings(self) -> Mapping[str, Any]:
        """All that decides the tokens besides the text; loads the library for its version."""
        return {
            "tokenizer": "unigram",
            "vocabulary_size": self.vocabulary_size,
            "tokenizers": _library().__version__,
        }

    def fit(self, pieces: Iterable[str]) -> "SubwordEncoder":
        """Trains the pieces.

        Raises:
          ImportError: if the library `tokenizers` is not installed.
          ValueError: if the vocabulary is smaller than the characters of the text need, or larger
            than the text allows.
        """
        if self.vocabulary_size < 2:
            raise ValueError(f"vocabulary_size is {self.vocabulary_size}; give 2 or more.")
        library = _library()
        trained = library.Tokenizer(library.models.Unigram())
        spaces = library.normalizers.Replace(library.Regex(r"\s+"), " ")
        trained.normalizer = library.normalizers.Sequence([library.normalizers.NFKC(), spaces])
        trained.pre_tokenizer = library.pre_tokenizers.Metaspace()
        trained.decoder = library.decoders.Metaspace()
        trainer = library.trainers.UnigramTrainer(
            vocab_size=self.vocabulary_size,
            special_tokens=[library.AddedToken(UNKNOWN, lstrip=True)],  # its space is no token
            unk_token=UNKNOWN,
            show_progress=False,
        )
        try:
            trained.train_from_iterator(pieces, trainer)
        except ValueError:
            raise  # of the text
        except Exception as error:  # the library raises nothing more special
            raise ValueError(
                f"vocabulary_size is {self.vocabulary_size}, which does not do for this text: "
                f"{error}. Give more, at least one for each of its different characters."
            ) from error
        _check_size(trained, self.vocabulary_size)
        scores = json.loads(trained.to_str())["model"]["vocab"]
        trained.model = library.models.Unigram(_in_fixed_order(scores), unk_id=0)
        return SubwordEncoder(trained)


class SubwordEncoder:
    """Encodes with a tokeniser of the library `tokenizers`, which is its attribute ``library``."""

    def __init__(self, library: Any):
        self.library = library

    @property
    def strings(self) -> Sequence[str]:
        """How the library writes each class; GPT-2's ``Ġ`` and SentencePiece's ``▁`` are spaces."""
        classes = self.library.get_vocab()
        return sorted(classes, key=classes.__getitem__)

    def encode(self, pieces: Iterable[str]) -> Iterator[np.ndarray]:
        """Tokens of some pieces at a time, int32 ``[token]``."""
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


def _library() -> Any:
    try:
        import tokenizers  # pyright: ignore[reportMissingImports]  # an extra
    except ImportError as error:
        raise ImportError(
            "byte pairs and unigrams need the library tokenizers; install it with pip install "
            "'imbalance[text]', or take Words(), which needs none."
        ) from error
    return tokenizers


def _byte_level(model: Any) -> Any:
    """A tokeniser that splits text as GPT-2's does and then applies the model to bytes."""
    library = _library()
    tokenizer = library.Tokenizer(model)
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    return tokenizer


def _check_size(trained: Any, wanted: int) -> None:
    size = trained.get_vocab_size()
    if size < wanted:
        raise ValueError(
            f"vocabulary_size is {wanted}, but this text gives {size} tokens; give at most {size}, "
            "or more text."
        )


def _in_fixed_order(scores: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Pieces and log-probabilities, the same for whatever order the library met the words in.

    ``<unk>`` stays first. The library sums in that order, so equal scores differ in their last
    digits; and it puts the characters without a score of their own below all others, each a little
    lower, in that order: these share one score.
    """
    floor = min((score for piece, score in scores[1:] if len(piece) > 1), default=-np.inf)
    level = [(piece, max(score, floor - 1e-4)) for piece, score in scores[1:]]
    level.sort(key=lambda pair: -pair[1])
    values = np.array([score for _, score in level])
    # The noise is 1e-10; scores that truly differ do so by 1e-7 or more, save by rare accident.
    group = np.cumsum(np.diff(values, prepend=values[:1]) < -1e-8)
    first = values[np.searchsorted(group, group)]
    pieces = [piece for piece, _ in level]
    ranked = sorted(zip(group.tolist(), pieces, first.tolist(), strict=True))
    return [(UNKNOWN, scores[0][1]), *((piece, round(score, 9)) for _, piece, score in ranked)]
