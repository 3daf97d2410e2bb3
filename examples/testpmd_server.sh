#!/bin/sh
# DPDK's testpmd as master ("server") on the socket $1, answering ARP and ping for every
# address. Ctrl-C ends it. Needs root and Debian's packages dpdk-dev,
# librte-net-memif23, librte-mempool-ring23; no hugepages, no network card.
rm -f "$1" # a socket file that a killed testpmd has left would make its bind fail
exec dpdk-testpmd --no-huge -m 64 --no-pci --no-shconf --file-prefix=server \
  --lcores 0@0,1@1 \
  --vdev=net_memif0,role=server,id=0,socket="$1",socket-abstract=no,bsize=2048 \
  -- --total-num-mbufs=4096 --no-mlockall \
  --forward-mode=icmpecho --stats-period 1
