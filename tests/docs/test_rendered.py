"""The check of the built pages finds what a reader would miss, and nothing else."""

import os
import shutil
from pathlib import Path

import pytest

import rendered

PAGE = """<!doctype html><style>.content {{ width: 700px }} pre, .table-wrapper {{ overflow: auto }}</style>
<div class="content"><article role="main"><h1>Page</h1>{body}</article></div>"""
GOOD = "<p>Import what you need.</p><pre>import memif\n# a comment [in brackets]</pre><p>An example:</p>"
STATIC = {
    "<blockquote><p>import memif memif.connect()</p></blockquote>": "run together",
    "<pre>x = 1\n# [run]\ny = 2</pre>": "marker",
    "<p>&gt;&gt;&gt; memif.connect()</p>": "running text",
}
MEASURED = {
    f"<pre>{'x' * 300}</pre>": "pre is cut off",
    f"<div class='table-wrapper'><table><tr><td>{'cell' * 100}</td></tr></table></div>": "div is cut off",
    "<svg width='900' height='10'></svg>": "svg beside the text",
}


def site(folder: Path, **bodies: str) -> Path:
    for name, body in bodies.items():
        (folder / f"{name}.html").write_text(PAGE.format(body=body))
    return folder


@pytest.mark.parametrize(("body", "fault"), STATIC.items())
def test_what_the_text_shows(tmp_path: Path, body: str, fault: str) -> None:
    faults = list(rendered.static_faults(site(tmp_path, good=GOOD, bad=body)))
    assert len(faults) == 1, faults
    assert faults[0].startswith("bad.html: ")
    assert fault in faults[0]


def test_what_a_browser_measures(tmp_path: Path) -> None:
    browser = rendered.browser()
    if browser is None:
        assert os.environ.get("MEMIF_REQUIRE_BROWSER") != "1", "chromium is missing"
        pytest.skip("chromium is missing")
    bodies = {f"bad{number}": body for number, body in enumerate(MEASURED)}
    faults = list(rendered.measured_faults(site(tmp_path, good=GOOD, **bodies), browser))
    assert len(faults) == len(MEASURED) * len(rendered.WIDTHS), faults
    for number, fault in enumerate(MEASURED.values()):
        assert sum(line.startswith(f"bad{number}.html: ") and fault in line for line in faults) == len(rendered.WIDTHS)


def test_a_browser_is_required_where_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("MEMIF_REQUIRE_BROWSER", raising=False)
    site(tmp_path, good=GOOD)
    assert rendered.check(tmp_path) == []
    monkeypatch.setenv("MEMIF_REQUIRE_BROWSER", "1")
    assert len(rendered.check(tmp_path)) == 1
