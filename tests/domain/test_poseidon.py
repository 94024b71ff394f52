"""Poseidon is circomlib's and the chain's, for every number of inputs."""

import pytest

from settlement.poseidon import FIELD_MODULUS, MAX_INPUTS, PARTIAL_ROUNDS, poseidon

# circomlib's own tests: test/poseidoncircuit.js of circomlib 2.0.5.
KNOWN: dict[tuple[int, ...], int] = {
    (1, 2): 7853200120776062878684798364095072458815029376092732009249414926327459813530,
    (1, 2, 3, 4): 18821383157269793795438455681495246036402687001665670618754263018637548127333,
    (1, 2, 0, 0, 0): 1018317224307729531995786483840663576608797660851238720571059489595066344487,
    (3, 4, 0, 0, 0): 5811595552068139067952687508729883632420015185677766880877743348592482390548,
    (1, 2, 3, 4, 5, 6): 20400040500897583745843009878988256314335038853985262692600694741116813247201,
}


@pytest.mark.parametrize("inputs", KNOWN)
def test_the_hash_is_the_known_one(inputs: tuple[int, ...]) -> None:
    assert poseidon(inputs) == KNOWN[inputs]


def test_every_number_of_inputs_gives_a_field_element_of_its_own() -> None:
    digests = {poseidon([1] * count) for count in range(1, MAX_INPUTS + 1)}
    assert len(digests) == MAX_INPUTS == len(PARTIAL_ROUNDS)
    assert all(0 <= digest < FIELD_MODULUS for digest in digests)


@pytest.mark.parametrize("inputs", [[], [1] * (MAX_INPUTS + 1), [FIELD_MODULUS], [-1]])
def test_what_is_no_list_of_field_elements_is_refused(inputs: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 12 field elements"):
        poseidon(inputs)
