"""Initialising, registering and opening: what they write, who may, and that each happens once."""

import pytest
from solders.account import Account
from solders.pubkey import Pubkey
from solders.rent import Rent

from ledger import instructions, layout
from ledger.program_errors import ProgramError
from settlement.shapes import SHAPES, Shape
from tests.program.chain import (
    HOUSE_BALANCE,
    LANE,
    OTHER_LANE,
    SMALL,
    SOL,
    Chain,
    initialisation,
    registration,
    with_data,
)

POINT_OF_THE_TWIST_OUTSIDE_G2 = bytes.fromhex(
    "0000000000000000000000000000000000000000000000000000000000000001"
    "0000000000000000000000000000000000000000000000000000000000000002"
    "2b76c179599bb92a963dac85546a005a777f7c13f6a7b75d5918b6b5808f5fde"
    "101f7278419308b95099eca02dcee0c5381f4d26d1d62313f057167f064101ce"
)
"""x = 2 + u on y² = x³ + 3/(9 + u), found by trial; r times it is not the point at infinity."""


def test_the_upgrade_authority_names_the_authority(deployed: Chain) -> None:
    deployed.send([initialisation(deployed)], deployed.upgrade_authority)
    config = deployed.account(layout.config_address(deployed.program_id))
    assert config.owner == deployed.program_id
    assert layout.Config.decode(bytes(config.data)) == layout.Config(deployed.authority.pubkey())


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        ("owner", ProgramError.FOREIGN_ACCOUNT),
        ("variant", ProgramError.ACCOUNT_KIND),
        ("size", ProgramError.ACCOUNT_SIZE),
    ],
)
def test_what_stands_at_the_programdata_address_is_not_taken_on_trust(
    deployed: Chain, spoil: str, error: ProgramError
) -> None:
    address = layout.programdata_address(deployed.program_id)
    account = deployed.account(address)
    data, owner = bytes(account.data), account.owner
    if spoil == "owner":
        owner = Pubkey.new_unique()
    elif spoil == "variant":
        data = b"\x01" + data[1:]  # a buffer
    else:
        data = data[:44]
    deployed.svm.set_account(address, Account(account.lamports, data, owner, False, 0))
    deployed.refuses(error, initialisation(deployed), pays=deployed.upgrade_authority)


def test_circuits_are_registered_with_their_keys(chain: Chain) -> None:
    for shape in SHAPES:
        data = chain.data(layout.circuit_address(chain.program_id, shape.circuit_id))
        expected = layout.Circuit(shape.circuit_id, shape.bets, shape.players, chain.prover.verifying_key)
        assert layout.Circuit.decode(data) == expected


@pytest.mark.parametrize(("bets", "players"), [(0, 8), (16, 0), (16, 65), (0, 0), (16, 65_535)])
def test_a_circuit_of_an_impossible_shape_is_refused(chain: Chain, bets: int, players: int) -> None:
    chain.refuses(ProgramError.CIRCUIT_SHAPE, registration(chain, Shape(circuit_id=9, bets=bets, players=players)))


@pytest.mark.parametrize("start", [0, 64, 192, 320, 448, 512])
@pytest.mark.parametrize(
    "spoil", ["infinity", "infinity by its flag", "another spelling", "off the curve", "beyond the field"]
)
def test_a_verifying_key_with_a_bad_point_is_refused(chain: Chain, start: int, spoil: str) -> None:
    genuine = registration(chain, Shape(circuit_id=9, bets=16, players=8))
    data = bytearray(genuine.data)
    at = 7 + start
    size = 128 if start in (64, 192, 320) else 64
    if spoil == "infinity":
        data[at : at + size] = bytes(size)
    elif spoil == "infinity by its flag":
        data[at + size // 2] |= 0x40
    elif spoil == "another spelling":
        data[at + size // 2] |= 0x80
    elif spoil == "off the curve":
        data[at + size - 1] ^= 1
    else:
        data[at : at + 32] = b"\xff" * 32
    chain.refuses(ProgramError.VERIFYING_KEY, with_data(genuine, bytes(data)))


def test_a_g2_point_outside_the_subgroup_is_refused(chain: Chain) -> None:
    genuine = registration(chain, Shape(circuit_id=9, bets=16, players=8))
    data = bytearray(genuine.data)
    data[7 + 64 : 7 + 192] = POINT_OF_THE_TWIST_OUTSIDE_G2
    chain.refuses(ProgramError.VERIFYING_KEY, with_data(genuine, bytes(data)))


def test_a_lane_is_opened_once(chain: Chain) -> None:
    house = layout.House.decode(chain.data(chain.house(OTHER_LANE)))
    assert house == layout.House(OTHER_LANE, vault_count=2, highest_batch=0)
    again = instructions.open_house(chain.program_id, chain.authority.pubkey(), LANE)
    chain.refuses(ProgramError.HOUSE_EXISTS, again)


def test_vaults_are_numbered_from_one_on_each_lane(chain: Chain) -> None:
    for position, owner in enumerate(chain.owners):
        vault = layout.Vault.decode(chain.data(chain.vault(position)))
        assert vault == layout.Vault(LANE, position + 1, owner.pubkey())
    assert layout.Vault.decode(chain.data(chain.vault(1, OTHER_LANE))).index == 2
    assert layout.House.decode(chain.data(chain.house())).vault_count == 4


def test_the_authority_may_own_a_vault(chain: Chain) -> None:
    key = chain.authority.pubkey()
    chain.send([instructions.open_vault(chain.program_id, key, LANE, key)], chain.authority)
    assert layout.Vault.decode(chain.data(layout.vault_address(chain.program_id, LANE, key))).owner == key


@pytest.mark.parametrize("sent", [1, 890_880, SOL])
def test_lamports_sent_ahead_do_not_keep_a_lane_from_opening(chain: Chain, sent: int) -> None:
    lane = 77
    address = chain.house(lane)
    chain.svm.set_account(address, Account(sent, b"", Pubkey.default(), False, 0))
    chain.send([instructions.open_house(chain.program_id, chain.authority.pubkey(), lane)], chain.authority)
    assert layout.House.decode(chain.data(address)).lane == lane
    minimum = chain.svm.minimum_balance_for_rent_exemption(layout.HOUSE_BYTES)
    assert chain.lamports(address) == max(sent, minimum)


def test_new_accounts_hold_exactly_their_rent_minimum(chain: Chain) -> None:
    minimum = chain.svm.minimum_balance_for_rent_exemption
    config = layout.config_address(chain.program_id)
    circuit = layout.circuit_address(chain.program_id, SMALL.circuit_id)
    assert chain.lamports(config) == minimum(layout.CONFIG_BYTES)
    assert chain.lamports(circuit) == minimum(layout.CIRCUIT_BYTES)
    assert chain.lamports(chain.house()) == minimum(layout.HOUSE_BYTES) + HOUSE_BALANCE


def test_rent_with_a_threshold_of_two_years_is_understood(deployed: Chain) -> None:
    deployed.svm.set_rent(Rent(lamports_per_byte=3_480, exemption_threshold=2.0))
    deployed.send([initialisation(deployed)], deployed.upgrade_authority)
    size = 128 + layout.CONFIG_BYTES
    assert deployed.lamports(layout.config_address(deployed.program_id)) == size * 3_480 * 2
