"""Every public name has an example in its docstring, which is run alone and prints what it says."""

import doctest
import importlib
from pathlib import Path

import jax
import pytest

import imbalance
from imbalance import analysis, ondevice, problems

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Not a function or class of their own; the reference has an example of the table.
TOLD_ELSEWHERE = {"__version__", "OPTIMIZERS", "problems"}
PUBLIC = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (imbalance, analysis, ondevice, problems)
    for name in package.__all__
    if name not in TOLD_ELSEWHERE
}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def examples():
    """Examples by where they stand; each is given nothing, so that it can be copied as it is."""
    found = {}
    for path in sorted((ROOT / "imbalance").rglob("*.py")):
        if ">>> " in path.read_text("utf-8"):
            for test in doctest.DocTestFinder().find(importlib.import_module(module_of(path))):
                found[test.name] = test
    for path in sorted((ROOT / "docs" / "site" / "reference").glob("*.rst")):
        text = path.read_text("utf-8")
        found[path.name] = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
    return {name: test for name, test in found.items() if test.examples}


EXAMPLES = examples()


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Nearly all the time goes into compiling; what is compiled runs for milliseconds."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, said = EXAMPLES[name], []
    test.globs = {}
    failed = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append).failed
    assert not failed, "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    what = PUBLIC[name]
    told = f"{what.__module__}.{what.__qualname__}"
    assert told in EXAMPLES, f"{told} has no Example in its docstring"
    assert len(EXAMPLES[told].examples) <= 12, "an example is short"
