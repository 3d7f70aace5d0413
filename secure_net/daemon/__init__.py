"""The daemon, built from its configuration.

==================  =====================================================================================
`life`              start, ready, reload, drain, stop
`inputs`            what is read from disk at a start and a reload: all of it, before anything changes
`parts`             everything it is made of, wired together from the inputs
`registries`        finds the user's modules that ``rpc.services`` names
`reload`            what a reload may change, and what waits for a restart
`posture`           what ``secure-net check`` finds
`greeting`          the lines that a newcomer reads
`pulse`, `notify`   how late the loop is; what systemd is told
`xmlrpc_services`   `XMLRPCServices`, a server in one line
==================  =====================================================================================
"""
