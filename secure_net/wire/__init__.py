"""The hardened shell under every protocol. It knows nothing of any of them.

* `tls`: TLS as a sans-IO layer over memory BIOs, and the only place that builds an `SSLContext`.
* `hello`: reads a ClientHello before OpenSSL does, so that foreign names and protocols get their alert.
* `channel`: one encrypted stream: TLS, what waits to be sent, one timer, the ways to end.
* `connection`: the stream with a machine on it: feeds it, drains it, knows who the session belongs to.
* `listener`: accepts, applies the caps, starts, stops, drains.
* `client`: the same connection from the client's side.

The second engine, under the same connections and machines:

* `threads`: the listener whose connections have a thread each; `workers`: the bounded pool of them.
* `threaded_connection`: a connection that a thread drives; `handover`: who has it in hand, thread or loop;
  `blocking_transport`: what it writes to; `own_counters`: what it counts.

For programs without an event loop: `blocking`, a client's connection.
"""
