"""The loads: wrk for HTTPS, h2load for gRPC, and an opener of many idle connections.

wrk and h2load verify no certificate; that the server has the right one is what `probe` checks first.
"""
