/* Custom error codes. Mirrored by `ledger/program_errors.py`; a test keeps the two in step.
 *
 * They start above the codes of the system program (0..8), which pass through when a call to it fails, so
 * that one number never means two things. */
#ifndef CROUPIER_ERRORS_H
#define CROUPIER_ERRORS_H

enum error {
    OK = 0,

    /* The shape of the instruction */
    ERROR_UNKNOWN_INSTRUCTION = 0x20,
    ERROR_DATA_SIZE = 0x21,
    ERROR_ACCOUNT_COUNT = 0x22,
    ERROR_DUPLICATE_ACCOUNT = 0x23,

    /* Who may do what */
    ERROR_MISSING_SIGNATURE = 0x28,
    ERROR_NOT_WRITABLE = 0x29,
    ERROR_WRONG_AUTHORITY = 0x2a,
    ERROR_NOT_UPGRADE_AUTHORITY = 0x2b,
    ERROR_WRONG_VAULT_OWNER = 0x2c,

    /* What the accounts are */
    ERROR_FOREIGN_ACCOUNT = 0x30,
    ERROR_ACCOUNT_KIND = 0x31,
    ERROR_ACCOUNT_SIZE = 0x32,
    ERROR_ADDRESS = 0x33,
    ERROR_NOT_SYSTEM_PROGRAM = 0x34,
    ERROR_SYSVAR = 0x35,
    ERROR_NOT_LOOKUP_TABLE = 0x36,

    /* Things that exist once */
    ERROR_CONFIG_EXISTS = 0x38,
    ERROR_CIRCUIT_EXISTS = 0x39,
    ERROR_HOUSE_EXISTS = 0x3a,
    ERROR_VAULT_EXISTS = 0x3b,
    ERROR_BATCH_EXISTS = 0x3c,
    ERROR_BATCH_NUMBER_TAKEN = 0x3d,
    ERROR_TABLE_EXISTS = 0x3e,

    /* Circuits and proofs */
    ERROR_CIRCUIT_SHAPE = 0x40,
    ERROR_VERIFYING_KEY = 0x41,
    ERROR_BETS_ROOT_RANGE = 0x42,
    ERROR_PUBLIC_INPUT = 0x43,
    ERROR_PROOF_ENCODING = 0x44,
    ERROR_PROOF_REJECTED = 0x45,

    /* Batches */
    ERROR_BET_COUNT = 0x48,
    ERROR_PLAYER_COUNT = 0x49,
    ERROR_VAULT_LANE = 0x4a,
    ERROR_VAULT_ORDER = 0x4b,
    ERROR_VAULT_INDEX_EXHAUSTED = 0x4c,

    /* Money */
    ERROR_AMOUNT_OVERFLOW = 0x50,
    ERROR_PAYER_UNCOVERED = 0x51,
    ERROR_HOUSE_UNCOVERED = 0x52,
    ERROR_WITHDRAWAL_UNCOVERED = 0x53,

    /* Plus the position (0..63) of the vault among the vaults of the instruction */
    ERROR_VAULT_UNCOVERED = 0x100,
};

#endif
