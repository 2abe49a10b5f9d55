from linknet.network import LinkNet

from nnunet_archs.testing import NetworkContract


class TestLinkNet(NetworkContract):
    networks = (LinkNet,)
