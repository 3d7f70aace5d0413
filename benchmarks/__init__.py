"""Ours beside its peers, in one run, on one machine: see README.md.

    python -m benchmarks NAME... [--rounds N] [--seconds S] [--quick] [--only SUBJECT,...] [--json FILE]

`__main__` is the command line and `harness` the method (who is measured when, pinned where); `calls`, `echo`,
`fan_out`, `durable`, `chat_memory`, `idle` and `start` are the benchmarks. `comparison` sets subjects beside
one another and judges goals. `subjects` is the table of who is measured, `peers/` has one small file per
server, `ours` sets up a deployment of secure_net as `secure-net init` makes it, and `loads/` drives them:
`driven` talks to those of our own. `processes` reads /proc, `figures` and `table` are pure.
"""
