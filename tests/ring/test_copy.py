"""copy.h, compiled for other machines than the wheel: values that the compiler keeps in wide registers stay whole."""

import shutil
import subprocess
from pathlib import Path

import pytest

from peers.settings import missing

HEADER = Path(__file__).resolve().parents[2] / "src" / "memif" / "ring" / "copy.h"
PROGRAM = """
#include "copy.h"
#include <stdio.h>

/* Sums that a compiler keeps in vector registers around the copies of all lengths. */
int main(void) {
    static uint8_t source[512], target[512];
    static double in[64], sums[16];
    volatile uint32_t least = 16;
    for (int i = 0; i < 512; i++) source[i] = (uint8_t)(i * 7 + 1);
    for (int i = 0; i < 64; i++) in[i] = i + 0.5;
    for (uint32_t n = least; n <= 140; n++) {
        double s[16];
        for (int i = 0; i < 16; i++) s[i] = in[i] * 3;
        memset(target, 0xEE, sizeof target);
        memif_copy(target + 1, source + 3, n);
        for (int i = 0; i < 16; i++) sums[i] += s[i] + in[i + 16];
        if (memcmp(target + 1, source + 3, n) || target[0] != 0xEE || target[n + 1] != 0xEE) return 1;
    }
    for (int i = 0; i < 16; i++)
        if (sums[i] != 125 * ((i + 0.5) * 3 + i + 16.5)) return 2;
    return 0;
}
"""


@pytest.mark.nosanitizer
@pytest.mark.parametrize("options", ["-O3", "-O3 -mavx", "-O3 -mavx2 -mfma", "-O0", "-O3 -march=native"])
def test_copies_disturb_nothing(options: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        missing("cc is missing: apt-get install gcc libc6-dev")
    (tmp_path / "copy.c").write_text(PROGRAM)
    command = [compiler, *options.split(), "-Wall", "-Werror", f"-I{HEADER.parent}", "copy.c", "-o", "copy"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "unrecognized" in built.stderr or "unknown" in built.stderr:
        missing(f"no {options} on this machine")
    assert built.returncode == 0, built.stderr
    flags = Path("/proc/cpuinfo").read_text()
    if any(word.removeprefix("-m") not in flags for word in options.split() if word.startswith(("-mavx", "-mfma"))):
        missing(f"this processor cannot run {options}")
    assert subprocess.run([tmp_path / "copy"], check=False).returncode == 0
