"""``python -m secure_net.cli``: the same as ``secure-net``."""

from secure_net.cli.main import main

main()
