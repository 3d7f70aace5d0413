"""The loads: wrk for HTTPS, curl for large files, h2load for gRPC, our own for echo, chat and the brokers.

Ours are processes: `closed_loop` (requests answered one by one), `fan_out` (a publisher and members),
`downloads` (a large file, many times at once), `opener` and `members` (idle connections). `listing` goes
through the pages of a folder, in the benchmark's own process. `dialects` and `tallies`, both pure, have what
is said to each server and how the answers are counted; `link` is one connection.

wrk and h2load verify no certificate; that the server has the right one is what `probe` checks first.
"""
