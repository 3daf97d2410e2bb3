#!/bin/sh
# Two network namespaces whose kernels ping each other over one memif. Root; iproute2, iputils-ping, memif[tap].
set -e
here=$(dirname "$0")
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

# Each program makes a TAP device inside a namespace and joins it to its end of the memif.
python "$here/../howto_tap.py" $socket master tap0 10.8.0.1/24 $left &
programs=$!
python "$here/../howto_tap.py" $socket slave tap0 10.8.0.2/24 $right &
programs="$programs $!"
until ip netns exec $left ping -c 1 -W 1 10.8.0.2 >/dev/null 2>&1; do sleep 0.2; done

ip netns exec $left ping -c 3 -i 0.2 10.8.0.2
ip netns exec $right ping -c 3 -i 0.2 -s 1400 10.8.0.1
