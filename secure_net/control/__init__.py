"""What an operator does to the state, and the socket by which a running daemon does it.

===============  ========================================================================================
`acts`           the acts as one table: revoke, lock, unlock, list, back up, status, reload
`status`         what ``secure-net status`` and the status page show, as JSON
`history`        what happened in each of the last seconds; pure, as the next three are
`view`           the status in words: facts, drawings, tables; shown by HTML, script and terminal alike
`drawing`        values as a line
`status_html`    the page, made of a view
`status_source`  the same, of the moment; its script and style sheet are in ``page/``
`socket`         one line of JSON in, one out, for the daemon's own user; `reach` finds the daemon or the lock
===============  ========================================================================================
"""
