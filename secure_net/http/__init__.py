"""HTTP/1.1, strict: the grammar, two pure machines, the session that binds one to the shell; static files.

=====================  ==================================================================================
`fields`               the header block, and what it says about the body's framing; both directions
`head`                 the head of a request: grammar and policy in one place
`body`                 a body as it arrives: by its length, or in chunks; both directions
`response`             an answer, and the head it is sent with, prepared once a second
`protocol`             the server's machine: pipelining, keep-alive, deadlines, last words
`client_protocol`      the client's machine: one request at a time, every answer bounded
`server`               the session: who is it (a token or a certificate), may they, and what is the answer
`admin`                the admin listener's pages
`status_page`          the status page's requests: who may look, logging in and out (pure)
`page_sessions`        who is logged in to it (pure)
`cookie`               by what a browser shows that (pure)
`assets`               files of pages of ours, and the policy these are under
`files`                static files: the application. What it asks, in order:
`site`, `targets`        which root, and which names below it, a path stands for; pure
`lookup`, `roots`        what is there, opened name by name; on a thread (`disk`)
`opened`                 files that stay open for those who ask next
`negotiation`            which precompressed twin
`conditional`, `ranges`  304, 412, 206, 416
`media_types`            what it is
`file_body`              the body of a large one, piece by piece
`listing`                a folder's page
=====================  ==================================================================================

Machines and grammar know of nothing outside this folder but errors and limits. What is refused, and where we
are stricter than the RFCs ask, is told in ``docs/decisions/0001-http-head-by-our-own-grammar.md``.
"""
