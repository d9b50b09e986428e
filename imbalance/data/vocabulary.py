"""Vocabularies: words as classes, in the order of frequency."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

UNKNOWN = "<unk>"


@dataclass(frozen=True)
class Vocabulary:
    """Words and their classes; class 0 is ``<unk>``, for unknown words.

    Attributes:
      words: Word of each class.

    Raises:
      ValueError: If the first word is not ``<unk>``, or a word occurs twice.
    """

    words: tuple[str, ...]

    def __post_init__(self):
        if not self.words or self.words[0] != UNKNOWN:
            raise ValueError(f"a vocabulary begins with {self.words[:1]}; put {UNKNOWN!r} first.")
        if len(self.classes) < len(self.words):
            word, times = Counter(self.words).most_common(1)[0]
            raise ValueError(f"the vocabulary has {word!r} {times} times; give each word once.")

    @classmethod
    def from_counts(cls, counts: Mapping[str, int], max_size: int | None = None) -> "Vocabulary":
        """``<unk>``, then the words by decreasing count, ties in alphabetical order.

        Args:
          counts: Count of each word; that of ``<unk>`` is ignored.
          max_size: Number of classes to keep, including ``<unk>``; None: all words.

        Raises:
          ValueError: If ``max_size`` leaves no word.
        """
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_size is {max_size}; give 2 or more, {UNKNOWN} and one word.")
        words = (word for word in counts if word != UNKNOWN)
        ranked = sorted(words, key=lambda word: (-counts[word], word))
        return cls((UNKNOWN, *ranked)[:max_size])

    def __len__(self):
        return len(self.words)

    @cached_property
    def classes(self) -> dict[str, int]:
        """Class of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, words: Iterable[str]) -> np.ndarray:
        """Classes of the words, int32 ``[token]``; 0 for unknown words."""
        classes = self.classes
        return np.fromiter((classes.get(word, 0) for word in words), np.int32)

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """Words of the classes."""
        return [self.words[token] for token in tokens]
