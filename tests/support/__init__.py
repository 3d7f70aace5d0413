"""What the tests share: a clock in the hand, transports without sockets, a PKI, real peers."""
