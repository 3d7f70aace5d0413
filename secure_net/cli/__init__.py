"""The command line: one file per noun. Exit codes are decided in `main` and nowhere else.

A command raises a `SecureNetError`; `main` prints it in one line and exits with the code of its class.
What a command reports goes through `output` (text for people, JSON for programs, escaped), what it needs
to know through `context` (the configuration, and how to reach the daemon). Commands import what they
need when they run, so that ``--help`` stays fast.
"""
