"""Problems of language: rows in the paper's order, counts of targets, and training on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imbalance.data.folders import paper_data, real_data
from imbalance.data.tokenizing import BytePairs
from imbalance.data.zipf import power_law_counts
from imbalance.models.transformer import post_norm
from imbalance.problems import language
from imbalance.training.running import run
from imbalance.training.sweep import Sweep

COUNTS = power_law_counts(60, 11, 1.0)


@pytest.fixture(scope="module")
def corpus():
    return language.synthetic(COUNTS, 0.9, 203)


def tiny(corpus, **changes):
    return post_norm(corpus.num_classes, width=8, num_heads=2, num_layers=1, mlp_width=8, **changes)


def test_rows_of_columns_are_chunks_of_all_columns_in_turn(corpus):
    """203 tokens in 5 columns of 40; 39 targets make nine chunks of 4 and one of 3."""
    problem = language.next_token_problem(corpus, tiny(corpus), 4, columns=5)
    batch = problem.batch(0)
    assert batch.label.shape == batch.input.shape == batch.weight.shape == (50, 4)
    table = corpus.train[:200].reshape(5, 40)
    for step in range(10):
        rows = slice(5 * step, 5 * step + 5)
        seen = slice(4 * step, min(4 * step + 4, 39))
        width = seen.stop - seen.start
        np.testing.assert_array_equal(batch.input[rows, :width], table[:, seen])
        np.testing.assert_array_equal(batch.label[rows, :width], table[:, 1:][:, seen])
        assert batch.weight[rows, :width].all() and not batch.weight[rows, width:].any()
    np.testing.assert_array_equal(problem.counts, np.bincount(table[:, 1:].ravel(), minlength=11))


def test_blocks_follow_one_another(corpus):
    batch = language.next_token_problem(corpus, tiny(corpus), 10).batch(0)
    np.testing.assert_array_equal(batch.input.ravel(), corpus.train[:200])
    np.testing.assert_array_equal(batch.label.ravel(), corpus.train[1:201])
    assert batch.weight.all()


def test_a_pass_in_order_reports_every_bucket_and_validation_is_there(corpus):
    problem = language.next_token_problem(
        corpus, tiny(corpus, dropout=0.0, mlp_dropout=0.0), 4, columns=5, bucketing=3
    )
    sweep = Sweep(problem, {"sign": (1e-3,)}, 10, batch_size=5, in_order=True, stops=(0, 10))
    found = run(sweep).isel(optimizer=0, learning_rate=0, seed=0)
    np.testing.assert_allclose(found["loss"].sel(step=0), np.log(11), atol=0.2)
    mean = (found["bucket_loss"] * found["bucket_mass"]).sum("bucket")
    np.testing.assert_allclose(mean, found["loss"], rtol=1e-5)
    assert found["loss"].values[1] < found["loss"].values[0]
    held = problem.validation(0).label
    assert held.shape == (4, 4)
    counts = np.bincount(held.ravel(), minlength=11)
    np.testing.assert_array_equal(problem.validation_buckets.counts, counts)
    assert problem.validation_buckets.num_buckets == 3


def test_the_last_layer_learns_from_features_made_by_the_seed(corpus):
    problem = language.last_layer_problem(corpus, 6, 10)
    one, again, other = problem.batch(0), problem.batch(0), problem.batch(1)
    np.testing.assert_array_equal(one.input, again.input)
    assert np.abs(one.input - other.input).max() > 0.01
    params = problem.task.init(jax.random.key(0))
    head = problem.task.head(params, jax.tree.map(jnp.asarray, one))
    logits = head.features @ head.weight.T
    loss = jax.nn.logsumexp(logits, 1) - logits[np.arange(200), one.label.ravel()]
    found = problem.task.per_example(params, jax.tree.map(jnp.asarray, one), None)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-5)


def test_a_part_of_the_docstrings_has_the_vocabulary_of_that_part():
    corpus = language.docstrings(2_000)
    assert len(corpus.train) == 2_000 and len(corpus.validation) == 400
    counts = np.bincount(corpus.train, minlength=corpus.num_classes)
    assert counts[-1] == 0 and np.all(np.diff(counts) <= 0) and counts[-2] > 0
    assert np.mean(counts[:-1] == 1) > 0.3  # a tail
    assert (corpus.validation == corpus.num_classes - 1).mean() > 0.05  # words not seen in it
    assert corpus.settings == language.docstrings(2_000).settings
    shorter = language.docstrings(2_000, validation_tokens=100)
    np.testing.assert_array_equal(shorter.train, corpus.train)
    np.testing.assert_array_equal(shorter.validation, corpus.validation[:100])


def test_held_out_tokens_that_are_not_in_the_training_text_weigh_nothing():
    train, held = np.array([0, 1, 2, 1] * 6, np.int32), np.array([1, 2, 3, 1, 2], np.int32)
    corpus = language.Corpus("short", {}, 4, train, held)
    problem = language.next_token_problem(corpus, tiny(corpus), 4)
    np.testing.assert_array_equal(problem.validation(0).label, [[2, 3, 1, 2]])
    np.testing.assert_array_equal(problem.validation(0).weight, [[1, 0, 1, 1]])
    np.testing.assert_array_equal(problem.validation_buckets.counts, [0, 1, 2, 0])


@pytest.mark.slow
def test_docstrings_in_byte_pairs_have_no_unknown_token():
    corpus = language.docstrings(2_000, BytePairs(300))
    assert len(corpus.train) == 2_000 and corpus.settings["vocabulary_size"] == 300
    assert corpus.num_classes <= 301 and np.bincount(corpus.train).max() > 50


def test_a_folder_of_text_is_read(tmp_path):
    for name, text in (("train", "a b a c\n" * 30), ("valid", "a b d\n" * 9)):
        (tmp_path / f"{name}.txt").write_text(text)
    corpus = language.text_folder(tmp_path, cache=tmp_path / "cache")
    assert corpus.name == tmp_path.name
    np.testing.assert_array_equal(np.bincount(corpus.train), [0, 60, 30, 30])
    assert (corpus.validation == 0).sum() == 9  # d is unknown


def test_a_tiny_corpus_learns_the_validation_text_in_the_vocabulary_of_the_training_text(tmp_path):
    """As TinyPTB: the head has the classes of the whole text, and fewer of them occur."""
    for name, text in (("train", "a b a c a\n"), ("valid", "c b c\n"), ("test", "a d\n")):
        (tmp_path / f"ptb.{name}.txt").write_text(text * 10)
    whole, corpus = (
        read(tmp_path, cache=tmp_path / "cache")
        for read in (language.text_folder, language.tiny_folder)
    )
    assert corpus.num_classes == whole.num_classes == 4  # <unk>, a, b, c
    assert corpus.name == f"tiny {tmp_path.name}"
    np.testing.assert_array_equal(corpus.train, whole.validation)
    np.testing.assert_array_equal(np.bincount(corpus.train), [0, 0, 10, 20])
    np.testing.assert_array_equal(np.bincount(corpus.validation), [10, 10])
    (tmp_path / "ptb.test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="has no test text; give a folder with one"):
        language.tiny_folder(tmp_path)


def test_a_model_of_another_vocabulary_is_refused(corpus):
    with pytest.raises(ValueError, match="a model of 12 classes .* 'synthetic', which has 11"):
        language.next_token_problem(corpus, post_norm(12), 4)


def test_real_data_are_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    assert real_data("mnist") is None
    monkeypatch.setenv("IMBALANCE_DATA", str(tmp_path))
    assert real_data("mnist") is None
    (tmp_path / "mnist").mkdir()
    assert real_data("mnist") == tmp_path / "mnist"
    monkeypatch.setenv("IMBALANCE_DATA", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="nothing', which is not a folder"):
        real_data("mnist")


def test_what_the_papers_size_lacks_is_told_with_its_looks_and_its_source(tmp_path, monkeypatch):
    monkeypatch.delenv("IMBALANCE_DATA", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        paper_data("ptb")
    said = str(error.value)
    assert "needs ptb, and IMBALANCE_DATA is not set; set it to a folder with ptb/ in it" in said
    for words in ("ptb.train.txt, ptb.valid.txt and ptb.test.txt", "simple-examples", "data.md"):
        assert words in said
    monkeypatch.setenv("IMBALANCE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"needs wikitext-103, and {tmp_path} has no folde"):
        paper_data("wikitext-103")
    (tmp_path / "ptb").mkdir()
    assert paper_data("ptb") == tmp_path / "ptb"
