"""Problems of language: every position of a text is an example, the token after it its class.

A `Corpus` is token streams with their vocabulary: `docstrings`, which needs no file and no network,
`text_folder` of one's own, or `synthetic`, whose lowest loss is known.
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
      name: in results and messages.
      settings: what defines the tokens, as JSON-able values.
      num_classes: size of the vocabulary; classes that do not occur are in no bucket.
      train: int32 ``[token]``.
      validation: int32 ``[token]``, or None.
    """

    name: str
    settings: Mapping[str, Any]
    num_classes: int
    train: np.ndarray
    validation: np.ndarray | None = None


def docstrings(max_tokens: int | None = None, tokenizer: Tokenizer | None = None) -> Corpus:
    """Docstrings of the running Python's standard library.

    The last tenth of the text is for validation.

    Args:
      max_tokens: of the training stream, from the beginning; the vocabulary is then that of these
        tokens, so that its tail stays as long as in any text of that length. None takes all.
      tokenizer: what cuts it into tokens; None is basic English words.
    """
    splits = split_text(standard_library_docstrings())
    tokenizer = Words() if tokenizer is None else tokenizer
    encoder = tokenizer.fit(pieces(splits.train))
    train, validation = (
        np.concatenate(list(encoder.encode(pieces(text)))) for text in splits[:2] if text
    )
    return _taken("docstrings", tokenizer, train, validation, len(encoder.strings), max_tokens)


def text_folder(
    path: str | PathLike,
    tokenizer: Tokenizer | None = None,
    max_tokens: int | None = None,
    cache: str | PathLike | None = None,
) -> Corpus:
    """A published corpus such as WikiText-2, from the folder of its files (section A.5).

    Args:
      path: the folder, with files as `imbalance.data.text.published_splits` knows them.
      tokenizer: what cuts it into tokens; None is words.
      max_tokens: as for `docstrings`.
      cache: where tokens are kept, as `imbalance.data.corpus.tokenize` has it.
    """
    tokenizer = Words() if tokenizer is None else tokenizer
    found = tokenize(published_splits(path), tokenizer, cache)
    name = Path(path).resolve().name
    return _taken(name, tokenizer, found.train, found.validation, found.num_classes, max_tokens)


def _taken(
    name: str,
    tokenizer: Tokenizer,
    train: np.ndarray,
    validation: np.ndarray,
    num_classes: int,
    max_tokens: int | None,
) -> Corpus:
    """The first tokens, their classes numbered anew; one more class is for all others."""
    if max_tokens is not None and max_tokens < len(train):
        train = np.asarray(train[:max_tokens])
        counts = np.bincount(train, minlength=num_classes)
        order = np.argsort(-counts, kind="stable")
        num_classes = int(np.count_nonzero(counts)) + 1
        number = np.empty(len(order), np.int32)
        number[order] = np.minimum(np.arange(len(order)), num_classes - 1)
        train, validation = number[train], number[validation[: max(2, max_tokens // 5)]]
    settings = {**tokenizer.settings(), "train_tokens": len(train), "digest": _digest(train)}
    return Corpus(name, settings, num_classes, train, validation)


def synthetic(counts: np.ndarray, predictability: float, length: int, seed: int = 0) -> Corpus:
    """A stream of exactly the law ``counts / n``, and a second one for validation.

    See `imbalance.data.tokens.SyntheticTokens`, which knows the lowest loss of every class.
    """
    law = SyntheticTokens(counts, predictability, seed)
    settings = {"predictability": predictability, "train_tokens": length, "seed": seed}
    streams = law.stream(length, seed), law.stream(max(2, length // 10), seed + 1)
    settings["digest"] = _digest(streams[0])
    return Corpus("synthetic", settings, len(law.counts), *streams)


def _digest(tokens: np.ndarray) -> str:
    """Tells streams apart whose settings agree, such as docstrings of two versions of Python."""
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

    Held-out positions whose token the training text does not have weigh nothing: no model could
    learn these.

    Args:
      corpus: the tokens; ``architecture.num_classes`` must be its number of classes.
      architecture: of the model.
      length: positions of a row.
      columns: cut the stream into so many long columns, and these into chunks of ``length``
        (A.5, PTB): rows are ordered by chunk, so that batches of so many rows taken in order are
        the paper's. The last chunk is filled up with positions of no weight. None cuts the stream
        into blocks one after the other (A.5, WikiText-103).
      chunk: as `imbalance.problems.tasks.next_token`.
      noisy_evaluation: as `imbalance.problems.tasks.next_token`.
      bucketing: the classes of each bucket.

    Raises:
      ValueError: if the number of classes differs, or the corpus is too short.
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
    """Figure 5: the last layer of a transformer whose other parts stay as they began (B.4).

    Features are made once for each seed, so this is a linear softmax model on them.

    Args:
      corpus: the tokens.
      width: features.
      length: positions of a row.
      columns: as for `next_token_problem`.
      bucketing: the classes of each bucket.
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
        # Rows by parts: attention over all of them at once would hold all scores.
        return jax.lax.map(lambda row: model(row[None])[0], tokens, batch_size=32)

    return features(key, jnp.asarray(tokens))
