"""PATH-01 to PATH-10: the path that is judged is the path that the application gets, and no spelling of it is laxer than another."""

import pytest
from attack_rig import DOCTOR, NURSE, Place

# The doctor may read /secret/, the nurse may not; /public/ is open to everybody.


@pytest.mark.parametrize(
    "target",
    ["/public/../secret/x", "/public/..;/secret/x", "/public/%2e%2e/secret/x", "/public/.%2e/secret/x"],
)
def test_PATH_02_out_of_an_open_folder(place: Place, target: str) -> None:
    """A way out of what is open leads nobody in: not a stranger, not the nurse."""
    for who in (None, NURSE):
        assert not place.ask(target, who).passed
    place.ask(target, DOCTOR)
