"""What an operator does to the state, and the socket by which a running daemon does it.

=========  ==============================================================================================
`acts`     the acts as one table: revoke, lock, unlock, list, back up, status, reload
`status`   what ``secure-net status`` shows, as JSON
`socket`   one line of JSON in, one out, for the daemon's own user; `reach` finds the daemon or the lock
=========  ==============================================================================================
"""
