#!/bin/sh
# DPDK's testpmd as slave ("client") on the socket $1, sending 64 byte packets as fast
# as it can. Ctrl-C ends it. Needs root and Debian's packages dpdk-dev,
# librte-net-memif23, librte-mempool-ring23; no hugepages, no network card.
exec dpdk-testpmd --no-huge -m 64 --no-pci --no-shconf --file-prefix=client \
  --lcores 0@0,1@1 \
  --vdev=net_memif0,role=client,id=0,socket="$1",socket-abstract=no,bsize=2048 \
  -- --total-num-mbufs=4096 --no-mlockall \
  --forward-mode=txonly --txpkts=64 --stats-period 1
