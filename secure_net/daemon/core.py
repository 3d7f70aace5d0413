"""What every service of one process stands on: who is who, what was revoked, and the shell."""

from __future__ import annotations

from collections.abc import Callable

from secure_net.clock import Clock
from secure_net.daemon.inputs import Inputs
from secure_net.identity.authenticator import Authenticator
from secure_net.identity.policy import Grant, Policy
from secure_net.identity.revocation import Revocations
from secure_net.metrics import Metrics
from secure_net.store import Snapshot
from secure_net.wire.shell import Shell


class Core:
    """Built once from what was read, and from the store's snapshot where there is a store."""

    def __init__(
        self,
        inputs: Inputs,
        *,
        clock: Clock,
        metrics: Metrics,
        log: Callable[..., None],
        snapshot: Snapshot | None = None,
    ) -> None:
        configuration = inputs.configuration
        found = snapshot or Snapshot()
        self.clock, self.metrics, self.log = clock, metrics, log
        self.revocations = Revocations.load(found)
        stored = {name: Grant.parse(scopes) for name, scopes in found.identities.items()}
        self.policy = Policy(inputs.grants, stored)
        self.authenticator = Authenticator(
            clock=clock,
            trust_domain=configuration.server.audience,
            policy=self.policy,
            revocations=self.revocations,
            keys=inputs.keys,
            limits=configuration.limits.token,
        )
        self.shell = Shell(clock, configuration.limits.connection, self.authenticator.certificate, log)

    def apply(self, inputs: Inputs) -> None:
        """Go by `inputs` from now on (reload)."""
        self.shell.limits = inputs.configuration.limits.connection
        self.policy.configure(inputs.grants)
        self.authenticator.replace_keys(inputs.keys)
