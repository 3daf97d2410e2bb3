"""Settings of Sphinx. `make docs` builds against the installed package, so what is shown is what users get."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "memif for Python"
author = "the memif for Python authors"
project_copyright = author
release = version = installed_version("memif")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.intersphinx",
    "docstrings",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",
    "generated",
]
exclude_patterns = ["_build"]
# In docstrings a name in single backticks is a link where it can be one.
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "tasklist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "exclude-members": "__init__, __new__"}
autodoc_preserve_defaults = True
maximum_signature_line_length = 88

napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes have entries of their own, from autodoc
napoleon_use_rtype = False  # the signature says it

# No inventory is fetched: a build needs no network.
intersphinx_mapping: dict[str, tuple[str, str | None]] = {}

doctest_global_setup = "import memif"
trim_doctest_flags = True
copybutton_prompt_text = r"\$ |# |>>> |\.\.\. |vpp# |testpmd> "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"memif for Python {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css", "drawings.css"]
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
