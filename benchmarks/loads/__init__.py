"""The loads: wrk for HTTPS, h2load for gRPC, and our own for what echo, chat and the brokers speak.

Ours are processes: `closed_loop` (requests answered one by one), `fan_out` (a publisher and members),
`opener` and `members` (idle connections). `dialects` and `tallies`, both pure, have what is said to each
server and how the answers are counted; `link` is one connection.

wrk and h2load verify no certificate; that the server has the right one is what `probe` checks first.
"""
