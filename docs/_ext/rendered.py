"""What a reader of the built pages would miss: text that is cut off, examples run together, markers for the build.

    python docs/_ext/rendered.py docs/_build/html

`make docs` runs it. Widths are measured by Chromium; where there is none, that part is left out with a line that says
so, or is an error with MEMIF_REQUIRE_BROWSER=1.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

#: Widths of a window: a large one, a small one with the navigation beside the text.
WIDTHS = (1440, 1280, 1024)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_TIMEOUT = 180

# Loads each page into a frame of each width, and sends what does not fit.
_HARNESS = """<!doctype html><body><script>
const pages = PAGES, widths = WIDTHS, found = [];
const boxes = ["pre", ".table-wrapper", "dt.sig", "svg", "img"].map(box => "article " + box).join();
function measure(page, width, view) {
  const doc = view.contentDocument, say = (what, element) =>
    found.push([page, width, what, element.textContent.trim().replace(/\\s+/g, " ").slice(0, 70)]);
  if (doc.documentElement.scrollWidth > width + 1) say("the page", doc.querySelector("h1"));
  for (const each of doc.querySelectorAll(boxes)) {
    if (each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0) say(each.localName, each);
    const box = each.getBoundingClientRect(), room = doc.querySelector("article").getBoundingClientRect();
    if (box.right > room.right + 8) say(each.localName + " beside the text", each);
  }
}
async function run() {
  for (const width of widths) for (const page of pages) {
    const view = document.createElement("iframe");
    view.style.cssText = `width:${width}px;height:900px;border:0`;
    const loaded = new Promise(done => view.onload = done);
    view.src = page;
    document.body.append(view);
    await loaded;
    measure(page, width, view);
    view.remove();
  }
  await fetch("found", {method: "POST", body: JSON.stringify(found)});
}
run();
</script>"""


def static_faults(root: Path) -> Iterator[str]:
    """What can be seen without a browser."""
    for page in pages(root):
        text = (root / page).read_text()
        article = text.partition("<article")[2].partition("</article>")[0]
        for quote in re.findall(r"<blockquote>(.*?)</blockquote>", article, re.DOTALL):
            yield f"{page}: indented text, an example run together perhaps: {_plain(quote)}"
        for marker in re.findall(r"# \[[a-z]+\]", _plain(article, whole=True)):
            yield f"{page}: a marker for the build is shown: {marker}"
        for paragraph in re.findall(r"<p>(.*?)</p>", article, re.DOTALL):
            if re.search(r"(^|\s)(&gt;&gt;&gt;|import [\w.]+ (from|import|with)|async def) ", paragraph):
                yield f"{page}: code as running text: {_plain(paragraph)}"


def pages(root: Path) -> list[str]:
    """The pages that people read."""
    found = (str(path.relative_to(root)) for path in sorted(root.rglob("*.html")))
    return [page for page in found if not page.startswith(("_", "genindex", "py-modindex", "search"))]


def _plain(html: str, *, whole: bool = False) -> str:
    text = " ".join(re.sub(r"<[^>]+>", "", html).split())
    return text if whole else text[:70]


class _Site(http.server.SimpleHTTPRequestHandler):
    """The pages, the harness, and what it finds."""

    harness: bytes
    found: list[tuple[str, int, str, str]]
    done: threading.Event

    def do_GET(self) -> None:
        if self.path != "/measure":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.harness)

    def do_POST(self) -> None:
        type(self).found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.done.set()

    def log_message(self, *_: object) -> None: ...


def measured_faults(root: Path, program: str) -> Iterator[str]:
    """What does not fit into its place, as a browser lays the pages out."""
    _Site.found, _Site.done = [], threading.Event()
    _Site.harness = _HARNESS.replace("PAGES", json.dumps(pages(root))).replace("WIDTHS", json.dumps(WIDTHS)).encode()
    handler = functools.partial(_Site, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        words = [program, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}"]
        words += ["--disable-dev-shm-usage", "--no-first-run", f"http://127.0.0.1:{site.server_port}/measure"]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            ended = _Site.done.wait(_TIMEOUT)
        finally:
            process.terminate()
            process.wait(20)
            site.shutdown()
    if not ended:
        raise RuntimeError(f"{program} did not measure the pages within {_TIMEOUT} s")
    for page, width, what, text in _Site.found:
        yield f"{page}: {what} is cut off in a window of {width}: {text}"


def browser() -> str | None:
    """The browser of this machine."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def check(root: Path) -> list[str]:
    """All faults of the pages below `root`."""
    faults = list(static_faults(root))
    program = browser()
    if program is not None:
        faults += measured_faults(root, program)
    elif os.environ.get("MEMIF_REQUIRE_BROWSER") == "1":
        faults.append("the widths were not measured: there is no chromium")
    else:
        print("the widths were not measured: there is no chromium")
    return faults


def main() -> int:
    """Print all faults; 1 if there are any."""
    root = Path(sys.argv[1])
    faults = check(root)
    print(*faults, f"{len(pages(root))} pages, {len(faults)} faults", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
