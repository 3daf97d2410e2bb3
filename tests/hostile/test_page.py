"""The security page tells of every case, and nothing that is not tested."""

import inspect
import re
from pathlib import Path

import pytest

from hostile.page import OTHERS, PAGE, SECTIONS, filled
from memif.testing import CASES

ROOT = PAGE.parents[1]


def test_the_tables_are_up_to_date() -> None:
    page = PAGE.read_text()
    assert page == filled(page), "run python tests/hostile/page.py"


def test_every_case_is_in_one_section() -> None:
    for case in CASES.values():
        assert sum(bool(belongs(case)) for _, belongs in SECTIONS) == 1, case.name


@pytest.mark.parametrize(("path", "test"), [(path, test) for _, _, path, test in OTHERS])
def test_every_test_that_is_named_exists(path: str, test: str) -> None:
    source = (ROOT / path).read_text()
    assert re.search(rf"^(def {test}\(|{test} = )", source, re.MULTILINE)


def test_the_settings_on_the_page_are_accepted() -> None:
    """The example of the page, and the defaults that it names."""
    import memif
    from memif.config import InterfaceConfig

    code = re.search(r"```python\n(sock = .*?)```", (PAGE.parent / "security.md").read_text(), re.DOTALL)
    assert code is not None
    keywords = set(re.findall(r"(\w+)=", code[1])) - {"owner", "mode", "max_pending", "handshake_timeout"}
    assert keywords <= set(InterfaceConfig.__dataclass_fields__)
    defaults = InterfaceConfig.make(role="master")
    assert (defaults.max_regions, defaults.max_region_bytes, defaults.seal) == (64, 64 << 30, "add")
    assert inspect.signature(memif.Socket).parameters["max_pending"].default == 64


def test_sources_are_named_by_paths_that_exist() -> None:
    for path in re.findall(r"`((?:tests|benchmarks)/[\w./]+\.py)", PAGE.read_text()):
        assert (ROOT / Path(path)).exists(), path
