"""Who is it, and what may they do.

One private certificate authority, one name per person or program, one scope vocabulary, one
revocation that cuts a name off everywhere.

=================== ==========================================================================
`names`             what a name, a host name and a SPIFFE ID may look like (pure)
`certificates`      the profiles: what our CA signs, and what we accept of a client (pure)
`authority`         the private CA in ``ca/``: issue, renew, revoke, CRL; never in the daemon
`jose`              base64url, JSON and key sets, read strictly (RFC 7515, 7517, 8037; pure)
`tokens`            access tokens: issue and verify (RFC 9068, RFC 8725; pure)
`policy`            scopes, grants, principals, `explain` (pure)
`revocation`        what was taken back, in memory; its epoch tells sessions to look again
`authenticator`     the one place that says who somebody is; remembers verified tokens
`files`             writes keys so that they are whole, private and never overwritten
`setup`             the development PKI of ``secure-net init``, and the rotation of signing keys
=================== ==========================================================================

Two sides that share no secret: ``ca/`` holds the CA's key and the token signing key and may be taken
offline; the daemon reads ``certs/`` only, where every key that is not its own is a public one.
"""
