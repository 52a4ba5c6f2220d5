"""`place`: every attack that takes it is run twice, alone and through nginx. One house for a whole file; the five questions after every case."""

from collections.abc import Iterator

import pytest
from attack_rig import APPS, House, Place, house
from proxies.nginx import binary


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The house of this file."""
    if binary() is None:
        pytest.skip("nginx is not installed (Debian: apt install nginx)")
    with house(tmp_path_factory.mktemp("house")) as one:
        yield one


@pytest.fixture(params=["alone", "nginx"])
def place(attacked: House, request: pytest.FixtureRequest) -> Iterator[Place]:
    """One way into the house of this file."""
    one = Place(attacked, request.param)
    yield one
    one.good_request()
    one.look_at_the_logs()


@pytest.fixture
def mild_again(place: Place) -> Iterator[None]:
    """For who makes the rules stricter: the next test finds them as they were."""
    yield
    place.running.reload(apps=APPS)
