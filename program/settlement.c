/* Croupier's settlement program: it holds the money of players and houses, and moves it only as a proven
 * batch of bets says, each batch once.
 *
 * It must never move lamports without the authority's signature, create or destroy any, settle a batch
 * number of a lane twice, or take the caller's word for an account, an amount or a public input.
 *
 * One translation unit, compiled by `program/build.py` for a machine without a 32-bit ALU, floating point,
 * signed division or writable globals; functions take at most five arguments and frames 4096 bytes. */
#include "commitment.h"
#include "errors.h"
#include "groth16.h"
#include "solana.h"
#include "state.h"

enum opcode {
    OPCODE_INITIALISE = 0,
    OPCODE_REGISTER_CIRCUIT = 1,
    OPCODE_OPEN_HOUSE = 2,
    OPCODE_OPEN_VAULT = 3,
    OPCODE_WITHDRAW = 4,
    OPCODE_SETTLE = 5,
    OPCODE_REGISTER_TABLE = 6,
    OPCODE_WITHDRAW_BANKROLL = 7,
};

enum { OPCODE_SIZE = 1 };

#define SEED(bytes) ((struct slice){(bytes), sizeof(bytes)})
#define SEED_OF(start, size) ((struct slice){(start), (size)})

static u64 require_shape(const struct call *call, u64 account_count, u64 data_size) {
    REQUIRE(call->account_count == account_count, ERROR_ACCOUNT_COUNT);
    REQUIRE(call->data_size == data_size, ERROR_DATA_SIZE);
    return OK;
}

/* ---- initialise ---- */

/* BPFLoaderUpgradeab1e11111111111111111111111 */
static const u8 UPGRADEABLE_LOADER[KEY_SIZE] = {
    0x02, 0xa8, 0xf6, 0x91, 0x4e, 0x88, 0xa1, 0xb0, 0xe2, 0x10, 0x15, 0x3e, 0xf7, 0x63, 0xae, 0x2b,
    0x00, 0xc2, 0xb9, 0x3d, 0x16, 0xc1, 0x24, 0xd2, 0xc0, 0x53, 0x7a, 0x10, 0x04, 0x80, 0x00, 0x00,
};

/* UpgradeableLoaderState::ProgramData { slot: u64, upgrade_authority_address: Option<Pubkey> }, bincode */
enum {
    PROGRAMDATA_VARIANT = 3,
    PROGRAMDATA_HAS_AUTHORITY = 12,
    PROGRAMDATA_AUTHORITY = 13,
    PROGRAMDATA_HEADER_SIZE = 45,
};

static u64 require_upgrade_authority(const struct call *call, account upgrade_authority, account programdata) {
    struct slice seeds[1] = {SEED_OF(call->program, KEY_SIZE)};
    u8 address[KEY_SIZE];
    u8 bump;
    REQUIRE(account_is_signer(upgrade_authority), ERROR_MISSING_SIGNATURE);
    REQUIRE(sol_try_find_program_address(seeds, 1, UPGRADEABLE_LOADER, address, &bump) == 0, ERROR_ADDRESS);
    REQUIRE(bytes_equal(address, account_key(programdata), KEY_SIZE), ERROR_ADDRESS);
    REQUIRE(bytes_equal(account_owner(programdata), UPGRADEABLE_LOADER, KEY_SIZE), ERROR_FOREIGN_ACCOUNT);
    REQUIRE(account_data_size(programdata) >= PROGRAMDATA_HEADER_SIZE, ERROR_ACCOUNT_SIZE);
    const u8 *data = account_data(programdata);
    REQUIRE(load_u32(data) == PROGRAMDATA_VARIANT, ERROR_ACCOUNT_KIND);
    REQUIRE(data[PROGRAMDATA_HAS_AUTHORITY] == 1, ERROR_NOT_UPGRADE_AUTHORITY);
    REQUIRE(bytes_equal(data + PROGRAMDATA_AUTHORITY, account_key(upgrade_authority), KEY_SIZE),
            ERROR_NOT_UPGRADE_AUTHORITY);
    return OK;
}

