"""Every variant of the ring's model ends as expected: ours without a fault, each mistake with its fault."""

from collections.abc import Mapping

import pytest

from model import run
from model.variants import VARIANTS, Variant
from peers.settings import missing

pytestmark = [pytest.mark.timeout(400), pytest.mark.nosanitizer]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Mapping[str, run.Result]:
    """Results of the variants that this session was asked for, by name; searched several at a time."""
    if reason := run.missing():
        missing(reason)
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = {v.name for p in parameters if isinstance(v := p.get("variant"), Variant)}
    found = run.check_all([variant for variant in VARIANTS if variant.name in chosen])
    return {result.variant.name: result for result in found}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variant(variant: Variant, results: Mapping[str, run.Result]) -> None:
    """The search was complete and found what it had to."""
    assert results[variant.name].verdict == variant.expected


def test_names_are_unique() -> None:
    """A result is looked up by its variant's name."""
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_every_fault_can_be_found() -> None:
    """All that the table of meanings tells apart, but for what another check always finds first, has a variant."""
    meanings = {name for _, name in run.MEANINGS} - {"overrun"}
    assert meanings == {variant.expected for variant in VARIANTS} - {run.HOLDS}
