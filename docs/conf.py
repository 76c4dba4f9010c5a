"""Settings of the site. Build it with: make docs"""

import os
import re
import warnings
from importlib.metadata import version as version_of

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", message=r"\s*ArviZ is undergoing a major refactor")

project = "ppl_genmodels"
author = project_copyright = "the ppl_genmodels authors"
version = release = version_of("ppl-genmodels")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
# The gallery's output lies in the gallery's folder: the same names twice.
suppress_warnings = ["sphinx_gallery.duplicate_filename"]
exclude_patterns = ["_build", "gallery/*.py", "gallery/*.rst", "reproductions/*", "benchmarks/*"]

myst_heading_anchors = 3
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery/output",
    "filename_pattern": r"/plot_",
    "ignore_repr_types": r"matplotlib[.](axes|text)|numpy[.]ndarray",
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
    "abort_on_example_error": True,
}

html_theme = "furo"
html_title = f"ppl_genmodels {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

SHAPE_STAR = re.compile(r"(?<![\\*\w])\*(?=\w+[,)])")


def keep_stars(app, what, name, obj, options, lines):
    """Shapes in docstrings are written as in Python, (rows, *event); their stars are no markup."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = SHAPE_STAR.sub(r"\*", line)


def setup(app):
    app.connect("autodoc-process-docstring", keep_stars, priority=100)