/* Names the authority, once. Only the program's upgrade authority may, lest whoever sees the deployment first
 * takes the program. */
static u64 initialise(const struct call *call) {
    enum { DATA_AUTHORITY = OPCODE_SIZE, DATA_SIZE = DATA_AUTHORITY + KEY_SIZE };
    TRY(require_shape(call, 5, DATA_SIZE));
    account payer = call->accounts[0];
    account upgrade_authority = call->accounts[1];
    account config = call->accounts[2];
    account programdata = call->accounts[3];
    account system = call->accounts[4];
    TRY(require_distinct_accounts_but(call, 1)); /* the upgrade authority may pay */
    TRY(require_payer(payer, system));
    TRY(require_upgrade_authority(call, upgrade_authority, programdata));

    struct new_account new = {.target = config, .seeds = {SEED(SEED_CONFIG)}, .seed_count = 1};
    TRY(claim_address(call, &new, ERROR_CONFIG_EXISTS));
    TRY(create_account(call, &new, payer, CONFIG_SIZE));
    sol_memcpy_(begin_state(&new, KIND_CONFIG) + CONFIG_AUTHORITY, call->data + DATA_AUTHORITY, KEY_SIZE);
    return OK;
}

/* ---- register_circuit ---- */

static u64 register_circuit(const struct call *call) {
    enum {
        DATA_CIRCUIT_ID = OPCODE_SIZE,
        DATA_BETS = DATA_CIRCUIT_ID + 2,
        DATA_PLAYERS = DATA_BETS + 2,
        DATA_VK = DATA_PLAYERS + 2,
        DATA_SIZE = DATA_VK + VK_SIZE,
    };
    TRY(require_shape(call, 4, DATA_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account circuit = call->accounts[2];
    account system = call->accounts[3];
    TRY(require_distinct_accounts(call));
    TRY(require_payer(authority, system));
    TRY(require_authority(call, authority, config));

    u16 bets = load_u16(call->data + DATA_BETS);
    u16 players = load_u16(call->data + DATA_PLAYERS);
    REQUIRE(bets >= 1 && players >= 1 && players <= PLAYERS_MAX, ERROR_CIRCUIT_SHAPE);

    struct new_account new = {
        .target = circuit,
        .seeds = {SEED(SEED_CIRCUIT), SEED_OF(call->data + DATA_CIRCUIT_ID, 2)},
        .seed_count = 2,
    };
    TRY(claim_address(call, &new, ERROR_CIRCUIT_EXISTS));
    TRY(require_valid_verifying_key(call->data + DATA_VK));
    TRY(create_account(call, &new, authority, CIRCUIT_SIZE));
    /* id, bets, players and key stand in the account as they do in the instruction */
    sol_memcpy_(begin_state(&new, KIND_CIRCUIT) + CIRCUIT_ID, call->data + DATA_CIRCUIT_ID,
                CIRCUIT_SIZE - CIRCUIT_ID);
    return OK;
}

/* ---- open_house ---- */

static u64 open_house(const struct call *call) {
    enum { DATA_LANE = OPCODE_SIZE, DATA_SIZE = DATA_LANE + 2 };
    TRY(require_shape(call, 4, DATA_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account house = call->accounts[2];
    account system = call->accounts[3];
    TRY(require_distinct_accounts(call));
    TRY(require_payer(authority, system));
    TRY(require_authority(call, authority, config));

    struct new_account new = {
        .target = house,
        .seeds = {SEED(SEED_HOUSE), SEED_OF(call->data + DATA_LANE, 2)},
        .seed_count = 2,
    };
    TRY(claim_address(call, &new, ERROR_HOUSE_EXISTS));
    TRY(create_account(call, &new, authority, HOUSE_SIZE));
    sol_memcpy_(begin_state(&new, KIND_HOUSE) + HOUSE_LANE, call->data + DATA_LANE, 2);
    return OK;
}

/* ---- open_vault ---- */

/* Indices start at 1: the circuit writes 0 for a slot without a vault. */
static u64 open_vault(const struct call *call) {
    TRY(require_shape(call, 6, OPCODE_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account house = call->accounts[2];
    account vault = call->accounts[3];
    account owner = call->accounts[4];
    account system = call->accounts[5];
    TRY(require_distinct_accounts_but(call, 4)); /* the authority may own a vault */
    TRY(require_payer(authority, system));
    TRY(require_authority(call, authority, config));
    TRY(require_writable_state(call, house, KIND_HOUSE, HOUSE_SIZE));

    u8 *house_data = account_data(house);
    u32 index = load_u32(house_data + HOUSE_VAULT_COUNT) + 1;
    REQUIRE(index != 0, ERROR_VAULT_INDEX_EXHAUSTED);

    struct new_account new = {
        .target = vault,
        .seeds = {SEED(SEED_VAULT), SEED_OF(house_data + HOUSE_LANE, 2), SEED_OF(account_key(owner), KEY_SIZE)},
        .seed_count = 3,
    };
    TRY(claim_address(call, &new, ERROR_VAULT_EXISTS));
    TRY(create_account(call, &new, authority, VAULT_SIZE));
    u8 *data = begin_state(&new, KIND_VAULT);
    store_u16(data + VAULT_LANE, load_u16(house_data + HOUSE_LANE));
    store_u32(data + VAULT_INDEX, index);
    sol_memcpy_(data + VAULT_OWNER, account_key(owner), KEY_SIZE);
    store_u32(house_data + HOUSE_VAULT_COUNT, index);
    return OK;
}

/* ---- register_table ---- */

/* AddressLookupTab1e1111111111111111111111111 */
static const u8 LOOKUP_TABLE_PROGRAM[KEY_SIZE] = {
    0x02, 0x77, 0xa6, 0xaf, 0x97, 0x33, 0x9b, 0x7a, 0xc8, 0x8d, 0x18, 0x92, 0xc9, 0x04, 0x46, 0xf5,
    0x00, 0x02, 0x30, 0x92, 0x66, 0xf6, 0x2e, 0x53, 0xc1, 0x18, 0x24, 0x49, 0x82, 0x00, 0x00, 0x00,
};

/* Notes where one of a lane's address lookup tables stands, for whoever builds its settlements. What the table
 * lists is of no interest here: a settlement's accounts are judged by themselves, however they were named. */
static u64 register_table(const struct call *call) {
    enum { DATA_NUMBER = OPCODE_SIZE, DATA_SIZE = DATA_NUMBER + 2 };
    TRY(require_shape(call, 6, DATA_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account house = call->accounts[2];
    account entry = call->accounts[3];
    account table = call->accounts[4];
    account system = call->accounts[5];
    TRY(require_distinct_accounts(call));
    TRY(require_payer(authority, system));
    TRY(require_authority(call, authority, config));
    TRY(require_state(call, house, KIND_HOUSE, HOUSE_SIZE));
    REQUIRE(bytes_equal(account_owner(table), LOOKUP_TABLE_PROGRAM, KEY_SIZE), ERROR_NOT_LOOKUP_TABLE);

    struct new_account new = {
        .target = entry,
        .seeds = {SEED(SEED_TABLE), SEED_OF(account_data(house) + HOUSE_LANE, 2),
                  SEED_OF(call->data + DATA_NUMBER, 2)},
        .seed_count = 3,
    };
    TRY(claim_address(call, &new, ERROR_TABLE_EXISTS));
    TRY(create_account(call, &new, authority, TABLE_SIZE));
    u8 *data = begin_state(&new, KIND_TABLE);
    store_u16(data + TABLE_LANE, load_u16(account_data(house) + HOUSE_LANE));
    store_u16(data + TABLE_NUMBER, load_u16(call->data + DATA_NUMBER));
    sol_memcpy_(data + TABLE_ADDRESS, account_key(table), KEY_SIZE);
    return OK;
}

/* ---- Money ---- */

/* Whether `holder` keeps at least `minimum` lamports when `delta` is added. */
static bool covers(account holder, i64 delta, u64 minimum) {
    u64 held = *account_lamports(holder);
    u64 left;
    if (delta < 0) {
        u64 cost = 0 - (u64)delta;
        if (held < cost) return 0;
        left = held - cost;
    } else {
        left = held + (u64)delta;
        if (left < held) return 0;
    }
    return left >= minimum;
}

/* The caller has checked that `holder` covers it, so the sum cannot wrap. */
INLINE void add_lamports(account holder, i64 delta) { *account_lamports(holder) += (u64)delta; }

/* Moves lamports from an account of `size` bytes, which keeps its rent minimum. */
static u64 pay_out(account from, u64 size, account to, u64 lamports) {
    u64 minimum;
    TRY(rent_minimum(size, &minimum));
    REQUIRE(lamports < TWO_POW_63, ERROR_AMOUNT_OVERFLOW);
    REQUIRE(covers(from, -(i64)lamports, minimum), ERROR_WITHDRAWAL_UNCOVERED);
    REQUIRE(covers(to, (i64)lamports, 0), ERROR_AMOUNT_OVERFLOW);
    add_lamports(from, -(i64)lamports);
    add_lamports(to, (i64)lamports);
    return OK;
}

/* ---- withdraw ---- */

static u64 withdraw(const struct call *call) {
    enum { DATA_LAMPORTS = OPCODE_SIZE, DATA_SIZE = DATA_LAMPORTS + 8 };
    TRY(require_shape(call, 4, DATA_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account owner = call->accounts[2];
    account vault = call->accounts[3];
    TRY(require_distinct_accounts_but(call, 2)); /* as in open_vault */
    TRY(require_authority(call, authority, config));
    REQUIRE(account_is_signer(owner), ERROR_MISSING_SIGNATURE);
    REQUIRE(account_is_writable(owner), ERROR_NOT_WRITABLE);
    TRY(require_writable_state(call, vault, KIND_VAULT, VAULT_SIZE));
    REQUIRE(bytes_equal(account_data(vault) + VAULT_OWNER, account_key(owner), KEY_SIZE),
            ERROR_WRONG_VAULT_OWNER);
    return pay_out(vault, VAULT_SIZE, owner, load_u64(call->data + DATA_LAMPORTS));
}

/* ---- withdraw_bankroll ---- */

static u64 withdraw_bankroll(const struct call *call) {
    enum { DATA_LAMPORTS = OPCODE_SIZE, DATA_SIZE = DATA_LAMPORTS + 8 };
    TRY(require_shape(call, 3, DATA_SIZE));
    account authority = call->accounts[0];
    account config = call->accounts[1];
    account house = call->accounts[2];
    TRY(require_distinct_accounts(call));
    TRY(require_authority(call, authority, config));
    REQUIRE(account_is_writable(authority), ERROR_NOT_WRITABLE);
    TRY(require_writable_state(call, house, KIND_HOUSE, HOUSE_SIZE));
    return pay_out(house, HOUSE_SIZE, authority, load_u64(call->data + DATA_LAMPORTS));
}

/* ---- settle ---- */

enum {
    SETTLE_AUTHORITY = 0,
    SETTLE_CONFIG = 1,
    SETTLE_CIRCUIT = 2,
    SETTLE_HOUSE = 3,
    SETTLE_BATCH = 4,
    SETTLE_SYSTEM = 5,
    SETTLE_VAULTS = 6,
};

enum {
    SETTLE_NUMBER = OPCODE_SIZE,
    SETTLE_BET_COUNT = SETTLE_NUMBER + 8,
    SETTLE_BETS_ROOT = SETTLE_BET_COUNT + 2,
    SETTLE_PROOF = SETTLE_BETS_ROOT + FIELD_SIZE,
    SETTLE_DELTAS = SETTLE_PROOF + PROOF_SIZE,
    DELTA_SIZE = 8,
};

INLINE i64 delta_at(const struct statement *statement, u64 position) {
    return (i64)load_u64(statement->deltas + DELTA_SIZE * position);
}

/* Vaults of this lane, writable and, by strictly increasing indices, each once. */
static u64 require_vaults(const struct call *call, const struct statement *statement) {
    u32 previous_index = 0;
    for (u64 i = 0; i < statement->vault_count; i++) {
        account vault = statement->vaults[i];
        TRY(require_writable_state(call, vault, KIND_VAULT, VAULT_SIZE));
        REQUIRE(load_u16(account_data(vault) + VAULT_LANE) == statement->lane, ERROR_VAULT_LANE);
        u32 index = load_u32(account_data(vault) + VAULT_INDEX);
        REQUIRE(index > previous_index, ERROR_VAULT_ORDER);
        previous_index = index;
    }
    return OK;
}

/* The house takes the opposite of the players' sum, so money is conserved whatever the deltas are. Partial sums
 * are held to the range of i64 too: they leave it only with amounts beyond all lamports in existence. */
static u64 sum_house_delta(struct statement *statement) {
    i64 sum = 0;
    for (u64 i = 0; i < statement->vault_count; i++) {
        REQUIRE(!__builtin_add_overflow(sum, delta_at(statement, i), &sum), ERROR_AMOUNT_OVERFLOW);
    }
    REQUIRE((u64)sum != TWO_POW_63, ERROR_AMOUNT_OVERFLOW); /* its opposite is no i64 */
    statement->house_delta = -sum;
    return OK;
}

static u64 require_cover(const struct statement *statement, account house) {
    u64 minimum;
    TRY(rent_minimum(VAULT_SIZE, &minimum));
    for (u64 i = 0; i < statement->vault_count; i++) {
        REQUIRE(covers(statement->vaults[i], delta_at(statement, i), minimum), ERROR_VAULT_UNCOVERED + i);
    }
    TRY(rent_minimum(HOUSE_SIZE, &minimum));
    REQUIRE(covers(house, statement->house_delta, minimum), ERROR_HOUSE_UNCOVERED);
    return OK;
}

/* What to say of a batch number that has been settled: whether it was by these bets or by others. */
static u64 settled_error(const struct call *call, const struct statement *statement) {
    account record = call->accounts[SETTLE_BATCH];
    if (require_state(call, record, KIND_BATCH, BATCH_SIZE) != OK) return ERROR_BATCH_EXISTS;
    bool is_this = bytes_equal(account_data(record) + BATCH_BETS_ROOT, statement->bets_root, FIELD_SIZE);
    return is_this ? ERROR_BATCH_EXISTS : ERROR_BATCH_NUMBER_TAKEN;
}

static void write_record(const struct new_account *new, const struct statement *statement, account circuit,
                         u64 slot) {
    u8 *data = begin_state(new, KIND_BATCH);
    store_u16(data + BATCH_LANE, statement->lane);
    store_u64(data + BATCH_NUMBER, statement->number);
    store_u16(data + BATCH_CIRCUIT_ID, load_u16(account_data(circuit) + CIRCUIT_ID));
    store_u16(data + BATCH_BET_COUNT, statement->bet_count);
    store_u16(data + BATCH_PLAYER_COUNT, statement->vault_count);
    store_u64(data + BATCH_HOUSE_DELTA, (u64)statement->house_delta);
    store_u64(data + BATCH_SLOT, slot);
    sol_memcpy_(data + BATCH_BETS_ROOT, statement->bets_root, FIELD_SIZE);
}

static void move_lamports(const struct statement *statement, account house) {
    for (u64 i = 0; i < statement->vault_count; i++) {
        add_lamports(statement->vaults[i], delta_at(statement, i));
    }
    add_lamports(house, statement->house_delta);
}

/* Checks run from cheap to dear; nothing is written before all have passed. That the batch exists is
 * noticed before cover is judged: a repeat of a settled batch must say so, though its own losses may have
 * emptied a vault. */
static u64 settle(const struct call *call) {
    REQUIRE(call->account_count > SETTLE_VAULTS, ERROR_ACCOUNT_COUNT);
    u64 vault_count = call->account_count - SETTLE_VAULTS;
    REQUIRE(call->data_size == SETTLE_DELTAS + DELTA_SIZE * vault_count, ERROR_DATA_SIZE);
    account authority = call->accounts[SETTLE_AUTHORITY];
    account circuit = call->accounts[SETTLE_CIRCUIT];
    account house = call->accounts[SETTLE_HOUSE];
    TRY(require_distinct_accounts(call));
    TRY(require_payer(authority, call->accounts[SETTLE_SYSTEM]));
    TRY(require_authority(call, authority, call->accounts[SETTLE_CONFIG]));
    TRY(require_state(call, circuit, KIND_CIRCUIT, CIRCUIT_SIZE));
    TRY(require_writable_state(call, house, KIND_HOUSE, HOUSE_SIZE));

    struct statement statement;
    statement.number = load_u64(call->data + SETTLE_NUMBER);
    statement.lane = load_u16(account_data(house) + HOUSE_LANE);
    statement.bet_count = load_u16(call->data + SETTLE_BET_COUNT);
    statement.players = load_u16(account_data(circuit) + CIRCUIT_PLAYERS);
    statement.vault_count = vault_count;
    statement.bets_root = call->data + SETTLE_BETS_ROOT;
    statement.deltas = call->data + SETTLE_DELTAS;
    statement.vaults = call->accounts + SETTLE_VAULTS;
    REQUIRE(vault_count <= statement.players, ERROR_PLAYER_COUNT);
    REQUIRE(statement.bet_count >= 1 && statement.bet_count <= load_u16(account_data(circuit) + CIRCUIT_BETS),
            ERROR_BET_COUNT);
    REQUIRE(is_scalar(statement.bets_root), ERROR_BETS_ROOT_RANGE);
    TRY(require_vaults(call, &statement));

    struct new_account record = {
        .target = call->accounts[SETTLE_BATCH],
        .seeds = {SEED(SEED_BATCH), SEED_OF(account_data(house) + HOUSE_LANE, 2),
                  SEED_OF(call->data + SETTLE_NUMBER, 8)},
        .seed_count = 3,
    };
    TRY(claim_address(call, &record, settled_error(call, &statement)));
    TRY(sum_house_delta(&statement));
    TRY(require_cover(&statement, house));
    u64 slot;
    TRY(current_slot(&slot));

    u8 input[FIELD_SIZE];
    TRY(public_input(&statement, input)); /* a Poseidon hash, hence < r */
    TRY(require_valid_proof(account_data(circuit) + CIRCUIT_VK, call->data + SETTLE_PROOF, input));

    TRY(create_account(call, &record, authority, BATCH_SIZE));
    write_record(&record, &statement, circuit, slot);
    move_lamports(&statement, house);
    u8 *highest_batch = account_data(house) + HOUSE_HIGHEST_BATCH;
    if (statement.number > load_u64(highest_batch)) store_u64(highest_batch, statement.number);
    return OK;
}

/* ---- Entry ---- */

u64 entrypoint(u8 *input) {
    struct call call;
    TRY(parse_call(input, &call));
    REQUIRE(call.data_size >= OPCODE_SIZE, ERROR_DATA_SIZE);
    switch (call.data[0]) {
    case OPCODE_INITIALISE: return initialise(&call);
    case OPCODE_REGISTER_CIRCUIT: return register_circuit(&call);
    case OPCODE_OPEN_HOUSE: return open_house(&call);
    case OPCODE_OPEN_VAULT: return open_vault(&call);
    case OPCODE_WITHDRAW: return withdraw(&call);
    case OPCODE_SETTLE: return settle(&call);
    case OPCODE_REGISTER_TABLE: return register_table(&call);
    case OPCODE_WITHDRAW_BANKROLL: return withdraw_bankroll(&call);
    default: return ERROR_UNKNOWN_INSTRUCTION;
    }
}
