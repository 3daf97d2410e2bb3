#!/bin/sh
# Two network namespaces, one memif between them. The left one's network stack is behind
# a TAP device, the right one behind an existing interface (here a veth pair, which
# stands for a network card). Root; iproute2, memif[cli,tap].
set -e
left=left-$$ right=right-$$ socket=/tmp/namespaces-$$.sock

cleanup() {
  kill $programs 2>/dev/null || true
  wait
  ip netns del $left
  ip netns del $right
  rm -f $socket
}
ip netns add $left
ip netns add $right
trap cleanup EXIT
trap 'exit 1' INT TERM

# Left: makes a TAP device inside the namespace, and listens.
memif bridge --interval 0 \
  tap:tap0,address=10.8.0.1/24,netns=$left memif:$socket,role=master &
programs=$!

# Right: runs inside the namespace, on one end of a veth pair; the kernel has the other.
ip -n $right link add veth0 type veth peer name veth1
ip -n $right addr add 10.8.0.2/24 dev veth1
ip -n $right link set veth0 up
ip -n $right link set veth1 up
ip netns exec $right memif bridge --interval 0 packet:veth0 memif:$socket &
programs="$programs $!"

until ip netns exec $left ping -c 1 -W 1 10.8.0.2 >/dev/null 2>&1; do sleep 0.2; done
ip netns exec $left ping -c 3 -i 0.2 10.8.0.2
ip netns exec $right ping -c 3 -i 0.2 -s 1400 10.8.0.1
