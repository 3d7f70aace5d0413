"""Framed messages: echo, and chat rooms that lose nothing.

===================== ================================================================================
`frames`              the pure codec: five digits, then as many bytes; what machines over it share
`echo`                the echo machine (pure)
`echo_server`         binds it to the shell and to identity, whatever the engine
===================== ================================================================================
"""
