"""Settings of the site, for Sphinx.

Sphinx with MyST and furo: it is kept up, builds without a network and loads neither fonts nor
scripts from elsewhere, reads our Markdown as it is and Google docstrings, finds links and anchors
that lead nowhere, and has a search that needs no server.
"""

import jax
import numpy as np
from sphinx.util.typing import stringify_annotation

import imbalance

project = "imbalance"
author = "The imbalance authors"
project_copyright = author
version = release = imbalance.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_heading_anchors = 3

# Names in single backticks are links where the reference has them, and code elsewhere.
default_role = "py:obj"
# What is not in the reference: other libraries, and names that only the code knows.
nitpick_ignore_regex = [(r"py:.*", r".*")]
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False  # the signature has them
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "furo"
html_title = f"imbalance {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False


# Unions that have a name; Python keeps what they are made of, which fills lines.
NAMED = {
    stringify_annotation(union, "smart"): "ArrayLike"
    for union in (np.typing.ArrayLike, jax.typing.ArrayLike)
}


def setup(app):
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", readable)


def readable(app, what, name, obj, options, signature, returns):
    """A signature that can be read, by people and as Python."""
    del app, what, name, obj, options
    if signature is None:
        return None
    signature = signature.replace("<factory>", "...")  # a default that has no value to show
    for union, known in NAMED.items():
        signature = signature.replace(union, known)
        returns = returns and returns.replace(union, known)
    return signature, returns
