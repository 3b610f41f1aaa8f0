"""Which CPUs cut off int8 products, told from /proc/cpuinfo."""

from __future__ import annotations

import pytest

from edged.worker.providers.cpu import saturates

CORE = "processor\t: {number}\nmodel name\t: a CPU\nflags\t\t: fpu sse4_2 avx2 {flags}\nbugs\t\t:\n\n"


def cpuinfo(*flags: str) -> str:
    return "".join(CORE.format(number=number, flags=more) for number, more in enumerate(flags))


@pytest.mark.parametrize(
    ("text", "cut_off"),
    [
        pytest.param(cpuinfo("avx512f avx512_vnni", "avx512f avx512_vnni"), False, id="server"),
        pytest.param(cpuinfo("avx_vnni"), False, id="N100"),
        pytest.param(cpuinfo("", ""), True, id="AVX2 alone"),
        pytest.param(cpuinfo("avx512f"), True, id="AVX-512 before VNNI"),
        pytest.param(cpuinfo("avx_vnni", ""), True, id="unequal cores"),
        pytest.param("", True, id="hidden"),
    ],
)
def test_a_cpu_cuts_off_unless_every_core_has_vnni(text: str, cut_off: bool) -> None:
    assert saturates(text) is cut_off
