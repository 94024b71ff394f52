/* The accounts that the program owns: their layouts and the checks before one is believed.
 *
 * A PDA is written by its creation only, so an account that this program owns, with the right tag and size,
 * is one that it made at its own address: anybody can have the system program assign an account to this
 * program, but its data is then zero, and no kind has the tag zero. */
#ifndef CROUPIER_STATE_H
#define CROUPIER_STATE_H

#include "solana.h"

enum kind { KIND_CONFIG = 1, KIND_CIRCUIT = 2, KIND_HOUSE = 3, KIND_VAULT = 4, KIND_BATCH = 5, KIND_TABLE = 6 };

enum { STATE_KIND = 0, STATE_BUMP = 1 };

enum { CONFIG_AUTHORITY = 2, CONFIG_SIZE = 34 };

enum { G1_SIZE = 64, G2_SIZE = 128 };

/* A verifying key with one public input; points as in EIP-197, big-endian, the imaginary part first. */
enum {
    VK_ALPHA_G1 = 0,
    VK_BETA_G2 = VK_ALPHA_G1 + G1_SIZE,
    VK_GAMMA_G2 = VK_BETA_G2 + G2_SIZE,
    VK_DELTA_G2 = VK_GAMMA_G2 + G2_SIZE,
    VK_IC0_G1 = VK_DELTA_G2 + G2_SIZE,
    VK_IC1_G1 = VK_IC0_G1 + G1_SIZE,
    VK_SIZE = VK_IC1_G1 + G1_SIZE,
};

enum {
    CIRCUIT_ID = 2,
    CIRCUIT_BETS = 4,
    CIRCUIT_PLAYERS = 6,
    CIRCUIT_VK = 8,
    CIRCUIT_SIZE = CIRCUIT_VK + VK_SIZE,
};

enum { HOUSE_LANE = 2, HOUSE_VAULT_COUNT = 4, HOUSE_HIGHEST_BATCH = 8, HOUSE_SIZE = 16 };

enum { VAULT_LANE = 2, VAULT_INDEX = 4, VAULT_OWNER = 8, VAULT_SIZE = 40 };

enum {
    BATCH_LANE = 2,
    BATCH_NUMBER = 4,
    BATCH_CIRCUIT_ID = 12,
    BATCH_BET_COUNT = 14,
    BATCH_PLAYER_COUNT = 16,
    BATCH_HOUSE_DELTA = 18,
    BATCH_SLOT = 26,
    BATCH_BETS_ROOT = 34,
    BATCH_SIZE = 66,
};

enum { TABLE_LANE = 2, TABLE_NUMBER = 4, TABLE_ADDRESS = 6, TABLE_SIZE = 38 };

static const u8 SEED_CONFIG[] = {'c', 'o', 'n', 'f', 'i', 'g'};
static const u8 SEED_CIRCUIT[] = {'c', 'i', 'r', 'c', 'u', 'i', 't'};
static const u8 SEED_HOUSE[] = {'h', 'o', 'u', 's', 'e'};
static const u8 SEED_VAULT[] = {'v', 'a', 'u', 'l', 't'};
static const u8 SEED_BATCH[] = {'b', 'a', 't', 'c', 'h'};
static const u8 SEED_TABLE[] = {'t', 'a', 'b', 'l', 'e'};

INLINE u64 require_state(const struct call *call, account a, enum kind kind, u64 size) {
    REQUIRE(bytes_equal(account_owner(a), call->program, KEY_SIZE), ERROR_FOREIGN_ACCOUNT);
    REQUIRE(account_data_size(a) > STATE_KIND && account_data(a)[STATE_KIND] == kind, ERROR_ACCOUNT_KIND);
    REQUIRE(account_data_size(a) == size, ERROR_ACCOUNT_SIZE);
    return OK;
}

INLINE u64 require_writable_state(const struct call *call, account a, enum kind kind, u64 size) {
    TRY(require_state(call, a, kind, size));
    REQUIRE(account_is_writable(a), ERROR_NOT_WRITABLE);
    return OK;
}

/* The authority named in `config` has signed. */
static u64 require_authority(const struct call *call, account authority, account config) {
    REQUIRE(account_is_signer(authority), ERROR_MISSING_SIGNATURE);
    TRY(require_state(call, config, KIND_CONFIG, CONFIG_SIZE));
    REQUIRE(bytes_equal(account_key(authority), account_data(config) + CONFIG_AUTHORITY, KEY_SIZE),
            ERROR_WRONG_AUTHORITY);
    return OK;
}

static u64 require_payer(account payer, account system) {
    REQUIRE(account_is_signer(payer), ERROR_MISSING_SIGNATURE);
    REQUIRE(account_is_writable(payer), ERROR_NOT_WRITABLE);
    REQUIRE(bytes_equal(account_key(system), SYSTEM_PROGRAM, KEY_SIZE), ERROR_NOT_SYSTEM_PROGRAM);
    return OK;
}

INLINE u8 *begin_state(const struct new_account *new, enum kind kind) {
    u8 *data = account_data(new->target);
    data[STATE_KIND] = kind;
    data[STATE_BUMP] = new->bump;
    return data;
}

#endif
