"""Language problems: every position of a text is an example, the token after it its class.

A `Corpus` holds token streams and their vocabulary: `docstrings` needs no file and no network,
`text_folder` and `tiny_folder` read your own text, and the lowest loss of `synthetic` is known.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from imbalance.analysis import class_counts
from imbalance.data import windows as cut
from imbalance.data.corpus import tokenize
from imbalance.data.text import (
    pieces,
    published_splits,
    split_text,
    standard_library_docstrings,
)
from imbalance.data.tokenizing import Tokenizer, Words
from imbalance.data.tokens import SyntheticTokens
from imbalance.models.last_layer import FrozenFeatures, LastLayer
from imbalance.models.transformer import Architecture, Transformer
from imbalance.problems.problem import Bucketing, Problem, shapes_of
from imbalance.problems.tasks import Batch, Task, next_token


@dataclass(frozen=True, eq=False)
class Corpus:
    """Streams of tokens.

    Attributes:
      name: Name in results and messages.
      settings: Settings that determine the tokens, as JSON values.
      num_classes: Size of the vocabulary; classes that do not occur are in no bucket.
      train: Training tokens, int32 ``[token]``.
      validation: Validation tokens, int32 ``[token]``, or None.
    """

    name: str
    settings: Mapping[str, Any]
    num_classes: int
    train: np.ndarray
    validation: np.ndarray | None = None


def docstrings(
    max_tokens: int | None = None,
    tokenizer: Tokenizer | None = None,
    validation_tokens: int | None = None,
) -> Corpus:
    """Docstrings of the running Python's standard library.

    The last tenth of the text is for validation.

    Args:
      max_tokens: Number of training tokens, from the beginning; the vocabulary is then that of
        these tokens, so that its tail is as long as in any text of that length. None: all.
      tokenizer: Tokeniser; None: basic English words.
      validation_tokens: Number of tokens for validation; None: a fifth of ``max_tokens``.
    """
    splits = split_text(standard_library_docstrings())
    tokenizer = Words() if tokenizer is None else tokenizer
    encoder = tokenizer.fit(pieces(splits.train))
    train, validation = (
        np.concatenate(list(encoder.encode(pieces(text)))) for text in splits[:2] if text
    )
    size = len(encoder.strings)
    return _taken("docstrings", tokenizer, train, validation, size, max_tokens, validation_tokens)


def text_folder(
    path: str | PathLike,
    tokenizer: Tokenizer | None = None,
    max_tokens: int | None = None,
    cache: str | PathLike | None = None,
    validation_tokens: int | None = None,
) -> Corpus:
    """A corpus from a folder of text files, such as a published one like WikiText-2.

    Args:
      path: Folder with the files of `imbalance.data.text.published_splits`.
      tokenizer: Tokeniser; None: basic English words.
      max_tokens: Number of training tokens, as in `docstrings`.
      cache: Folder of cached tokens, as in `imbalance.data.corpus.tokenize`.
      validation_tokens: Number of tokens for validation, as in `docstrings`.
    """
    tokenizer = Words() if tokenizer is None else tokenizer
    found = tokenize(published_splits(path), tokenizer, cache)
    name = Path(path).resolve().name
    tokens = found.train, found.validation
    return _taken(name, tokenizer, *tokens, found.num_classes, max_tokens, validation_tokens)


def tiny_folder(
    path: str | PathLike, tokenizer: Tokenizer | None = None, cache: str | PathLike | None = None
) -> Corpus:
    """A small corpus from a folder of text files: the paper's TinyPTB, where the folder is PTB's.

    The validation text is learnt and the test text is for validation, in the vocabulary of the
    training text. So the last layer has as many classes as that of the whole corpus, and fewer of
    them occur.

    Args:
      path: Folder with the files of `imbalance.data.text.published_splits`, the test file too.
      tokenizer: Tokeniser; None: basic English words.
      cache: Folder of cached tokens, as in `imbalance.data.corpus.tokenize`.

    Raises:
      FileNotFoundError: If there is no test file.
    """
    splits = published_splits(path)
    if splits.test is None:
        raise FileNotFoundError(
            f"{path} has no test text; give a folder with one, such as the whole of PTB."
        )
    tokenizer = Words() if tokenizer is None else tokenizer
    found = tokenize(splits, tokenizer, cache)
    assert found.test is not None
    name = f"tiny {Path(path).resolve().name}"
    tokens = found.validation, found.test
    return _taken(name, tokenizer, *tokens, found.num_classes, None, None)


def _taken(
    name: str,
    tokenizer: Tokenizer,
    train: np.ndarray,
    validation: np.ndarray,
    num_classes: int,
    max_tokens: int | None,
    validation_tokens: int | None,
) -> Corpus:
    """The first tokens, with classes renumbered and one more class for all other tokens."""
    if validation_tokens is None and max_tokens is not None and max_tokens < len(train):
        validation_tokens = max(2, max_tokens // 5)
    validation = validation[:validation_tokens]
    if max_tokens is not None and max_tokens < len(train):
        train = np.asarray(train[:max_tokens])
        counts = np.bincount(train, minlength=num_classes)
        order = np.argsort(-counts, kind="stable")
        num_classes = int(np.count_nonzero(counts)) + 1
        number = np.empty(len(order), np.int32)
        number[order] = np.minimum(np.arange(len(order)), num_classes - 1)
        train, validation = number[train], number[validation]
    settings = {**tokenizer.settings(), "train_tokens": len(train), "digest": _digest(train)}
    return Corpus(name, settings, num_classes, train, validation)


def synthetic(
    counts: np.ndarray,
    predictability: float,
    length: int,
    seed: int = 0,
    validation_tokens: int | None = None,
) -> Corpus:
    """A stream with exactly the law ``counts / n``, and a second one for validation.

    The second has a tenth of the length, unless its own is given.

    `imbalance.data.tokens.SyntheticTokens` gives the lowest possible loss of every class.
    """
    law = SyntheticTokens(counts, predictability, seed)
    settings = {"predictability": predictability, "train_tokens": length, "seed": seed}
    held_out = max(2, length // 10) if validation_tokens is None else validation_tokens
    streams = law.stream(length, seed), law.stream(held_out, seed + 1)
    settings["digest"] = _digest(streams[0])
    return Corpus("synthetic", settings, len(law.counts), *streams)


def _digest(tokens: np.ndarray) -> str:
    """Distinguishes streams of equal settings, such as docstrings of two versions of Python."""
    return hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()[:16]


def next_token_problem(
    corpus: Corpus,
    architecture: Architecture,
    length: int,
    *,
    columns: int | None = None,
    chunk: int | None = None,
    noisy_evaluation: bool = False,
    bucketing: Bucketing = 10,
) -> Problem:
    """A transformer that learns the next token of a corpus.

    Validation positions whose target does not occur in the training text have weight 0, as no model
    could learn them.

    Args:
      corpus: Token streams; ``architecture.num_classes`` must be its number of classes.
      architecture: Architecture of the model.
      length: Number of positions of a row.
      columns: Number of long columns into which the stream is cut, each then into chunks of
        ``length``, as in the paper's runs on PTB. Rows are ordered by chunk, so that batches of
        ``columns`` rows in order are the paper's. The last chunk is padded with positions of weight
        0. None: consecutive blocks, as in the paper's runs on WikiText-103.
      chunk: Largest number of examples with logits in memory, as in
        `imbalance.problems.tasks.next_token`.
      noisy_evaluation: Whether to evaluate with dropout, as in
        `imbalance.problems.tasks.next_token`.
      bucketing: Buckets of the classes, see `Bucketing`.

    Raises:
      ValueError: If the number of classes differs, or the corpus is too short.
    """
    if architecture.num_classes != corpus.num_classes:
        raise ValueError(
            f"a model of {architecture.num_classes} classes cannot learn {corpus.name!r}, which "
            f"has {corpus.num_classes}; give it num_classes={corpus.num_classes}."
        )
    task = next_token(
        partial(Transformer, architecture), chunk=chunk, noisy_evaluation=noisy_evaluation
    )
    rows = _rows(corpus.train, length, columns)
    held = None
    if corpus.validation is not None:
        held = _rows(corpus.validation, length, None)
        learnt = class_counts(rows.label[rows.weight > 0], corpus.num_classes) > 0
        held = held._replace(weight=np.where(learnt[held.label], held.weight, 0))
    return _problem(
        "next_token",
        corpus,
        {"length": length, "columns": columns, "architecture": str(architecture)}
        | ({"noisy_evaluation": True} if noisy_evaluation else {}),
        task,
        lambda seed: rows,
        rows,
        architecture.flops(*rows.label.shape),
        bucketing,
        held,
    )


def last_layer_problem(
    corpus: Corpus,
    width: int,
    length: int,
    *,
    columns: int | None = None,
    bucketing: Bucketing = 10,
) -> Problem:
    """The last layer of a transformer whose other layers stay as initialised (Figure 5).

    Features are computed once for each seed, so this is a linear softmax model on them.

    Args:
      corpus: Token streams.
      width: Number of features.
      length: Number of positions of a row.
      columns: Number of long columns, as in `next_token_problem`.
      bucketing: Buckets of the classes, see `Bucketing`.
    """
    tokens = _rows(corpus.train, length, columns)

    def make_batch(seed: int) -> Batch:
        features = _frozen_features(corpus.num_classes, width, jax.random.key(seed), tokens.input)
        return tokens._replace(input=np.asarray(features))

    inputs = jax.ShapeDtypeStruct((*tokens.input.shape, width), jnp.float32)
    examples = tokens.label.size
    return _problem(
        "last_layer",
        corpus,
        {"length": length, "columns": columns, "width": width},
        next_token(partial(LastLayer, width, corpus.num_classes)),
        make_batch,
        tokens._replace(input=inputs),
        4.0 * examples * width * corpus.num_classes,
        bucketing,
        None,
    )


def _problem(
    name: str,
    corpus: Corpus,
    settings: Mapping[str, Any],
    task: Task,
    make_batch: Callable[[int], Batch],
    like: Batch,
    flops: float,
    bucketing: Bucketing,
    validation: Batch | None,
) -> Problem:
    return Problem(
        name=name,
        task=task,
        counts=class_counts(like.label[like.weight > 0], corpus.num_classes),
        make_batch=make_batch,
        shapes=shapes_of(like),
        data_by_seed=name == "last_layer",
        flops_per_step=flops,
        bucketing=bucketing,
        make_validation=None if validation is None else lambda seed: validation,
        settings={"corpus": {"name": corpus.name, **corpus.settings}, **settings},
    )


def _rows(tokens: np.ndarray, length: int, columns: int | None) -> Batch:
    """Inputs, labels and weights ``[row, position]`` of a stream."""
    if columns is None:
        inputs, targets = cut.windows(tokens, length)
        weight = np.ones(targets.shape, np.float32)
    else:
        long = cut.columns(tokens, columns)
        padding = -long.targets.shape[1] % length
        inputs, targets, weight = (
            np.pad(array, ((0, 0), (0, padding)))
            .reshape(columns, -1, length)
            .swapaxes(0, 1)
            .reshape(-1, length)
            for array in (*long, np.ones(long.targets.shape, np.float32))
        )
    return Batch(np.ascontiguousarray(inputs, np.int32), targets.astype(np.int32), weight)


def _frozen_features(num_classes: int, width: int, key: jax.Array, tokens: np.ndarray):
    @jax.jit
    def features(key, tokens):
        model = FrozenFeatures(num_classes, width, rngs=nnx.Rngs(key))
        # A few rows at a time: attention over all rows would hold all scores in memory.
        return jax.lax.map(lambda row: model(row[None])[0], tokens, batch_size=32)

    return features(key, jnp.asarray(tokens))
