"""Ours beside its peers, in one run, on one machine: see README.md.

    python -m benchmarks NAME... [--rounds N] [--seconds S] [--quick] [--only SUBJECT,...] [--json FILE]

`__main__` is the command line and `harness` the method (who is measured when, pinned where); `calls`,
`idle` and `start` are the benchmarks. `subjects` is the table of who is measured, `peers/` has one small
file per server, `ours` sets up a deployment of secure_net as `secure-net init` makes it, and `loads/`
drives them. `processes` reads /proc, `figures` and `table` are pure.
"""
