"""The peers: one small file each, started as `python -m benchmarks.peers.NAME PORT CERTIFICATE KEY`.

Each is set up as its manual advises for speed, serves on 127.0.0.1 with TLS 1.3, and does no more than
the work: no authentication, no policy, no metrics, no access log.
"""
