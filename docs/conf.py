"""Sphinx: the documentation, with the reference of the public interface and of the commands."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "topwork"
extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser", "command_reference"]
numpydoc_show_class_members = False
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline", "colon_fence"]
exclude_patterns = ["_build", "decisions", "_ext", "transcripts"]
html_theme = "pydata_sphinx_theme"
html_title = "topwork"
html_sidebars = {"index": [], "tutorial": [], "first-steps": []}
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 2,
    "show_toc_level": 2,
}
