"""The control channel: sockets, messages and their descriptors, and the events of them all.

From the bottom up: `transport` moves messages over one socket, `listener` takes a name, `poller` waits for all
descriptors at once. `connection` runs one handshake and carries out what it asks for. `acceptor` takes clients in until
they have an interface, `engine` decides whose turn it is, `endpoint` is one interface with its queues.
"""
