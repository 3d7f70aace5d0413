"""Framed messages: echo, and chat rooms that lose nothing.

===================== ================================================================================
`frames`              the pure codec: five digits, then as many bytes; what machines over it share
`echo`                the echo machine (pure); `echo_server` binds it to shell and identity under either
                      engine, `echo_client` is the chapter's `send_message_to_server`
`messages`            chat's JSON objects, requests in and answers out (pure)
`protocol`            chat's machine, and how its payloads are framed (pure)
`room`, `rooms`       who is where, what is said, and how it reaches everybody (pure)
`server`              binds machine and rooms to the shell, to identity and to the broker
`websocket`           the same JSON as the messages of a WebSocket (pure)
`web`, `assets`       the browser client's service, and the files in `page`
`client_protocol`     the machine of the client's side, over `client_messages` (both pure); `client_session`,
                      `client_inbox` and `client_outbox` are what `client` is made of: `ChatClient`, which
                      stays connected; `sync_client` is the same without an event loop
===================== ================================================================================
"""
