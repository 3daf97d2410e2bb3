#!/bin/sh
# DPDK's testpmd between two programs, each with a memif of its own. With a network card
# in place of one --vdev (and huge pages), the same command carries a program's packets
# off the machine.
# Root; dpdk-dev, librte-net-memif23, librte-mempool-ring23, memif[cli].
set -e
sockets=/tmp/switch-$$

cleanup() {
  kill $responder 2>/dev/null || true
  # testpmd ends at its prompt: it may crash if a peer leaves while it forwards.
  echo quit >&3
  wait
  rm -rf $sockets
}
mkdir $sockets
mkfifo $sockets/commands

options=role=server,id=0,socket-abstract=no,bsize=2048,rsize=10
dpdk-testpmd --no-huge -m 64 --no-pci --no-shconf --file-prefix=switch-$$ \
  --lcores 0@0,1@0 \
  --vdev=net_memif0,socket=$sockets/one,$options \
  --vdev=net_memif1,socket=$sockets/two,$options \
  -- -i --total-num-mbufs=4096 --no-mlockall <$sockets/commands >$sockets/log 2>&1 &
exec 3>$sockets/commands
until [ -S $sockets/one ] && [ -S $sockets/two ]; do sleep 0.1; done

memif icmp-responder --role slave --socket $sockets/two --ip 10.8.0.2 &
responder=$!
trap cleanup EXIT
trap 'exit 1' INT TERM
sleep 1
printf 'set fwd io\nstart\n' >&3
memif ping --role slave --socket $sockets/one --ip 10.8.0.1 -c 5 -i 0.2 10.8.0.2
echo stop >&3
