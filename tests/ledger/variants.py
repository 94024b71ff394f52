"""Programs that tell by their error which of them runs, built as the settlement program is."""

import tempfile
from pathlib import Path
from typing import Final

from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from ledger.rpc import RpcClient
from ledger.transactions import encode
from program.build import build

_SOURCE: Final = """
static const volatile unsigned char padding[] = {{ 0, {padding} }};
unsigned long long entrypoint(const unsigned char *input) {{
    (void)input;
    return {answer} + padding[0];
}}
"""


def program_answering(answer: int, padding_bytes: int) -> bytes:
    """A program that does nothing but fail with a code of its own. None of its padding is zero."""
    padding = ",".join(str(at % 255 + 1) for at in range(padding_bytes))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "variant.c"
        source.write_text(_SOURCE.format(answer=answer, padding=padding))
        return build(source)


async def answer_of(rpc: RpcClient, program: Pubkey, payer: Pubkey) -> object:
    """The code that the program at this address fails with now."""
    blockhash = await rpc.latest_blockhash("confirmed")
    message = Message.new_with_blockhash([Instruction(program, b"", [])], payer, Hash.from_string(blockhash.blockhash))
    simulation = (await rpc.simulate(encode(Transaction.new_unsigned(message)), "confirmed")).value
    match simulation.err:
        case {"InstructionError": [0, {"Custom": code}]}:
            return code
        case other:
            return other
