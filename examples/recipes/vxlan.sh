#!/bin/sh
# Two "hosts" (network namespaces with a cable between them). On each, a program with a
# memif; between them, the kernel's VXLAN. On real hosts, leave the namespaces out and use
# the hosts' own addresses. Root; iproute2, memif[cli,tap].
set -e
one=host1-$$ two=host2-$$ sockets=/tmp/vxlan-$$

cleanup() {
  kill $programs 2>/dev/null || true
  wait
  ip netns del $one
  ip netns del $two
  rm -rf $sockets
}
mkdir $sockets
ip netns add $one
ip netns add $two
trap cleanup EXIT
trap 'exit 1' INT TERM

# The cable, with the hosts' addresses.
ip link add eth0 netns $one type veth peer name eth0 netns $two
ip -n $one addr add 192.0.2.1/24 dev eth0
ip -n $two addr add 192.0.2.2/24 dev eth0
ip -n $one link set eth0 up
ip -n $two link set eth0 up

# host NAME OWN OTHER SOCKET: a VXLAN to the other host and a TAP, joined by a bridge;
# the memif ends at the TAP.
host() {
  ip -n $1 link add vxlan0 type vxlan id 100 local $2 remote $3 dstport 4789
  ip -n $1 link add br0 type bridge
  ip -n $1 link set vxlan0 master br0 up
  ip -n $1 link set br0 up
  memif bridge --interval 0 tap:tap0,netns=$1 memif:$4,role=master &
  programs="$programs $!"
  until ip -n $1 link set tap0 master br0 2>/dev/null; do sleep 0.1; done
}
host $one 192.0.2.1 192.0.2.2 $sockets/one
host $two 192.0.2.2 192.0.2.1 $sockets/two

# In place of VPP, DPDK or your own program: a responder on the second host, pinged from
# the first.
memif icmp-responder --role slave --socket $sockets/two --ip 10.8.0.2 &
programs="$programs $!"
ping="memif ping --role slave --socket $sockets/one --ip 10.8.0.1 --interval 0.2"
# Until everything is up.
until $ping --count 1 --quiet 10.8.0.2 >/dev/null; do sleep 0.2; done
$ping --count 5 10.8.0.2
# VXLAN takes 50 bytes: the largest packet between the two programs is 1450 bytes, unless
# the cable has a larger MTU.
$ping --count 2 --size 1422 10.8.0.2
