"""The contract tests on the network of docs/extending.md, as its author would run them."""

from linknet.network import LinkNet

from nnunet_archs.testing import NetworkContract


class TestLinkNet(NetworkContract):
    networks = (LinkNet,)
