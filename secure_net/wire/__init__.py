"""The hardened shell under every protocol. It knows nothing of any of them.

* `tls`: TLS as a sans-IO layer over memory BIOs, and the only place that builds an `SSLContext`.
* `hello`: reads a ClientHello before OpenSSL does, so that foreign names and protocols get their alert.
* `connection`: one connection: feeds a machine, drains it, holds it to its deadlines and bounds, closes.
* `listener`: accepts, applies the caps, starts, stops, drains.
* `client`: the same connection from the client's side.
"""
