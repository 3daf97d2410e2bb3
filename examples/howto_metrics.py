"""Counters for Prometheus, read when it asks.

    python examples/howto_metrics.py

Needs prometheus-client: pip install 'memif[metrics]'.
"""

# [serve]
import prometheus_client

import memif
from memif.metrics import MemifCollector

with memif.listen("@metrics", id=0) as server, memif.Socket("@metrics") as socket:
    client = socket.interface(id=0)
    while not (server.up and client.up):
        server.socket.poll(0.01)
        socket.poll(0.01)

    registry = prometheus_client.CollectorRegistry()
    registry.register(MemifCollector(server))
    start = prometheus_client.start_http_server
    http, thread = start(0, addr="127.0.0.1", registry=registry)

    # [scrape] what Prometheus would do
    client.tx[0].send([b"x" * 60] * 5)
    server.rx[0].recv(256, timeout=1.0).release()

    import urllib.request

    shown = "memif_up", "memif_receive_packets", "memif_receive_bytes"
    url = f"http://127.0.0.1:{http.server_port}/metrics"
    with urllib.request.urlopen(url) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(shown):
                print(line)
    # [end]
    http.shutdown()
    http.server_close()
    thread.join()
