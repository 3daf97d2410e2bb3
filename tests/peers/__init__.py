"""Real peers for the tests: DPDK's testpmd and, behind it, the kernel's network stack."""
