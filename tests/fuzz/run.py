"""Fuzz one target, guided by coverage, and keep what reaches new code.

    python tests/fuzz/run.py wire --seconds 60
    python tests/fuzz/run.py rings --seconds 600          # needs the compiled part with coverage, see below

Needs atheris (``pip install atheris``). The Python modules are instrumented by it; for the rings, build the package
with clang and ``-C cmake.define.MEMIF_COVERAGE=ON``, and preload atheris's library:

    LD_PRELOAD=$(python -c "import atheris; print(atheris.path())")/asan_with_fuzzer.so

New inputs go to ``--out`` (default: a directory in /tmp); ``--keep`` merges those that reach new code into the corpus
beside this file, one line of hexadecimal digits each, which ``make test`` replays. A crash ends the run and leaves its
input as ``crash-...``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"


def read_corpus(name: str) -> list[bytes]:
    """The inputs that were kept for a target."""
    return [bytes.fromhex(line) for line in (CORPUS / f"{name}.hex").read_text().split()]


def write_corpus(name: str, inputs: list[bytes]) -> None:
    """Replace them."""
    lines = sorted({data.hex() for data in inputs if data}, key=lambda line: (len(line), line))
    (CORPUS / f"{name}.hex").write_text("\n".join(lines) + "\n")


def fuzz(name: str, words: list[str]) -> None:
    """Run libFuzzer in this process; does not return."""
    import atheris  # type: ignore[import-not-found]

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["memif"]):
        import targets  # type: ignore[import-not-found]

    # A merge starts this program again, by its first word.
    atheris.Setup([f"{sys.executable} {__file__} {name} --inside", *words], targets.TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["wire", "handshake", "pcapng", "rings"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path, default=None, help="where new inputs go (/tmp/memif-fuzz-<target>)")
    parser.add_argument("--keep", action="store_true", help="afterwards, merge what is worth it into the corpus")
    parser.add_argument("--inside", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.inside is not None:
        fuzz(words.target, words.inside)
        return 0
    out = words.out or Path(f"/tmp/memif-fuzz-{words.target}")
    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(read_corpus(words.target)):
        (corpus / f"{number:04}").write_bytes(data)
    again = [sys.executable, __file__, words.target, "--inside"]
    limits = ["-max_len=2048", "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]
    done = subprocess.run(
        [*again, str(out), str(corpus), f"-max_total_time={words.seconds}", *limits, f"-artifact_prefix={out}/"],
        check=False,
    )
    if words.keep and done.returncode == 0:
        subprocess.run([*again, "-merge=1", "-max_len=512", str(corpus), str(out)], check=True)
        write_corpus(words.target, [path.read_bytes() for path in corpus.iterdir()])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
