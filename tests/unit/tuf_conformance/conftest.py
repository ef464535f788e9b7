"""A repository over real HTTP and the box's client of it, for the cases of the TUF project's conformance suite."""

import pytest

from tests.support.tuf_site import TufClient, TufServer, TufSite


@pytest.fixture
def site():
    return TufSite()


@pytest.fixture
def server(site):
    one = TufServer(site)
    yield one
    one.close()


@pytest.fixture
def client(tmp_path, site, server):
    return TufClient(tmp_path, site, server)
